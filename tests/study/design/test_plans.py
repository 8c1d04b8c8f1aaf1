"""Cells are planned before anything runs: doses become coefficients, and repeats are found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gamma_nlp import workers
from gamma_nlp.errors import GammaError
from gamma_nlp.study.design import plans
from gamma_nlp.study.design.announce import notes
from gamma_nlp.study.design.cells import cells_of, folder_name
from gamma_nlp.study.design.config import Study, read_study
from gamma_nlp.study.design.plans import Planned, plan
from gamma_nlp.study.statistics.power import needed_seeds
from gamma_nlp.study.study import run_study
from gamma_nlp.tasks.glue.opinions import write_sst2
from tests.support.fake_studies import COMMAND, config, results
from tests.support.glue_runs import BERT, experiment

WITH_DECAY = [*COMMAND[:-1], "{how}{policy}{weight_decay}"]
ARMS = {"none": {"policy": "none"}, "all": {"policy": "all"}}
SCHEDULE = {"lr": 1e-3, "steps": 100, "warmup": 10}


@pytest.fixture
def _answered_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer questions in this process, which has torch already; one test asks another."""

    def call_all(function: str, calls: Any, **options: Any) -> Iterator[workers.Answer]:
        for call in calls:
            try:
                yield workers.Answer(value=json.loads(json.dumps(plans.answer(*call))))
            except GammaError as error:
                yield workers.Answer(problem=str(error))

    monkeypatch.setattr(workers, "call_all", call_all)


here = pytest.mark.usefixtures("_answered_here")


def planned(folder: Path, **changes: Any) -> tuple[Study, list[Planned]]:
    study = read_study(config(folder, command=WITH_DECAY, **{"arms": ARMS, **changes}))
    return study, plan(study, cells_of(study))


def test_a_dose_becomes_a_coefficient_by_the_schedule(tmp_path: Path) -> None:
    _, cells = planned(tmp_path, doses=[0.1, 0.5], schedule=SCHEDULE)
    total = cells[0].plan["sum_of_learning_rates"]
    assert total == pytest.approx(1e-3 * (4.5 + 45.5))  # up over 10 steps, and down over 90
    assert [one.weight_decay for one in cells] == pytest.approx(
        [-math.log(0.9) / total] * 2 + [math.log(2) / total] * 2
    )


def test_each_dose_has_a_baseline_of_its_own(tmp_path: Path) -> None:
    study = read_study(config(tmp_path, command=WITH_DECAY, arms=ARMS, coefficients=[0.1, 1e-4]))
    assert [(cell.name, cell.against) for cell in cells_of(study)] == [
        ("none@wd0.1", None), ("all@wd0.1", "none@wd0.1"),
        ("none@wd0.0001", None), ("all@wd0.0001", "none@wd0.0001"),
    ]  # fmt: skip
    assert folder_name("all@0.5%", 3) == "all-0.5pct-seed3"


@here
def test_doses_that_cannot_matter_are_said(tmp_path: Path) -> None:
    small = planned(tmp_path, doses=[0.001, 0.009], schedule=SCHEDULE)
    assert any("every dose is below 1%" in text for text in notes(*small))
    mixed = planned(tmp_path, doses=[0.001, 0.02], schedule=SCHEDULE)
    assert any(text.startswith("at 0.1% every dose is below") for text in notes(*mixed))
    large = planned(tmp_path, doses=[0.01, 0.5], schedule=SCHEDULE)
    assert not any("every dose" in text for text in notes(*large))


@pytest.mark.parametrize(
    ("comparisons", "seeds"), [(1, 6), (2, 7), (3, 7), (4, 8), (6, 8), (7, 9), (15, 10)]
)
def test_seeds_that_an_exact_test_needs(comparisons: int, seeds: int) -> None:
    assert needed_seeds(comparisons) == seeds
    assert 2 / 2**seeds <= 0.05 / comparisons < 2 / 2 ** (seeds - 1)


def test_too_few_seeds_are_said(tmp_path: Path) -> None:
    study = read_study(config(tmp_path, seeds=5))
    cells = [Planned(cell=cell, weight_decay=None, plan={}) for cell in cells_of(study)]
    assert "needs 6 seeds for one comparison; with 5 it cannot find" in notes(study, cells)[0]
    enough = read_study(config(tmp_path, seeds=6))
    assert not any("sign-flip" in text for text in notes(enough, cells))


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"arms": {**ARMS, "x": {"policy": "al"}}},
        r"study.yaml:\d+: arms.x.policy: unknown policy 'al'",
    ),
    (
        {"arms": {**ARMS, "x": {"policy": {"base": "all", "targt": "one"}}}},
        r"arms.x.policy: .*targt",
    ),
    ({"arms": {**ARMS, "x": {"policy": {"base": "al"}}}}, r"arms.x.policy: .*unknown preset 'al'"),
    ({"doses": [0.1], "schedule": {**SCHEDULE, "type": "liner"}}, r"schedule: liner .*be planned"),
    ({"doses": [0.1], "schedule": {**SCHEDULE, "warmup": 200}}, "schedule: .*warmup between 0 and"),
    ({"doses": [0.1], "schedule": {**SCHEDULE, "type": "constant"}}, "constant ignores warmup"),
    ({"doses": [0.1], "schedule": {**SCHEDULE, "type": "reduce_lr_on_plateau"}}, "schedule: "),
]


@here
@pytest.mark.parametrize(("changes", "problem"), WRONG, ids=lambda value: str(value)[:60])
def test_what_cannot_be_planned_names_its_place(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(GammaError, match=problem) as caught:
        planned(tmp_path, **{"coefficients": None if "doses" in changes else [0.1], **changes})
    assert "\n" not in str(caught.value)
    assert "/tmp" not in str(caught.value).replace(str(tmp_path), "")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    data = write_sst2(tmp_path / "SST-2", train=40, dev=10)
    experiment(tmp_path, data, num_train_epochs=1, save_strategy="no", dose=None)
    return tmp_path


def study_of(folder: Path, **changes: Any) -> Study:
    content = {
        "recipe": {"engine": "glue", "file": "tiny.yaml"},
        "arms": {name: {"policy": name} for name in ("guidelines", "none", "all")},
        "baseline": "none",
        "doses": [0.1],
        "seeds": 2,
        "metric": "eval_accuracy",
        "output": str(folder / "out"),
    }
    kept = {key: value for key, value in (content | changes).items() if value is not None}
    (folder / "study.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
    return read_study(folder / "study.yaml")


@here
def test_a_recipes_cells_are_planned_and_repeats_found(recipe: Path) -> None:
    study = study_of(recipe, a_a=True)
    cells = plan(study, cells_of(study))
    found = {one.cell.name: one.same_as for one in cells}
    # In a post-norm BERT every gain is on a shortcut or in the head: guidelines decays none.
    assert found == {
        "none@10%": None, "guidelines@10%": "none@10%", "all@10%": None, "none-again@10%": None
    }  # fmt: skip
    assert cells[0].plan["steps"] == 5
    assert cells[2].plan["dose"]["shortcut"]["dose"] == pytest.approx(0.1, rel=0.02)
    assert "guidelines decays exactly what none does, so it is run once" in notes(study, cells)
    assert not (recipe / "out").exists()


WRONG_RECIPES: list[tuple[dict[str, Any], str]] = [
    (
        {"metric": "accuracy"},
        "metric: no run will have the score 'accuracy'; did you mean 'eval_acc",
    ),
    ({"set": {"lerning_rate": 1}}, r"set.lerning_rate: no key of the recipe; did you mean 'learni"),
    ({"set": {"learning_rate": "x"}}, r"study.yaml:\d+: set.learning_rate: .*'x'"),
    (
        {"arms": {"none": {"policy": "none"}, "x": {"set": {"dropout": 1}}}},
        r"arms.x.set.dropout: no",
    ),
    ({"set": {"model_config": {**BERT, "hiden_size": 3}}}, "arms.none: .*hiden_size"),
    ({"set": {"num_train_epochs": -1}}, "num_train_epochs"),
]


@here
@pytest.mark.parametrize(("changes", "problem"), WRONG_RECIPES, ids=lambda value: str(value)[:60])
def test_a_setting_that_the_recipe_refuses_names_its_place(
    recipe: Path, changes: dict[str, Any], problem: str
) -> None:
    study = study_of(recipe, **changes)
    with pytest.raises(GammaError, match=problem) as caught:
        plan(study, cells_of(study))
    assert str(caught.value).startswith(str(recipe / "study.yaml"))


@here
def test_a_study_without_a_difference_is_refused(recipe: Path) -> None:
    arms = {name: {"policy": name} for name in ("none", "guidelines")}
    with pytest.raises(GammaError, match="no arm decays anything else than none"):
        run_study(study_of(recipe, arms=arms), say=lambda text: None, note=lambda text: None)
    assert not (recipe / "out").exists()


@pytest.mark.slow
def test_a_study_of_a_recipe_pairs_its_seeds(recipe: Path) -> None:
    study = study_of(recipe, a_a=True, set={"logging_steps": 1})
    assert run_study(study, jobs=1, say=lambda text: None, note=lambda text: None) == 0
    found = results(recipe)
    cells = ("all", "none", "none-again")
    assert set(found) == {f"{cell}-10pct-seed{seed}" for cell in cells for seed in (1, 2)}
    first = {name: one["curves"]["loss"][0][1] for name, one in found.items()}
    assert first["all-10pct-seed1"] == first["none-10pct-seed1"] != first["none-10pct-seed2"]
    record = json.loads((recipe / "out" / "study.json").read_text())
    for one in record["cells"]:
        name = one["same_as"] or one["name"]
        ran = found[folder_name(name, 2)]
        assert ran["groups"] == one["plan"]["groups"]
        assert ran["data"] == one["plan"]["data"]
        assert ran["weight_decay"] == one["weight_decay"]


def test_a_dose_that_is_not_known_is_not_called_small(tmp_path: Path) -> None:
    study = read_study(config(tmp_path, command=WITH_DECAY, arms=ARMS, coefficients=[1e-4]))
    told = ({"head": 0.0}, {"head": None}, {"head": 0.0, "branch_inner": [0.0, None]})
    for doses, small in zip(told, (True, False, False), strict=True):
        plan = {"dose": {part: {"dose": dose} for part, dose in doses.items()}}
        cells = [Planned(cell=cell, weight_decay=1e-4, plan=plan) for cell in cells_of(study)]
        assert any("every dose is below" in text for text in notes(study, cells)) is small
