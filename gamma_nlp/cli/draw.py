"""``gamma-nlp draw``: the residual stream of a model as a picture, its gains as dots."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma_nlp.cli import planned
from gamma_nlp.cli.common import DTYPES, add_command, add_trust, need_transformers, note
from gamma_nlp.errors import GammaError, need_installed

if TYPE_CHECKING:
    from torch import nn

    from gamma_nlp.draw.drawing import Drawing

EXAMPLES = """\
  gamma-nlp draw bert-base-uncased
  gamma-nlp draw bert-base-uncased gpt2 google/gemma-2-2b -o stream.svg
  gamma-nlp draw path/to/checkpoint --weights --policy all --lr 3e-4 --steps 10000"""

ABOUT = """\
Writes a page that works offline; -o model.svg and -o model.png write a picture, which may show
several models side by side."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(commands, "draw", run=run, examples=EXAMPLES, description=ABOUT)
    parser.add_argument(
        "models", metavar="MODEL", nargs="+",
        help="hub name, local folder, or config.json (no weights needed)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path,
        help="a name that ends in .html, .svg or .png (MODEL.html in this folder)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", action="store_true", help="load the weights too, for the size of each gain"
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="auto",
        help="dtype of the parameters in training (auto: what the config says)",
    )  # fmt: skip
    add_trust(parser)
    planned.add_policy_arguments(parser)
    planned.add_plan_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw the models that were named, and say where."""
    need_transformers("draw")
    from gamma_nlp.draw import drawing
    from gamma_nlp.hf.hub import hush

    target = arguments.output or Path(f"{_short(arguments.models[0])}.html")
    _check(target, arguments)
    policy = planned.chosen_policy(arguments)
    rates = planned.learning_rates(arguments)
    hush()
    drawn = []
    for name in arguments.models:
        model = _load(name, arguments)
        one = drawing.draw(model)
        settings = planned.settings_for(arguments, model, policy, one.table)
        doses = planned.doses(one.table, settings, rates)[0] if rates else None
        coefficients = {gain.name: settings[gain.name].coefficient for gain in one.table}
        drawn.append(one.with_decay(coefficients, doses, _about(arguments, policy.name)))
    drawing.save(drawn, target)
    for one in drawn:
        print(_summary(one))
        for text in one.notes() if target.suffix.lower() != ".html" else ():  # a page says it
            note(f"{one.table.model}: {text}")
    size = target.stat().st_size / 1000
    print(f"written: {target} ({size:.0f} kB)")
    return 0


def _short(name: str) -> str:
    """Return the last part of a model's name: of a config, the folder that it is in."""
    path = Path(name)
    if path.suffix == ".json":
        path = path.parent if path.name == "config.json" else path.with_suffix("")
    return path.name or path.resolve().name or "model"


def _check(target: Path, arguments: argparse.Namespace) -> None:
    """Refuse an output that cannot or must not be written, before any work is done.

    Raises:
        GammaError: Its name says no format, its folder is not there, or it is a file that this
            command has not written.
    """
    from gamma_nlp.draw.drawing import MARKS, format_of
    from gamma_nlp.files.output import check_file

    kind = format_of(target)
    if kind == ".html" and len(arguments.models) > 1:
        raise GammaError("a page shows one model; for several add -o FILE.svg or -o FILE.png")
    if kind == ".png":
        need_installed(("matplotlib",), "plot", "gamma-nlp draw -o FILE.png needs")
    if not target.parent.is_dir():
        raise GammaError(f"-o {target}: there is no folder {target.parent}; make it first")
    check_file(target, MARKS, "gamma-nlp draw")


def _load(name: str, arguments: argparse.Namespace) -> nn.Module:
    import torch

    from gamma_nlp.hf.models import load_model, load_with_weights

    load = load_with_weights if arguments.weights else load_model
    try:
        model = load(name, trust_remote_code=arguments.trust_remote_code)
    except GammaError as error:  # there is no such option here
        text = str(error).replace(
            "add --random-weights to check the architecture", "leave out --weights"
        )
        raise GammaError(text) from error
    return model if arguments.dtype == "auto" else model.to(getattr(torch, arguments.dtype))


def _about(arguments: argparse.Namespace, policy: str) -> str:
    text = f"Coefficients: policy {policy}, weight decay {arguments.weight_decay:g}."
    if arguments.steps is not None:
        text += f" Doses: {planned.told(arguments)}."
    return text


def _summary(drawing: Drawing) -> str:
    counts = drawing.counts()
    number = sum(counts.values())
    parts = ", ".join(f"{count} {category}" for category, count in counts.items())
    text = f"{drawing.table.model}: {number} gain{'' if number == 1 else 's'}"
    text += f" ({parts})" if parts else ""
    if unused := drawing.unused():
        text += f"; {len(unused)} not drawn, as the forward pass never reaches them"
    return text
