"""The ridge penalty that batch norm amounts to, against closed forms and in trained networks.

    python -m recipes.batch_norm.run --data MNIST_FOLDER --output runs/bn_penalty

Three parts, each with a table. (1) One linear unit with batch norm separates 3 from 8 under squared
loss, its gain fixed, decayed or free: trained to rest it should be the explicit ridge of the
predicted multiplier mu, to 1e-6 of its norm. (2) The same with noise on the pixels: the share of
the penalty that falls on noise, and what is left of least squares along each eigen-direction.
(3) Small networks (784-64-10, the first 20,000 training images, SGD): mu of every hidden unit over
training.

In the tables: "gap" is the largest difference between a unit and its closed form over the unit's
norm, with the noise that was drawn; "off theory" is the distance to the closed form with the
noise's exact covariance, in standard deviations of the output; "corr." and "scale" compare with
the ridge of strength tau**2 on clean pixels; "noise share" is the part of the penalty that falls
on noise, from theory, from v, and with the noise's covariance estimated from pairs. "ratio" is
measured mu over decay |a|^2 / g^2 (a: the weights after a unit), which it is where training is at
rest.

MNIST_FOLDER holds MNIST's four idx files; it defaults to mnist in GAMMA_NLP_DATA.

Writes results.json, unit.png and network.png into the output folder. It takes 5.5 minutes of CPU
time, about 3 minutes on two free cores. A stopped run continues when it is started again
with the same output folder. ``--smoke`` takes seconds, on made-up images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file: find the package `recipes`, not the modules in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from gamma_nlp.errors import GammaError
from gamma_nlp.files.write import write_json
from recipes.batch_norm import grid, plots
from recipes.common.command import machine, make_parser, run_experiment
from recipes.common.grid_runner import run_cells
from recipes.common.images import data_folder


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__file__, __doc__, output="runs/bn_penalty")
    parser.add_argument("--data", help="folder of MNIST; default: mnist in GAMMA_NLP_DATA")
    parser.add_argument(
        "--seeds", type=int, default=3, help="of noise and networks; default: %(default)s"
    )
    return run_experiment(run, parser, argv)


def run(options: argparse.Namespace) -> None:
    if options.seeds < 1:
        raise GammaError(f"--seeds must be 1 or more, got {options.seeds}")
    folder = None if options.smoke else str(data_folder(options.data, "mnist", "--data").resolve())
    seeds = 1 if options.smoke else options.seeds
    network = grid.SMOKE_NETWORK if options.smoke else grid.NETWORK
    settings = {
        "images": grid.load(folder).name,
        "train": 500 if options.smoke else 20_000,
        "test": 10_000,
        **network,
    }
    done = run_cells(
        grid.compute,
        grid.grid(options.smoke, seeds),
        options.output,
        settings=settings,
        arguments=(folder,),
        jobs=options.jobs,
    )
    tables = {
        "One linear unit, clean pixels": grid.clean_table(done),
        "One linear unit, gain fixed 0.5, noise on the pixels": grid.noisy_table(done),
        "Networks": grid.network_table(done),
    }
    write_json(
        options.output / "results.json",
        {
            "settings": settings,
            "seeds": list(range(seeds)),
            "cells": [vars(one) for one in done],
            "tables": tables,
            "seconds": round(sum(one.seconds for one in done), 1),
            **machine(),
        },
    )
    what = f"{settings['images']}, {seeds} seed(s)"
    plots.plot_unit(done, options.output / "unit.png", f"One unit with batch norm, {what}")
    plots.plot_network(
        done, options.output / "network.png", f"Small networks with batch norm, {what}"
    )
    for title, lines in tables.items():
        print(f"\n{title}", *lines, sep="\n")
    print(f"\nwritten: {options.output}/results.json, unit.png, network.png")


if __name__ == "__main__":
    sys.exit(main())
