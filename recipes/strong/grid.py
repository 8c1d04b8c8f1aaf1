"""The grids of :mod:`recipes.strong.run`, and how to run one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipes.common.grid_runner import run_cells
from recipes.strong.plots import plot_grid
from recipes.strong.report import RULES, as_json, judge, lines, rows
from recipes.strong.training import Task, train_cell


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Coefficients, rules and seeds on one dataset.

    Attributes:
        name: Name of its folder and its plot.
        folder: Folder of the data in GAMMA_NLP_DATA.
        title: Title of the plot.
        task: Network, data, training.
        l1: Coefficients of L1.
        seeds: Number of seeds.
        mark: A compression to compare with.
    """

    name: str
    folder: str
    title: str
    task: Task
    l1: tuple[float, ...]
    seeds: int
    mark: float | None = None

    def cells(self) -> list[dict[str, Any]]:
        """Return all cells, seed by seed, the dense reference first."""
        kinds = [("none", 0.0), *((rule, l1) for l1 in self.l1 for rule in RULES)]
        return [
            {"rule": rule, "l1": l1, "seed": seed}
            for seed in range(self.seeds)
            for rule, l1 in kinds
        ]


MNIST = Task(
    data="mnist",
    network="mlp",
    train=60_000,
    test=10_000,
    epochs=5,
    batch=128,
    lr=0.05,
    momentum=0.9,
    flip=False,
    delay=0.3,
    threshold=0.3,
    ratio=4.0,
)
CIFAR10 = Task(
    data="cifar10",
    network="vgg",
    train=10_000,
    test=1_000,
    epochs=20,
    batch=64,
    lr=0.05,
    momentum=0.9,
    flip=True,
    delay=0.3,
    threshold=0.3,
    ratio=4.0,
)
FULL = (
    Grid(
        name="mnist",
        folder="mnist",
        title="MLP with six hidden layers on MNIST",
        task=MNIST,
        l1=(0.002, 0.004, 0.006),
        seeds=2,
    ),
    Grid(
        name="cifar10",
        folder="cifar10_subset",
        title="Small VGG without normalisation on CIFAR-10",
        task=CIFAR10,
        l1=(0.002, 0.01),
        seeds=2,
        mark=9.9,
    ),
)
_TINY: dict[str, Any] = {"data": "synthetic", "train": 512, "test": 100, "epochs": 6, "batch": 32}
SMOKE = tuple(
    Grid(
        name=grid.name,
        folder=grid.folder,
        title=f"{grid.title} (made-up images)",
        task=Task(**{**asdict(grid.task), **_TINY}),
        l1=(1e-3, 1.0),
        seeds=1,
    )
    for grid in FULL
)


def run_grid(
    grid: Grid, folder: str | None, output: Path, jobs: int | None, seeds: Sequence[int] = ()
) -> dict[str, Any]:
    """Train the cells, draw and print; return what goes into results.json."""
    done = run_cells(
        train_cell,
        grid.cells(),
        output / grid.name,
        settings=asdict(grid.task),
        arguments=[folder],
        jobs=jobs,
    )
    table = rows(done)
    verdict = judge(table)
    task = grid.task
    note = (
        f"{task.train:,} training and {task.test:,} test images, {task.epochs} epochs of SGD with "
        f"momentum, lr {task.lr:g} falling to 0; mean of {grid.seeds} seed(s), dots are runs; "
        f"delayed: first {task.delay:.0%} without L1; direction: cos >= {task.threshold:g}; "
        f"magnitude: |r| <= {task.ratio:g} |g|; decided every {task.every} step(s)"
    )
    plot_grid(
        done,
        table,
        verdict,
        output / f"{grid.name}.png",
        title=grid.title,
        note=note,
        mark=grid.mark,
    )
    print("", *lines(grid.title, table, verdict), sep="\n")
    return {
        "task": asdict(task),
        **as_json(table, verdict),
        "cells": [asdict(one) for one in done],
        "cpu_seconds": round(sum(one.result["cpu_seconds"] for one in done), 1),
    }
