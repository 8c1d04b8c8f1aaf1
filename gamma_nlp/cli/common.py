"""What several commands share: their parser, their options, and loading the model they name."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gamma_nlp.errors import need_installed
from gamma_nlp.tasks.run.parser import Parser

if TYPE_CHECKING:
    from torch import nn

    from gamma_nlp.gains.table import GainTable

T = TypeVar("T")

COMMANDS = {
    "table": "What is each gain of a model, and how far will decay pull it?",
    "audit": "What does a trainer's rule decay or spare by accident?",
    "probe": "Do the categories hold on the model's own weights?",
    "plan": "What will a run be under an engine: groups, memory, refusals?",
    "export": "How do I tell another engine what a policy decides?",
    "draw": "Where does each gain sit, as a picture?",
    "diagnose": "How did the gains of a run grow, and which stand out?",
    "coverage": "Which model types of transformers does this work for?",
    "prepare": "How do I turn parallel text into training data?",
    "translate": "How does a trained model translate this text?",
    "score": "How good is a translation, in BLEU and chrF?",
    "study": "Does the choice change the result? (trains arms x doses x seeds)",
    "report": "What did a study of policies find, and how sure is it?",
    "demo": "What does decay do to gains in training? (trains tiny models)",
}
"""The commands, and the question that each answers: a file here for each."""

CONTRADICTED = 1
"""The exit code of a command whose answer is no."""

DTYPES = ("auto", "float32", "bfloat16", "float16")


def add_command(
    commands: Any,
    name: str,
    *,
    run: Callable[[argparse.Namespace], int],
    examples: str,
    description: str = "",
) -> Parser:
    """Add a command to the subparsers of ``gamma-nlp``.

    Args:
        commands: The subparsers.
        name: The command, one of :data:`COMMANDS`.
        run: Takes the parsed arguments and returns the exit code.
        examples: Command lines, one per line; they end the command's help.
        description: What else its help says.
    """
    parser: Parser = commands.add_parser(
        name,
        description=f"{COMMANDS[name]}\n\n{description}".rstrip(),
        epilog=f"examples:\n{examples}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_model_arguments(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Add MODEL, and how to build it and place its gains."""
    parser.add_argument(
        "model", metavar="MODEL", nargs=nargs,
        help="hub name, local folder, or config.json (no weights needed)",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=("auto", "table", "graph"), default="auto",
        help="where categories come from: name tables, the graph of a forward pass, or whichever "
        "knows the model (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", choices=DTYPES, default="auto",
        help="dtype of the parameters in training (auto: what the config says)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_trust(parser)


def add_trust(parser: argparse.ArgumentParser, what: str = "MODEL") -> None:
    """Add the option that lets a model's own Python files run."""
    parser.add_argument(
        "--trust-remote-code", action="store_true", help=f"run the Python files that {what} brings"
    )


def add_sweep_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the options of a sweep over model types: which, how many at a time, for how long."""
    from gamma_nlp import workers
    from gamma_nlp.check.sweep import KINDS

    parser.add_argument("--types", metavar="A,B", help="these model types only")
    parser.add_argument(
        "--kind", choices=KINDS, default="all",
        help="types that read text alone, the others (images, audio, series), or all (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=workers.default_jobs(),
        help="models to build at a time, each in its own process (2, or 1 on one CPU)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=workers.SECONDS,
        help="time limit of a model class (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--resume", metavar="FILE", type=Path,
        help="keep the answers in FILE, and go on from there if it has some",
    )  # fmt: skip


def sweep_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a sweep that its command line gives."""
    return {
        "types": _chosen_types(arguments.types),
        "seconds": arguments.seconds,
        "jobs": arguments.jobs,
        "kind": arguments.kind,
        "resume": arguments.resume,
    }


def with_progress(results: Iterator[T], every: int = 25) -> Iterator[T]:
    """Tell on a terminal how many results there are, where they themselves go elsewhere."""
    start = time.monotonic()
    for count, result in enumerate(results, 1):
        yield result
        if count % every == 0 and sys.stderr.isatty() and not sys.stdout.isatty():
            print(f"{count} after {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def _chosen_types(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def need_transformers(command: str) -> None:
    """Check the extra ``hf`` before a command does anything.

    Raises:
        MissingExtra: Names what is missing.
    """
    need_installed(("transformers", "accelerate"), "hf", f"gamma-nlp {command} needs")


def load_table(arguments: argparse.Namespace) -> tuple[nn.Module, GainTable]:
    """Build the model that was named, from its config alone, and place its gains."""
    from gamma_nlp.gains.placement import categorize
    from gamma_nlp.hf.hub import hush
    from gamma_nlp.hf.models import load_model

    hush()
    model = load_model(arguments.model, trust_remote_code=arguments.trust_remote_code)
    if arguments.dtype != "auto":
        import torch

        model.to(getattr(torch, arguments.dtype))
    return model, categorize(model, method=arguments.method)


def print_json(data: Any) -> None:
    """Print data as indented JSON; what JSON does not know, as text."""
    print(json.dumps(data, indent=2, default=str))


def note(text: str) -> None:
    """Print a note, which is not an error, to standard error."""
    print(f"note: {text}", file=sys.stderr, flush=True)
