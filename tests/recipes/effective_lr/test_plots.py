"""Heat maps of plain and held runs share one scale, and lines are where theory puts them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from recipes.common.grid_runner import Done
from recipes.effective_lr.grid import Sweep
from recipes.effective_lr.plots import plot_heat_maps, plot_norms

STEPS = 1000


def sweep(optimizer: str) -> Sweep:
    return Sweep(
        network="conv",
        optimizer=optimizer,
        lrs=(0.1, 1.0),
        decays=(0.001, 0.01, 0.1),
        seeds=1,
        epochs=1,
    )


def cells(one: Sweep) -> list[Done]:
    found = []
    for cell in one.cells():
        turnovers = STEPS * cell["lr"] * cell["decay"]
        weight = {"name": "w", "norm": 1.0, "equilibrium_norm": 2.0, "turnovers": turnovers}
        error = 90.0 if cell["unit_norm"] else 50.0 + cell["lr"]
        found.append(Done(cell=cell, result={"error": error, "weights": [weight]}, seconds=1.0))
    return found


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Figures stay open until the test is over."""
    close = plt.close
    monkeypatch.setattr(plt, "close", lambda figure: None)
    yield plt.gcf
    close("all")


def test_both_maps_have_one_scale_and_say_each_error(kept: Any, tmp_path: Path) -> None:
    plot_heat_maps(cells(sweep("sgd")), sweep("sgd"), tmp_path / "new" / "map.png", "note")
    plain, held, *_ = kept().axes
    limits = {axis.collections[0].get_clim() for axis in (plain, held)}
    assert limits == {(50.1, 90.0)}
    assert [text.get_text() for text in plain.texts] == 3 * ["50.1"] + 3 * ["51.0"]
    assert (tmp_path / "new" / "map.png").stat().st_size > 1000


@pytest.mark.parametrize(("optimizer", "slope"), [("sgd", -1), ("adamw", -1), ("adam", -0.5)])
def test_lines_of_equal_rate_fall_as_theory_says(
    optimizer: str, slope: float, kept: Any, tmp_path: Path
) -> None:
    plot_heat_maps(cells(sweep(optimizer)), sweep(optimizer), tmp_path / "map.png", "note")
    plain, held, *_ = kept().axes
    for line in plain.lines:
        (x0, x1), (y0, y1) = line.get_data()
        assert (y1 - y0) / (x1 - x0) == pytest.approx(slope)
    assert all(len(set(line.get_ydata())) == 1 for line in held.lines)


def test_the_red_line_is_where_runs_last_three_turnovers(kept: Any, tmp_path: Path) -> None:
    plot_heat_maps(cells(sweep("sgd")), sweep("sgd"), tmp_path / "map.png", "note")
    (red,) = [line for line in kept().axes[0].lines if line.get_color() == "#d62728"]
    (x, _), (y, _) = red.get_data()
    assert x + y == pytest.approx(math.log10(3 / STEPS))


def test_norms_of_plain_runs_alone_are_drawn(kept: Any, tmp_path: Path) -> None:
    plot_norms(cells(sweep("sgd")), [sweep("sgd")], tmp_path / "norms.png", "note")
    early, settled, _ = kept().axes[0].lines
    assert (len(early.get_xdata()), len(settled.get_xdata())) == (3, 3)
