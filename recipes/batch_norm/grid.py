"""The cells of the experiment on batch norm's penalty, and the tables made of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recipes.batch_norm.network import network_cell
from recipes.batch_norm.unit import clean_unit, noisy_unit
from recipes.common.grid_runner import Done
from recipes.common.images import ImageSet, mnist, synthetic

Cell = dict[str, Any]
DECAY = 1e-3
"""Decay of the networks' weights."""
NETWORK = {"hidden": 64, "epochs": 12, "batch": 128, "lr": 0.1, "measured": 5000}
SMOKE_NETWORK = {"hidden": 8, "epochs": 2, "batch": 50, "lr": 0.1, "measured": 200}


def grid(smoke: bool, seeds: int) -> list[Cell]:
    """Return all cells; ``part`` is ``clean``, ``noisy`` or ``network``."""
    gains = (0.5,) if smoke else (0.1, 0.25, 0.5, 1.0, 2.0)
    decays = (0.5, 0.0) if smoke else (2.0, 0.5, 0.1, 0.0)
    taus = (0.3,) if smoke else (0.1, 0.3, 1.0)
    cells: list[Cell] = [{"part": "clean", "gain": gain, "decay": 0.0} for gain in gains]
    cells += [{"part": "clean", "gain": None, "decay": decay} for decay in decays]
    cells += [
        {"part": "noisy", "where": where, "tau": tau, "gain": 0.5, "copies": 2, "seed": seed}
        for where in ("data", "statistics")
        for tau in taus
        for seed in range(seeds)
    ]
    fixed = (1.0,) if smoke else (0.1, 1.0, 3.0)
    gains_of: list[tuple[float | None, bool]] = [(gain, False) for gain in fixed]
    gains_of += [(None, True), (None, False)]
    cells += [
        {"part": "network", "gain": gain, "decayed": decayed, "decay": decay, "seed": seed}
        for decay in (DECAY, 0.0)
        for gain, decayed in gains_of
        if decay or (gain != 3.0 and not decayed)
        for seed in range(seeds)
    ]
    return cells


def compute(cell: Mapping[str, Any], settings: Mapping[str, Any], folder: str | None) -> Any:
    """Compute one cell; ``folder`` is MNIST's, ``None`` for made-up images."""
    images = load(folder)
    if cell["part"] == "clean":
        return clean_unit(cell, images)
    if cell["part"] == "noisy":
        return noisy_unit(cell, images)
    return network_cell(cell, settings, images.first(settings["train"], settings["test"]))


def load(folder: str | None) -> ImageSet:
    return synthetic(1500, 200, (1, 10, 10)) if folder is None else mnist(folder)


def rule(cell: Mapping[str, Any]) -> str:
    """Say what a cell does with its gain."""
    if cell["gain"] is not None:
        return f"fixed {cell['gain']:g}"
    if cell["part"] == "clean":
        return f"decayed {cell['decay']:g}" if cell["decay"] else "free"
    return "decayed" if cell["decayed"] else "free"


def arms(done: Iterable[Done], part: str) -> dict[tuple[Any, ...], list[Done]]:
    """Return the cells of one part in order, grouped if they differ only by their seed."""
    found: dict[tuple[Any, ...], list[Done]] = {}
    for one in done:
        if one.cell["part"] == part:
            key = (
                rule(one.cell),
                one.cell.get("where"),
                one.cell.get("tau"),
                one.cell.get("decay"),
            )
            found.setdefault(key, []).append(one)
    return found


def mean(cells: Sequence[Done], key: str) -> float:
    return statistics.fmean(one.result[key] for one in cells)


def std(cells: Sequence[Done], key: str) -> float:
    """Return the standard deviation over seeds; 0 for one seed."""
    values = [one.result[key] for one in cells]
    return statistics.stdev(values) if len(values) > 1 else 0.0


def units_of(cells: Sequence[Done]) -> list[tuple[float, float]]:
    """Return (mu from the decay of the next weights, measured mu) of all units of all seeds."""
    found = []
    for one in cells:
        units = one.result["units"]
        pairs = zip(units["mu_of_decay"], units["mu"], strict=True)
        found += [(a, b) for a, b in pairs if a is not None and b is not None]
    return found


def clean_table(done: Sequence[Done]) -> list[str]:
    lines = [
        f"{'gain':14} {'value':>7} {'mu of theory':>13} {'mu measured':>12} {'gap to ridge':>13}"
        f" {'test accuracy':>14}"
    ]
    for (name, *_), (one,) in arms(done, "clean").items():
        r = one.result
        lines.append(
            f"{name:14} {r['gain']:7.4f} {r['predicted_mu']:13.6f} {r['measured_mu']:12.6f}"
            f" {r['gap']:13.1e} {r['accuracy']:14.2%}"
        )
    return lines


def noisy_table(done: Sequence[Done]) -> list[str]:
    lines = [
        f"{'noise in':11} {'tau':>4} {'mu theory':>10} {'measured':>9} {'noise share':>12}"
        f" {'measured':>9} {'of pairs':>9} {'gap':>8} {'off theory':>11} {'corr. ridge':>12}"
        f" {'scale':>6} {'accuracy':>9} {'ridge':>7}"
    ]
    for (_, where, tau, _), cells in arms(done, "noisy").items():
        worst = max(one.result["gap_to_sample"] for one in cells)
        lines.append(
            f"{where:11} {tau:4g} {mean(cells, 'predicted_mu'):10.4f}"
            f" {mean(cells, 'measured_mu'):9.4f} {mean(cells, 'noise_share_predicted'):12.4f}"
            f" {mean(cells, 'noise_share'):9.4f} {mean(cells, 'noise_share_estimated'):9.4f}"
            f" {worst:8.0e} {mean(cells, 'gap_to_theory'):11.3f}"
            f" {mean(cells, 'cosine_to_classical_ridge'):12.4f}"
            f" {mean(cells, 'scale_to_classical_ridge'):6.3f} {mean(cells, 'accuracy'):9.2%}"
            f" {mean(cells, 'accuracy_classical_ridge'):7.2%}"
        )
    return lines


def network_table(done: Sequence[Done]) -> list[str]:
    lines = [
        f"{'gains':10} {'decay':>6} {'test accuracy':>16} {'loss':>7} {'gain':>6}"
        f" {'mu measured':>12} {'decay a^2/g^2':>14} {'ratio, quartiles':>18}"
    ]
    for (name, _, _, decay), cells in arms(done, "network").items():
        last = [one.result["history"][-1] for one in cells]
        lines.append(
            f"{name:10} {decay:6g} {mean(cells, 'accuracy'):9.2%} ± {std(cells, 'accuracy'):.2%}"
            f" {mean(cells, 'loss'):7.4f} {statistics.fmean(h['gain'] for h in last):6.3f}"
            f" {statistics.fmean(h['mu'][1] for h in last):12.2e}"
            f" {statistics.fmean(h['mu_of_decay'] for h in last):14.2e}"
            f" {_ratios(units_of(cells)):>18}"
        )
    return lines


def _ratios(pairs: Sequence[tuple[float, float]]) -> str:
    """Return the quartiles over the units of measured over predicted mu."""
    ratios = [measured / predicted for predicted, measured in pairs if predicted]
    if len(ratios) < 2:
        return "-"
    return " ".join(f"{one:.2f}" for one in statistics.quantiles(ratios))
