"""Plots: a PNG for full logs and for logs that lack most of it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from gamma_nlp.plots import plot_arms, plot_run, series

LOG = [
    {"step": 1, "loss": 0.7, "gain_norm/shortcut": 1.0, "gain_norm/head": 1.0},
    {"step": 5, "loss": 0.5, "gain_norm/shortcut": 0.9, "gain_norm/head": 1.1},
    {"step": 5, "eval_loss": 0.6, "eval_accuracy": 0.8},
    {"train_runtime": 3.0, "step": 5},
]


def test_a_series_holds_the_entries_that_have_its_key() -> None:
    assert series(LOG, "loss") == ([1.0, 5.0], [0.7, 0.5])
    assert series(LOG, "missing") == ([], [])


@pytest.mark.parametrize("log", [LOG, LOG[:1], []])
def test_a_run_is_drawn_however_little_was_logged(
    log: list[dict[str, float]], tmp_path: Path
) -> None:
    plot_run(log, tmp_path / "deep" / "run.png", title="a run", score="eval_accuracy")
    assert (tmp_path / "deep" / "run.png").read_bytes().startswith(b"\x89PNG")


def test_arms_are_drawn_side_by_side(tmp_path: Path) -> None:
    plot_arms({"model": {"none": LOG, "all": LOG}}, tmp_path / "arms.png", title="arms")
    assert (tmp_path / "arms.png").read_bytes().startswith(b"\x89PNG")
