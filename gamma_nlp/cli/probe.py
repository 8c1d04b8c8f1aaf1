"""``gamma-nlp probe``: check every gain's category by experiment, on the model's own weights."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

from gamma_nlp.cli.common import (
    CONTRADICTED,
    add_command,
    add_trust,
    need_transformers,
    print_json,
)
from gamma_nlp.errors import GammaError, listed, panics_are_errors

TOKENS = 8
"""Different tokens that a batch needs."""

EXAMPLES = """\
  gamma-nlp probe path/to/model
  gamma-nlp probe path/to/model --text "A sentence of eight or more quite different words."
  gamma-nlp probe path/to/config.json --random-weights --full"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(
        commands, "probe", run=run, examples=EXAMPLES,
        description="Changes each gain, channel by channel, and watches what moves. Exits with 1\n"
        "if a gain contradicts its category.",
    )  # fmt: skip
    parser.add_argument("model", metavar="MODEL", help="hub name, or local folder with weights")
    parser.add_argument(
        "--method", choices=("auto", "table", "graph"), default="auto",
        help="where the categories to check come from (%(default)s)",
    )  # fmt: skip
    batch = parser.add_mutually_exclusive_group()
    batch.add_argument("--text", help="a batch from this sentence, by the model's own tokenizer")
    batch.add_argument(
        "--inputs", metavar="FILE", help="a batch saved by torch.save: a dict of tensors"
    )
    parser.add_argument(
        "--random-weights", action="store_true",
        help="random weights from the config alone (MODEL may be a config.json)",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="one row per gain")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_trust(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what the experiment shows; return 1 if a gain contradicts its category."""
    need_transformers("probe")
    from gamma_nlp.check.probe.probe import probe
    from gamma_nlp.gains.placement import categorize
    from gamma_nlp.hf.hub import hush
    from gamma_nlp.hf.models import load_with_weights, with_random_weights

    hush()
    load = with_random_weights if arguments.random_weights else load_with_weights
    model = load(arguments.model, trust_remote_code=arguments.trust_remote_code)
    inputs = _inputs(arguments, model)
    try:
        table = categorize(model, inputs, method=arguments.method)
        report = probe(model, inputs, table)
    except GammaError as error:
        if arguments.inputs is None:
            raise
        raise GammaError(f"with --inputs {arguments.inputs}: {error}") from error
    if arguments.json:
        print_json(report.to_json())
    else:
        print(report.text(full=arguments.full))
    return CONTRADICTED if report.verdict == "contradicts" else 0


def _inputs(arguments: argparse.Namespace, model: Any) -> Any:
    if arguments.inputs is not None:
        return _saved(Path(arguments.inputs), model)
    if arguments.text is None:
        return None  # random tokens
    batch = _tokens(arguments)
    if model.config.is_encoder_decoder:
        batch.setdefault("decoder_input_ids", batch["input_ids"])
    return batch


def _saved(path: Path, model: Any) -> dict[str, Any]:
    import torch

    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise GammaError(
            f"--inputs {path}: {what}; name a batch that torch.save(batch, FILE) wrote"
        )
    try:
        batch = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise GammaError(
            f"--inputs {path}: not a batch that torch.load(weights_only=True) reads "
            f"({type(error).__name__}); save a dict of tensors with torch.save"
        ) from error
    names = list(inspect.signature(model.forward).parameters)
    if not isinstance(batch, dict):
        raise GammaError(
            f"--inputs {path}: holds a {type(batch).__name__}, not a dict; save "
            f"{{{model.main_input_name!r}: tensor}}"
        )
    unknown = set() if "kwargs" in names else batch.keys() - names
    if unknown:
        raise GammaError(
            f"--inputs {path}: {type(model).__name__} takes no {listed(sorted(unknown))}; it takes "
            f"{', '.join(names)}"
        )
    return batch


def _tokens(arguments: argparse.Namespace) -> dict[str, Any]:
    from transformers import AutoTokenizer

    try:
        with panics_are_errors():
            tokenizer = AutoTokenizer.from_pretrained(
                arguments.model, trust_remote_code=arguments.trust_remote_code
            )
            batch = dict(tokenizer(arguments.text, return_tensors="pt"))
    except Exception as error:  # one that transformers made up of nothing fails at its first word
        raise GammaError(_no_tokenizer(arguments.model, type(error).__name__)) from error
    if arguments.text.strip() and not batch["input_ids"].numel():  # made up from the config
        raise GammaError(_no_tokenizer(arguments.model, "its vocabulary is empty"))
    different = batch["input_ids"].unique().numel()
    if different < TOKENS:
        raise GammaError(
            f"--text gives {different} different tokens; give a sentence of {TOKENS} or more, so "
            "that no path through the model stays silent"
        )
    return batch


def _no_tokenizer(model: str, why: str) -> str:
    return (
        f"--text: {model} has no tokenizer that loads ({why}); leave --text out for random "
        "inputs, or give --inputs FILE"
    )
