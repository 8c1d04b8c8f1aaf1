from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from gamma_nlp.study.report.findings import Findings, findings
from gamma_nlp.study.report.tables import all_tables
from gamma_nlp.study.report.text import as_text, verdict_lines
from gamma_nlp.study.results.found import find
from tests.support.studies import Fake, fail, write_bare

CATEGORIES = ("branch_last", "branch_inner")


def read(folder: Path) -> Findings:
    return findings(find(folder))


def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not(tmp_path: Path) -> None:
    fake = Fake(
        arms={"none": 0.0, "all": -0.6, "guidelines": 0.0}, seeds=range(1, 9), items=400, aa=True
    )
    results = read(fake.write(tmp_path))
    verdicts = {one.arm: one.verdict.value for one in results.comparisons}
    assert verdicts["all"] == "worse"
    assert verdicts["guidelines"] in ("no_difference", "undecided")
    (floor,) = results.floor
    assert floor.arm == "none-again" and abs(floor.difference) < 1
    assert results.noise is not None and results.noise.pairs == 8


def test_each_seed_alone_has_the_p_of_its_items(tmp_path: Path) -> None:
    fake = Fake(arms={"none": 0.0, "all": -1.5, "guidelines": 0.0}, seeds=(1, 2, 3), items=400)
    results = read(fake.write(tmp_path))
    found = {one.arm: one.p for one in results.by_items}
    assert list(found["all"]) == [1, 2, 3]
    assert max(found["all"].values()) < 0.01 < min(found["guidelines"].values())
    (table,) = (one for one in all_tables(results) if one.title.startswith("Each seed alone"))
    assert table.head == ("arm", "seed 1", "seed 2", "seed 3") and len(table.lines) == 2


def test_without_items_no_seed_has_a_p_of_its_own(tmp_path: Path) -> None:
    results = read(write_bare(tmp_path, {"none": [0.9, 0.91], "all": [0.8, 0.82]}))
    assert not results.by_items and "Each seed alone" not in as_text(results)


def test_doses_have_a_trend_for_each_arm(tmp_path: Path) -> None:
    results = read(Fake(arms={"none": 0.0, "all": -1.0}, doses=(0.01, 0.1, 0.5)).write(tmp_path))
    (trend,) = results.trends
    assert trend.arm == "all" and trend.doses == (0.01, 0.1, 0.5)
    assert trend.high < 0
    assert "Trend over the doses (points)" in as_text(results)


@pytest.fixture
def design(tmp_path: Path) -> Path:
    factors = {
        "+".join(n for n, on in zip(CATEGORIES, levels, strict=True) if on) or "none": dict(
            zip(CATEGORIES, levels, strict=True)
        )
        for levels in itertools.product((False, True), repeat=2)
    }
    arms = {name: -0.8 * levels["branch_inner"] for name, levels in factors.items()}
    return Fake(arms=arms, factors=factors, seeds=(1, 2, 3, 4)).write(tmp_path / "design")


def test_a_factorial_design_has_main_effects_and_interactions(design: Path) -> None:
    results = read(design)
    (at,) = results.designs
    effects = {one.factors: one for one in at.factorial.effects}
    assert set(effects) == {("branch_last",), ("branch_inner",), CATEGORIES}
    inner, last = effects[("branch_inner",)], effects[("branch_last",)]
    assert inner.high < 0 and inner.difference < last.difference
    table = all_tables(results)[-1]
    assert table.title == "Effects of decay on each category (points)"
    assert [line[0] for line in table.lines] == [*CATEGORIES, "branch_last x branch_inner"]


def test_a_design_that_is_not_whole_has_no_effects_and_says_so(design: Path) -> None:
    for seed in (1, 2, 3, 4):
        fail(design, f"branch_last-seed{seed}")
    results = read(design)
    assert not results.designs
    assert any(note.startswith("no effects of the design") for note in results.found.notes)


def test_an_arm_without_a_common_seed_has_no_verdict_and_says_so(tmp_path: Path) -> None:
    folder = Fake(items=40, seeds=(1, 2), arms={"none": 0.0, "all": 0.0, "timm": 0.0})
    study = folder.write(tmp_path)
    fail(study, "all-seed1")
    fail(study, "all-seed2")
    results = read(study)
    assert [one.arm for one in results.comparisons] == ["timm"]
    assert "no verdict on all: it and none have no seed in common" in verdict_lines(results)


def test_a_baseline_that_another_arm_stands_for_is_compared(tmp_path: Path) -> None:
    fake = Fake(arms={"none": 0.0, "all": 0.0, "timm": 0.0}, same_as={"none": "timm"}, items=40)
    results = read(fake.write(tmp_path))
    assert [(one.arm, one.baseline) for one in results.comparisons] == [("all", "timm")]
    lines = verdict_lines(results)
    assert lines[-1] == "none is the same as timm: all parameters decay alike, so it was not run"
    assert len(lines) == 2


def test_one_seed_has_no_verdict_but_a_report(tmp_path: Path) -> None:
    results = read(write_bare(tmp_path, {"none": [0.9], "all": [0.8]}))
    assert results.comparisons[0].verdict.value == "undecided"
    assert "one seed (1)" in as_text(results)


def test_one_arm_has_nothing_to_compare(tmp_path: Path) -> None:
    results = read(write_bare(tmp_path, {"none": [0.9, 0.91]}))
    assert verdict_lines(results) == ["There is one arm, so nothing to compare."]


def test_a_loss_is_better_when_it_is_lower(tmp_path: Path) -> None:
    metric = {
        "higher_is_better": False, "unit": "nats", "scale": 1, "smallest_difference": 0.01,
    }  # fmt: skip
    losses = {"none": [3.0, 3.1, 2.9, 3.05], "all": [2.5, 2.61, 2.4, 2.56]}
    results = read(write_bare(tmp_path, losses, metric=metric))
    assert results.comparisons[0].verdict.value == "better"
    assert "more is worse" in as_text(results)


@pytest.mark.parametrize(
    ("scores", "margin", "digits"),
    [([0.9, 0.91, 0.92], 0.5, 2), ([0.9, 0.9002, 0.9004], 0.5, 3), ([0.5, 0.6, 0.7], 0.002, 4)],
)
def test_decimals_show_what_differs(
    scores: list[float], margin: float, digits: int, tmp_path: Path
) -> None:
    metric = {"smallest_difference": margin}
    assert read(write_bare(tmp_path, {"none": scores}, metric=metric)).digits == digits
