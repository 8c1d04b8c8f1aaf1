"""What the benchmarks share: their options, the rows they print, and the goals they judge."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.parser import Parser

SIZES = ["num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads"]
SIZES += ["num_key_value_heads", "vocab_size"]
TINY = (4, 32, 64, 2, 1, 99)


@dataclass
class Row:
    """One line of the report; ``passed`` is None where nothing is judged."""

    what: str
    measured: str
    goal: str
    passed: bool | None
    detail: str
    figures: dict[str, Any]

    def __str__(self) -> str:
        verdict = {True: "pass", False: "FAIL", None: "-"}[self.passed]
        head = f"{self.what:<31}  {self.measured:<11}  {self.goal:<7}  {verdict:<4}"
        return f"{head}  {self.detail}".rstrip()


Bench = Callable[[argparse.Namespace], Iterator[Row]]


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--quick`` that prints the description as it stands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=description, formatter_class=raw)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; nothing is judged")
    return parser


def table_parser(
    description: str | None, benches: Mapping[str, Bench], *, device: bool = True
) -> argparse.ArgumentParser:
    """Return a parser with what :func:`report` needs to know.

    Args:
        description: The benchmark's docstring.
        benches: Its parts.
        device: Whether the user chooses device and threads.
    """
    parser = new_parser(description)
    add = parser.add_argument
    add("part", nargs="?", default="all", choices=(*benches, "all"))
    add("--json", type=Path, metavar="FILE", help="write every measured time to FILE")
    if device:
        add("--threads", type=int, help="CPU threads; default: torch's choice")
        add("--device", choices=("cpu", "cuda"), help="default: cuda if there is one")
    return parser


def set_device(options: argparse.Namespace) -> None:
    """Fill in ``device``, and ``cuda`` with whether it is a GPU."""
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    options.cuda = options.device == "cuda"


def report(options: argparse.Namespace, benches: Mapping[str, Bench]) -> int:
    """Run the chosen parts, print a line per row, write ``--json``; return the exit code."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    transformers.logging.set_verbosity_error()
    print(environment(options), flush=True)
    rows = []
    try:
        for part in benches if options.part == "all" else [options.part]:
            for row in benches[part](options):
                row.passed = None if options.quick else row.passed
                rows.append(row)
                print(row, flush=True)
    except GammaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        record = {"environment": environment(options), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return int(any(row.passed is False for row in rows))


def environment(options: argparse.Namespace) -> str:
    cpu = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
    device = torch.cuda.get_device_name() if options.cuda else cpu
    return (
        f"torch {torch.__version__}, transformers {transformers.__version__}, Python "
        f"{platform.python_version()}; {device}, {torch.get_num_threads()} CPU threads"
    )


def build(name: str, quick: bool, sizes: tuple[int, ...], **more: Any) -> Any:
    """Return a transformers model with random weights; ``quick`` limits each size to TINY's."""
    kind = getattr(transformers, name)
    if quick:
        sizes = tuple(map(min, sizes or TINY, TINY))
    return kind(kind.config_class(**dict(zip(SIZES, sizes, strict=False)), **more))


def now() -> float:
    """Return the time in seconds, after all work on a GPU is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], Any]) -> float:
    start = now()
    work()
    return now() - start
