"""Plots: a PNG for full logs and for logs that lack most of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamma_nlp.tasks.run.plots import plot_run, series

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


@pytest.mark.parametrize(
    ("key", "value", "drawn", "unit"),
    [("eval_accuracy", 0.8, 80.0, "accuracy (%)"), ("eval_bleu", 36.2, 36.2, "BLEU")],
)
def test_shares_are_drawn_in_percent_and_bleu_as_it_is(
    key: str, value: float, drawn: float, unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot

    kept: list[pyplot.Figure] = []
    monkeypatch.setattr(pyplot, "close", kept.append)
    plot_run([{"step": 5, key: value}], tmp_path / "run.png", title="a run", score=key)
    monkeypatch.undo()
    mark = kept[0].axes[1]
    assert mark.lines[0].get_ydata() == pytest.approx([drawn])
    assert mark.get_ylabel() == unit
    pyplot.close(kept[0])
