"""What decay does to weights before a norm: it sets their effective learning rate, no more.

    python recipes/effective_lr/run.py --data CIFAR10_FOLDER --output runs/effective-lr

Trains a 4-layer ConvNet with batch norm and a small Transformer with q/k norm on CIFAR-10 over a
grid of learning rates and decays, under SGD, Adam with coupled L2 and AdamW, each plain and with
UnitNorm. FOLDER holds CIFAR-10's python batches, or the subset of PNG files; the first 10,000
training and 1,000 test images are used. It defaults to cifar10_subset below GAMMA_NLP_DATA.

Rates are constant, and decay is on scale-invariant weights alone, so that it can do nothing but set
their norms. Prints how far the test error spreads over the decays (SGD: 3 seeds, others 2), and the
exponents of norms and effective rates at equilibrium beside those of theory: of a simulated loss,
which they fit, and of the trainings, whose gradients change in size from cell to cell. Expect a
spread of about 16 points under plain SGD and of 1 with UnitNorm. Writes results.json, a heat map
for each optimizer and norms.png into the output folder.

Takes about 15 minutes on two cores (28 minutes of CPU time). A run that was stopped goes on when it
is started again with the same output folder. ``--smoke`` takes seconds, on made-up images and a
tiny grid.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gamma_nlp.errors import GammaError

MODULES = "recipes.effective_lr"


def main(argv: Sequence[str]) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--data", help="folder of CIFAR-10; default: cifar10_subset below GAMMA_NLP_DATA")
    add("--output", type=Path, default=Path("runs/effective-lr"), help="default: %(default)s")
    add("--jobs", type=int, help="worker processes, one thread each; default: 2")
    add("--smoke", action="store_true", help="made-up images, a tiny grid, seconds")
    options = parser.parse_args(argv)
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
    from recipes.common.grid_runner import run_cells
    from recipes.common.images import cifar10, data_folder
    from recipes.effective_lr import report as report
    from recipes.effective_lr.equilibrium import TURNOVERS
    from recipes.effective_lr.grid import FULL, SMOKE
    from recipes.effective_lr.plots import plot_heat_maps, plot_norms

    start = time.monotonic()
    folder, settings, sweeps = None, {"train": 100, "test": 50, "batch": 25}, SMOKE
    if not options.smoke:
        folder = str(data_folder(options.data, "cifar10_subset", "--data").resolve())
        settings, sweeps = {"train": 10_000, "test": 1_000, "batch": 50}, FULL
        cifar10(folder)  # what is wrong with it shall be said at once, and not for each cell
    done = run_cells(
        f"{MODULES}.training:train_cell",
        [cell for sweep in sweeps for cell in sweep.cells()],
        options.output / "training",
        settings={"data": "made-up" if options.smoke else "CIFAR-10", **settings},
        arguments=[folder],
        jobs=options.jobs,
    )
    simulated = run_cells(
        f"{MODULES}.equilibrium:simulate",
        report.simulations(options.smoke),
        options.output / "simulation",
        settings={"turnovers": TURNOVERS},
        jobs=options.jobs,
    )
    spreads = report.spreads(done, sweeps)
    exponents = report.exponents(simulated, done, sweeps)
    cpu = sum(one.result["cpu_seconds"] for one in [*simulated, *done])
    machine = hardware(torch.device("cpu")) | {"threads": 1}
    results = {
        "settings": settings,
        "sweeps": [asdict(sweep) for sweep in sweeps],
        "spreads": spreads,
        "exponents": exponents,
        "cpu_seconds": round(cpu, 1),
        "seconds": round(time.monotonic() - start, 1),
        "hardware": machine,
        "versions": versions(),
        "simulation": [asdict(one) for one in simulated],
        "cells": [asdict(one) for one in done],
    }
    write_json(options.output / "results.json", results)
    data = "made-up images" if options.smoke else "CIFAR-10, 10,000 images to train, 1,000 to test"
    made = f"python recipes/effective_lr/run.py on a CPU, torch {torch.__version__}"
    for sweep in sweeps:
        seeds = "one seed" if sweep.seeds == 1 else f"mean of {sweep.seeds} seeds"
        note = f"{data}; constant rates, epochs: {sweep.epochs}, {seeds}; {made}"
        plot_heat_maps(done, sweep, options.output / f"{sweep.name}.png", note)
    plot_norms(done, sweeps, options.output / "norms.png", f"{data}; {made}")
    print(
        "", *report.spread_lines(spreads, sweeps), "", *report.exponent_lines(exponents), sep="\n"
    )
    print(
        f"\n{cpu:.0f} s of CPU time, {results['seconds']:.0f} s now, torch {torch.__version__}; "
        f"written: {options.output}/results.json and *.png"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
