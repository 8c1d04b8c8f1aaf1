from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from gamma_nlp.study.found import find
from gamma_nlp.study.report import seed_plots
from gamma_nlp.study.report.curve_plots import gains_over_training, learning_curves
from gamma_nlp.study.report.details import gain_table, settings
from gamma_nlp.study.report.figures import apart, short, styles
from gamma_nlp.study.report.findings import Findings, findings
from gamma_nlp.study.report.page import as_html
from tests.support.studies import Fake, change


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Fake(items=30, seeds=(1, 2)).write(tmp_path_factory.mktemp("plots") / "study")


def read(folder: Path) -> Findings:
    return findings(find(folder))


def test_every_arm_has_a_look_of_its_own_and_presets_keep_theirs() -> None:
    arms = ["none", "guidelines", "all", *(f"arm {i}" for i in range(20))]
    found = styles(arms)
    assert list(found) and len(set(map(str, found.values()))) == len(arms)
    assert found["all"][0] == "#d55e00" and found["none"][0] == "#777777"


def test_long_names_keep_their_ends() -> None:
    assert short("none") == "none"
    long = "branch_last+branch_inner+shortcut+head with a policy of one's own"
    assert len(short(long)) <= 46 and short(long)[:9] == "branch_la" and short(long)[-3:] == "own"


def test_ids_are_set_apart_and_nothing_else() -> None:
    svg = '<g id="a" data-id="a"><use xlink:href="#a"/><p clip-path="url(#a)"/></g>'
    assert apart(svg, "x") == (
        '<g id="x-a" data-id="a"><use xlink:href="#x-a"/><p clip-path="url(#x-a)"/></g>'
    )


def test_plots_leave_the_settings_of_matplotlib_as_they_are(folder: Path) -> None:
    before = dict(matplotlib.rcParams)
    assert seed_plots.every_seed(read(folder)) is not None
    assert dict(matplotlib.rcParams) == before
    assert not matplotlib.pyplot.get_fignums()


@pytest.mark.parametrize(
    "curves",
    ["text", [], {"loss": [[1, "x"], [2, 3]]}, {"loss": [[1, float("nan")], [2, 1.0]]},
     {"loss": 3, "gain_norm": [1, 2]}, {"loss": [[1, 2, 3], [4, 5, 6]]}, {"loss": [[1, 0.5]]}],
)  # fmt: skip
def test_a_curve_of_another_shape_is_not_drawn_and_the_run_counts(
    curves: Any, tmp_path: Path
) -> None:
    study = Fake(items=30, seeds=(1, 2)).write(tmp_path)
    odd = {"history": "none", "gain_norm": {"head": 1.0}, "settings": [1], "hardware": None}
    for run in ("none-seed1", "none-seed2", "all-seed1", "all-seed2"):
        change(study, run, curves=curves, dose={"head": 1.0, "shortcut": {"dose": "x"}}, **odd)
    results = read(study)
    assert len(results.found.runs) == 4
    assert learning_curves(results) == (None, None)
    assert gains_over_training(results) is None
    assert len(gain_table(results).lines) > 0 and not settings(results).common.lines


def test_gains_without_a_curve_are_drawn_from_their_ends(tmp_path: Path) -> None:
    study = Fake(items=30, seeds=(1, 2)).write(tmp_path)
    for run in ("none-seed1", "none-seed2", "all-seed1", "all-seed2"):
        change(study, run, curves={})
    drawn = gains_over_training(read(study))
    assert drawn is not None and "branch_inner" in drawn.svg


def test_the_gain_table_shows_doses_and_sizes_of_every_arm(folder: Path) -> None:
    lines = gain_table(read(folder)).lines
    assert lines[0] == ("none", "branch_last", "12", "0", "0 %", "1.0000", "1.0000")
    assert lines[4] == ("all", "branch_inner", "12", "0.1", "9.52 %", "1.0020", "0.9069")


def test_only_settings_that_tell_arms_apart_are_in_the_first_table(folder: Path) -> None:
    told = settings(read(folder))
    assert told.differing.lines == (("decay_policy", "none", "all"),)
    assert dict(told.common.lines) == {
        "task": "sst2", "max_length": "64", "learning_rate": "0.001",
    }  # fmt: skip


def test_names_that_are_no_latin_or_no_mathematics_are_drawn(tmp_path: Path) -> None:
    arms = {"none": 0.0, "$x^2_$": 0.0, "重み減衰": 0.0}
    page = as_html(read(Fake(arms=arms, items=30, seeds=(1, 2)).write(tmp_path)))
    assert page.count("重み減衰") > 3 and page.count("$x^2_$") > 3


def test_two_thousand_points_are_thinned(tmp_path: Path) -> None:
    study = Fake(items=30, seeds=(1, 2)).write(tmp_path)
    many = [[step, float(np.exp(-step / 500))] for step in range(2000)]
    for run in ("none-seed1", "none-seed2", "all-seed1", "all-seed2"):
        change(study, run, curves={"loss": many})
    loss, _ = learning_curves(read(study))
    assert loss is not None and len(loss.svg) < 40_000
