"""The embedded default on a smaller corpus: equal arms run once, doses reached, files written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue import demo


def test_the_demonstration_shows_every_arm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "quickstart"
    for _ in range(2):  # a second call takes its own folder over
        demo.main(["--output", str(folder), "--examples", "128", "--epochs", "2"])
    shown = capsys.readouterr().out
    assert "post-norm (BERT): guidelines decays exactly what none does" in shown
    assert "none = guidelines" in shown
    assert (folder / "arms.png").stat().st_size > 10_000
    models = json.loads((folder / "demo.json").read_text())["models"]
    assert [list(model["arms"]) for model in models.values()] == [
        ["none", "all"],
        ["none", "guidelines", "all"],
    ]
    arms = models["pre-norm (ModernBERT)"]["arms"]
    for category, dose in arms["guidelines"]["dose"].items():
        assert dose["dose"] == pytest.approx(0.3 if category == "branch_inner" else 0.0, abs=0.03)
    last = {name: arm["gain_norm"]["shortcut"]["last"] for name, arm in arms.items()}
    assert last["all"] < 0.85 < min(last["none"], last["guidelines"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dose", "0.05"], "--dose 0.05: below 0.1"),
        (["--dose", "1"], "--dose 1"),
        (["--examples", "3"], "at least 64 --examples"),
    ],
)
def test_bad_options_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=message):
        demo.main(["--output", str(tmp_path / "new"), *options])


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(GammaError, match="holds something else than an earlier demonstration"):
        demo.main(["--output", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
