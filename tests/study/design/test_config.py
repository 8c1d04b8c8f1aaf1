"""A study's file is read whole, and every mistake is one line with file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.study.design.config import Study, read_study
from gamma_nlp.study.design.metric import Metric
from tests.support.fake_studies import COMMAND, config

RECIPE = {"command": None, "set": None, "recipe": {"engine": "glue", "file": "tiny.yaml"}}
ARMS = {"none": {"policy": "none"}, "all": {"policy": "all"}}


def read(folder: Path, **changes: Any) -> Study:
    (folder / "tiny.yaml").write_text("task: sst2\n")
    (folder / "policy.yaml").write_text("base: all\n")
    return read_study(config(folder, **changes))


def of_recipe(folder: Path, **changes: Any) -> Study:
    return read(folder, **{**RECIPE, "arms": ARMS, **changes})


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    study = read(tmp_path, output=None, smallest_difference=None)
    assert (study.name, study.about, study.threads) == ("study", "", 1)
    assert study.output == Path("runs/study")
    assert study.seeds == (1, 2, 3)
    assert study.metric.smallest_difference is None
    assert study.a_a is None


def test_files_are_those_beside_the_config(tmp_path: Path) -> None:
    study = of_recipe(tmp_path, arms={**ARMS, "mine": {"policy": "policy.yaml"}})
    assert study.runs.file == tmp_path / "tiny.yaml"  # type: ignore[union-attr]
    assert [arm.policy for arm in study.arms] == ["none", "all", str(tmp_path / "policy.yaml")]


@pytest.mark.parametrize(
    ("metric", "scores", "unit", "scale", "higher"),
    [
        ("eval_accuracy", ("final.eval_accuracy",), "points", 100, True),
        ("eval_matthews_correlation", ("final.eval_matthews_correlation",), "points", 100, True),
        ("eval_loss", ("final.eval_loss",), "nats", 1, False),
        (["scores.a.sacrebleu", "scores.b.sacrebleu"], None, "BLEU", 1, True),
        (
            {"score": "wer", "higher_is_better": False, "unit": "WER"},
            ("final.wer",),
            "WER",
            1,
            False,
        ),
        ({"score": "eval_f1", "scale": 1}, ("final.eval_f1",), "points", 1, True),
    ],
)
def test_a_metric_tells_its_unit_and_direction(
    tmp_path: Path, metric: Any, scores: Any, unit: str, scale: float, higher: bool
) -> None:
    found = of_recipe(tmp_path, metric=metric).metric
    assert found.scores == (scores or tuple(metric))
    assert (found.unit, found.scale, found.higher_is_better) == (unit, scale, higher)


def test_numbers_may_be_written_as_yaml_takes_for_text(tmp_path: Path) -> None:
    study = of_recipe(tmp_path, doses=["1e-2", 0.5], seeds=[3, 1])
    assert study.doses == (0.01, 0.5)
    assert study.seeds == (3, 1)


def test_a_design_has_sixteen_arms_and_its_baseline(tmp_path: Path) -> None:
    study = of_recipe(tmp_path, arms=None, design="categories", baseline=None)
    assert len({arm.name for arm in study.arms}) == 16
    assert study.baseline == study.arms[0].name == "none"
    assert study.arms[-1].name == "all"
    one = next(arm for arm in study.arms if arm.name == "branch_inner+head")
    assert one.policy == {
        "base": "none", "branch_last": 0.0, "branch_inner": 1.0, "shortcut": 0.0, "head": 1.0
    }  # fmt: skip


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"sedes": 3}, r"study.yaml:\d+: sedes: unknown key; did you mean 'seeds'"),
    ({"recipe": {"engine": "glue", "file": "tiny.yaml"}}, "give either recipe .* or command"),
    ({"command": None}, "give either recipe .* or command"),
    ({"arms": {"none": {}}}, r"arms: a study compares at least two arms; 'none' is the only one"),
    ({"arms": {}}, "at least two arms; there is none"),
    ({"arms": ["none", "all"]}, "arms: expected keys and values such as"),
    ({"arms": {"none": {}, "all": {}}}, r"arms.all: is the same as the arm 'none'"),
    ({"arms": {"none": {}, "all": {"polcy": "all"}}}, r"arms.all.polcy: unknown key; did you mean"),
    ({"arms": {"none": {}, False: {"set": {"how": 1}}}}, r"YAML reads this as False, no text; put"),
    ({"arms": {"none": {}, "a b": {"set": {"how": 1}}}}, "is no name of an arm"),
    ({"arms": {"none": {}, "None": {"set": {"how": 1}}}}, "differs from 'none' in case alone"),
    ({"arms": {"none": {}, "all": "all"}}, r"write `all: {policy: all}`"),
    ({"baseline": "non"}, r"baseline: no arm is called 'non'; did you mean 'none'"),
    ({"baseline": None}, "baseline is missing: the arm that the others are compared with"),
    ({"seeds": 1}, r"seeds: one seed cannot tell .* at least 2, and 6 for the exact"),
    ({"seeds": [4]}, "one seed cannot tell"),
    ({"seeds": 0}, "expected a whole number from 1 on, got 0"),
    ({"seeds": 2.5}, "expected a whole number from 1 on, got 2.5"),
    (
        {"seeds": 10**9},
        "their number, and 1000000000 is more than 10000; to name them",
    ),
    ({"seeds": [1, 2, 1]}, r"seeds.2: 1 is there twice"),
    ({"seeds": [1, -2]}, "a seed is a whole number from 0"),
    ({"seeds": [1, 2**32]}, "a seed is a whole number from 0"),
    ({"seeds": True}, "expected a number, got True"),
    ({"seeds": None}, "seeds is missing"),
    ({"metric": None}, "metric is missing"),
    ({"metric": []}, "expected the name of a score, or a list of names, got"),
    ({"metric": ["accuracy", 3]}, "expected the name of a score"),
    ({"metric": ["accuracy", "accuracy"]}, "'accuracy' is there twice"),
    ({"metric": ["accuracy", "loss"]}, "the mean of accuracy and loss means nothing"),
    ({"metric": "wer"}, "say which way 'wer' is better, for example `metric: {score: wer, hig"),
    ({"metric": {"score": "wer", "higher": True}}, r"metric.higher: unknown key"),
    ({"metric": {"score": "loss", "scale": 0}}, "metric.scale: expected a number above 0"),
    ({"metric": {"score": "loss", "higher_is_better": "no"}}, "expected true or false, got 'no'"),
    ({"smallest_difference": 0}, "smallest_difference: expected a number above 0, got 0"),
    ({"smallest_difference": -0.5}, "expected a number above 0"),
    ({"smallest_difference": "1 %"}, "expected a number, got '1 %'$"),  # 1 point, not 0.01
    ({"set": {"seconds": None, "how": "x"}}, "set.seconds: is empty; give a value, or '' for none"),
    ({"smallest_difference": "half"}, "expected a number, got 'half'"),
    ({"smallest_difference": float("nan")}, "expected a finite number, got nan"),
    ({"threads": 0}, "threads: expected a whole number from 1 on"),
    ({"threads": 5000}, "threads: expected at most 1024"),
    ({"name": 3}, "name: expected text, got 3; put it in quotes"),
    ({"output": "runs/{seed}"}, "output: 'runs/{seed}' has braces"),
    ({"set": ["how"]}, "set: expected keys and values such as"),
    # commands
    ({"command": "python train.py"}, "command: expected a list of words"),
    (
        {"command": [word for word in COMMAND if word != "{seed}"]},
        r"it has no {seed}, so every run",
    ),
    ({"command": [word for word in COMMAND if word != "{folder}"]}, r"it has no {folder}, so noth"),
    ({"command": [*COMMAND, "{polcy}"]}, r"nothing sets {polcy} .*; did you mean 'policy'"),
    ({"command": [*COMMAND, "{seed"]}, "'{seed': .*write {{ and }} for braces"),
    ({"command": [*COMMAND, "{seed:03d}"]}, "is no placeholder such as {seed}"),
    ({"command": [*COMMAND, "{0}"]}, "is no placeholder such as {seed}"),
    ({"command": [*COMMAND, True]}, "word 13 is True, no text"),
    ({"command": [*COMMAND, "{policy}"]}, r"arms.none: the command asks for {policy}; give one"),
    (
        {"command": ["python", "no_such.py", *COMMAND[2:]]},
        "no file no_such.py in the current folder",
    ),
    ({"command": ["no-such-program", *COMMAND[2:]]}, "no program 'no-such-program' is installed"),
    (
        {"arms": {"none": {}, "all": {"policy": "all"}}},
        r"no {policy}, so the policy of 'all' would",
    ),
    (
        {"set": {"seconds": 1, "how": "x", "lr": 1}},
        r"set.lr: the command has no {lr}, so this would",
    ),
    ({"set": {"second": 1, "how": "x"}}, r"set.second: .* no {second}.*; did you mean 'seconds'"),
    ({"set": {"seconds": 1}}, r"nothing sets {how} for the arm 'none'"),
    ({"set": {"seconds": 1, "how": "x", "seed": 3}}, "set.seed: the study sets it itself"),
    ({"doses": [0.1]}, r"doses: the command has no {weight_decay}, so doses would have no effect"),
    ({"coefficients": [0.1]}, "coefficients: the command has no {weight_decay}"),
    ({"command": [*COMMAND, "{weight_decay}"]}, "it asks for {weight_decay}; give doses or coeff"),
    ({"command": [*COMMAND, "{weight_decay}"], "doses": [0.1]}, "a dose becomes a coefficient by"),
    ({"command": [*COMMAND, "{dose}"], "coefficients": [0.1]}, "it asks for {dose}; give doses"),
    ({"schedule": {"lr": 1e-3}}, "schedule: steps is missing"),
    ({"schedule": {"lr": 0, "steps": 3}}, "schedule.lr: expected a number above 0"),
    (
        {"schedule": {"lr": 1, "steps": 3, "warmpu": 1}},
        "schedule.warmpu: unknown key; did you mean",
    ),
    ({"a_a": True}, "a command has to be told how to repeat the baseline"),
    ({"a_a": {"set": {}}}, "a_a.set: is empty; say what to change"),
    ({"a_a": {"set": {"noise": 1}}}, r"a_a.set.noise: the command has no {noise}"),
    ({"a_a": {"set": {"how": "well"}}}, "it changes nothing, so it would repeat the baseline"),
]


@pytest.mark.parametrize(("changes", "problem"), WRONG, ids=lambda value: str(value)[:60])
def test_a_mistake_is_named(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(GammaError, match=problem) as caught:
        read(tmp_path, **changes)
    assert str(caught.value).startswith(str(tmp_path / "study.yaml"))
    assert "\n" not in str(caught.value)


WRONG_RECIPES: list[tuple[dict[str, Any], str]] = [
    (
        {"recipe": {"engine": "glu", "file": "tiny.yaml"}},
        "unknown engine 'glu'; did you mean 'glue'",
    ),
    ({"recipe": {"engine": "glue"}}, "recipe: file is missing"),
    (
        {"recipe": {"engine": "glue", "file": "no.yaml"}},
        "recipe.file: no file .*no.yaml; it is look",
    ),
    ({"recipe": "tiny.yaml"}, "recipe: expected keys and values such as {engine: glue"),
    ({"schedule": {"lr": 1, "steps": 1}}, "schedule: a recipe plans its own"),
    ({"doses": [0.1, 1.5]}, r"doses.1: a dose lies between 0 and 1, not 1.5"),
    ({"doses": [0]}, "a dose lies between 0 and 1, not 0"),
    ({"doses": ["10%"]}, r"doses.0: expected a number, got '10%'; write 0.1"),
    ({"doses": []}, "doses: the list is empty"),
    ({"doses": [0.1, 0.1]}, "0.1 is there twice"),
    ({"doses": [True]}, "expected a number, got True"),
    ({"coefficients": [0]}, "weight_decay must be above 0, not 0"),
    ({"coefficients": [float("inf")]}, "expected a finite number"),
    ({"doses": [0.1], "coefficients": [0.1]}, "coefficients: give doses or coefficients, not both"),
    ({"set": {"seed": 3}}, r"set.seed: the study sets it; give seeds"),
    ({"set": {"output_dir": "x"}}, "set.output_dir: each run has a folder of its own; give output"),
    ({"set": {"decay_policy": "all"}}, "set.decay_policy: it belongs to an arm"),
    ({"set": {"dose": 0.1}, "doses": [0.1]}, "set.dose: the study has doses already"),
    ({"set": {"weight_decay": 0.1}, "coefficients": [0.1]}, "the study has coefficients already"),
    ({"set": {"learning_rate": None}}, "set.learning_rate: is empty; give a value"),
    ({"set": {"init_noise": 0.1}, "a_a": True}, "set.init_noise: the A/A cell alone has it"),
    ({"a_a": "yes"}, "a_a: expected keys and values such as true, or"),
    ({"a_a": True, "arms": {**ARMS, "none-again": {"policy": "iwd"}}}, "'none-again', as one of"),
    ({"arms": {**ARMS, "x": {"policy": "no.yaml"}}}, r"arms.x.policy: no file .*no.yaml"),
    ({"arms": {**ARMS, "x": {"policy": {}}}}, "arms.x.policy: no field is given"),
    ({"arms": {**ARMS, "x": {"policy": False}}}, "arms.x.policy: expected text, got False"),
    ({"design": "categories"}, "design: it makes the arms itself; give design or arms"),
    ({"design": "category", "arms": None}, "unknown design 'category'; did you mean 'categories'"),
    ({"design": "categories", "arms": None, "baseline": "nil"}, "no arm is called 'nil'"),
]


@pytest.mark.parametrize(("changes", "problem"), WRONG_RECIPES, ids=lambda value: str(value)[:60])
def test_a_mistake_about_a_recipe_is_named(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(GammaError, match=problem):
        of_recipe(tmp_path, **changes)


def test_an_error_names_the_line(tmp_path: Path) -> None:
    file = config(tmp_path, arms={"none": {}, "all": {"set": {"secnds": 3}}})
    line = 1 + file.read_text().splitlines().index("      secnds: 3")
    with pytest.raises(GammaError, match=rf"study.yaml:{line}: arms.all.set.secnds: the command"):
        read_study(file)


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "seeds: 1\nseeds: 2\n", ""])
def test_a_file_that_is_no_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(GammaError, match=r"x\.yaml"):
        read_study(tmp_path / "x.yaml")


def test_a_folder_or_nothing_in_place_of_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.yaml"):
        with pytest.raises(GammaError, match=str(path)):
            read_study(path)


@pytest.mark.parametrize(
    ("scores", "name"),
    [
        (("final.eval_accuracy",), "accuracy"),
        (("scores.a.sacrebleu", "scores.b.sacrebleu"), "sacreBLEU, mean of 2"),
        (("final.eval_LP_accuracy", "final.eval_f1"), "LP accuracy, F1, mean of 2"),
    ],
)
def test_a_metric_is_called_as_its_field_writes_it(scores: tuple[str, ...], name: str) -> None:
    metric = Metric(
        scores=scores, higher_is_better=True, unit="", scale=1.0, smallest_difference=None
    )
    assert metric.name == name
