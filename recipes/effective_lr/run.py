"""What decay does to weights before a norm: it sets their effective learning rate, no more.

    python -m recipes.effective_lr.run --data CIFAR10_FOLDER --output runs/effective-lr

Trains a 4-layer ConvNet with batch norm and a small Transformer with q/k norm on CIFAR-10 over a
grid of learning rates and decays, under SGD, Adam with coupled L2 and AdamW, each plain and with
UnitNorm. CIFAR10_FOLDER holds CIFAR-10's python batches, or the subset of PNG files; the first
10,000 training and 1,000 test images are used. It defaults to cifar10_subset in GAMMA_NLP_DATA.

Learning rates are constant, and only scale-invariant weights decay, so decay can only set
their norms. The command prints how far the test error spreads over the decays (SGD: 3 seeds,
others 2), and the exponents of norms and effective rates at equilibrium beside those of theory:
of a simulated loss, which they fit, and of the runs, whose gradients change in size from cell to
cell. Expect a spread of about 16 points under plain SGD and of 1 with UnitNorm. It writes
results.json, a heat map for each optimizer and norms.png into the output folder.

It takes about 15 minutes on two cores (28 minutes of CPU time). A run that was stopped continues
when it is started again with the same output folder. ``--smoke`` takes seconds, on made-up images
and a tiny grid.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

if not __package__:  # started as a file: find the package `recipes`, not the modules in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from recipes.common.command import command_of, make_parser, run_experiment, write_results
from recipes.common.grid_runner import run_cells
from recipes.common.images import cifar10, data_folder
from recipes.effective_lr import report
from recipes.effective_lr.equilibrium import TURNOVERS, simulate
from recipes.effective_lr.grid import FULL, SMOKE
from recipes.effective_lr.plots import plot_heat_maps, plot_norms
from recipes.effective_lr.training import train_cell


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__file__, __doc__, output="runs/effective-lr")
    parser.add_argument(
        "--data", help="folder of CIFAR-10; default: cifar10_subset in GAMMA_NLP_DATA"
    )
    return run_experiment(run, parser, argv)


def run(options: argparse.Namespace) -> None:
    start = time.monotonic()
    folder, settings, sweeps = None, {"train": 100, "test": 50, "batch": 25}, SMOKE
    if not options.smoke:
        folder = str(data_folder(options.data, "cifar10_subset", "--data").resolve())
        settings, sweeps = {"train": 10_000, "test": 1_000, "batch": 50}, FULL
        cifar10(folder)  # report a broken folder once and now, not once for each cell
    done = run_cells(
        train_cell,
        [cell for sweep in sweeps for cell in sweep.cells()],
        options.output / "training",
        settings={"data": "made-up" if options.smoke else "CIFAR-10", **settings},
        arguments=[folder],
        jobs=options.jobs,
    )
    simulated = run_cells(
        simulate,
        report.simulations(options.smoke),
        options.output / "simulation",
        settings={"turnovers": TURNOVERS},
        jobs=options.jobs,
    )
    spreads = report.spreads(done, sweeps)
    exponents = report.exponents(simulated, done, sweeps)
    data = "made-up images" if options.smoke else "CIFAR-10, 10,000 images to train, 1,000 to test"
    made = f"{command_of(__file__)} on a CPU, torch {torch.__version__}"
    for sweep in sweeps:
        seeds = "one seed" if sweep.seeds == 1 else f"mean of {sweep.seeds} seeds"
        note = f"{data}; constant rates, epochs: {sweep.epochs}, {seeds}; {made}"
        plot_heat_maps(done, sweep, options.output / f"{sweep.name}.png", note)
    plot_norms(done, sweeps, options.output / "norms.png", f"{data}; {made}")
    print(
        "", *report.spread_lines(spreads, sweeps), "", *report.exponent_lines(exponents), sep="\n"
    )
    results = {
        "settings": settings,
        "sweeps": [asdict(sweep) for sweep in sweeps],
        "spreads": spreads,
        "exponents": exponents,
        "simulation": [asdict(one) for one in simulated],
        "cells": [asdict(one) for one in done],
    }
    cpu_seconds = sum(one.result["cpu_seconds"] for one in [*simulated, *done])
    write_results(options.output, results, cpu_seconds=cpu_seconds, start=start)


if __name__ == "__main__":
    sys.exit(main())
