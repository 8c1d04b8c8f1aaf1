from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.study.results.found import find
from tests.support.studies import Fake, change


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs as recipes leave them, without a study around them."""
    folder = Fake(items=40, seeds=(1, 2, 3)).write(tmp_path / "study")
    (folder / "study.json").unlink()
    return folder


def test_cells_are_made_of_policies(runs: Path) -> None:
    found = find(runs, baseline="none", metric=["eval_accuracy"], margin=0.5)
    assert [cell.name for cell in found.study.cells] == ["none", "all"]
    assert found.study.cell("all").against == "none"
    assert found.study.cell("all").dose == 0.095
    assert len(found.of("all")) == 3
    assert found.study.metric.unit == "points" and found.study.metric.smallest_difference == 0.5


def test_weight_decay_tells_cells_apart_and_each_has_its_own_baseline(runs: Path) -> None:
    for policy in ("none", "all"):
        for seed in (1, 2, 3):
            shutil.copytree(runs / f"runs/{policy}-seed{seed}", runs / f"more/{policy}-{seed}")
            file = runs / f"more/{policy}-{seed}" / "results.json"
            results = json.loads(file.read_text()) | {"weight_decay": 0.7}
            file.write_text(json.dumps(results))
    found = find(runs, baseline="none", metric=["final.eval_accuracy"])
    against = {cell.name: cell.against for cell in found.study.cells}
    assert against == {
        "none wd=0.7": None, "none wd=0.1": None,
        "all wd=0.7": "none wd=0.7", "all wd=0.1": "none wd=0.1",
    }  # fmt: skip
    assert len(found.runs) == 12


def test_runs_without_a_policy_are_named_by_their_folders(tmp_path: Path) -> None:
    for arm, score in (("base", 3.0), ("new", 2.5)):
        for seed in (1, 2):
            folder = tmp_path / f"{arm}-seed{seed}"
            folder.mkdir()
            (folder / "results.json").write_text(
                json.dumps({"seed": seed, "perplexity": score + seed})
            )
    found = find(tmp_path, baseline="base", metric=["perplexity"])
    assert [cell.name for cell in found.study.cells] == ["base", "new"]
    assert not found.study.metric.higher_is_better
    assert found.of("new")[2].value == 4.5


def test_two_runs_of_one_arm_and_seed_are_both_left_out(runs: Path) -> None:
    shutil.copytree(runs / "runs/all-seed1", runs / "runs/copy")
    found = find(runs, baseline="none", metric=["eval_accuracy"])
    assert list(found.of("all")) == [2, 3]
    assert "are all all, seed 1; keep one of them" in found.left_out[0]


def test_data_of_two_kinds_is_never_averaged(runs: Path) -> None:
    change(runs, "all-seed1", data__validation="other")
    found = find(runs, baseline="none", metric=["eval_accuracy"])
    assert list(found.of("all")) == [2, 3]
    assert "data.validation is 'other'" in found.left_out[0]


def test_a_baseline_that_no_run_has_is_named(runs: Path) -> None:
    with pytest.raises(GammaError, match=r"^--baseline: no run of 'nome'; did you mean 'none'\?$"):
        find(runs, baseline="nome", metric=["eval_accuracy"])
    with pytest.raises(GammaError, match=r"no run of 'timm'; there are 'all', 'none'$"):
        find(runs, baseline="timm", metric=["eval_accuracy"])


def test_a_score_of_an_unknown_kind_needs_a_direction(tmp_path: Path) -> None:
    for arm, value in (("a", 0.3), ("b", 0.2)):
        for seed in (1, 2):
            (tmp_path / f"{arm}-seed{seed}").mkdir()
            results = {"seed": seed, "wer": value + 0.01 * seed}
            (tmp_path / f"{arm}-seed{seed}" / "results.json").write_text(json.dumps(results))
    with pytest.raises(GammaError, match=r"say which way 'wer' is better: --better higher, or"):
        find(tmp_path, baseline="a", metric=["wer"])
    found = find(tmp_path, baseline="a", metric=["wer"], higher_is_better=False)
    assert not found.study.metric.higher_is_better


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=r"no run below .* has a results.json that can be read$"):
        find(tmp_path, baseline="none", metric=["accuracy"])


def bare(folder: Path, **keys: list[Any]) -> Path:
    """Runs of two arms and two seeds, whose results hold one value of each key: a1, a2, b1, b2."""
    for place, (arm, seed) in enumerate(itertools.product("ab", (1, 2))):
        run = folder / f"{arm}-seed{seed}"
        run.mkdir()
        results = {"seed": seed} | {key: values[place] for key, values in keys.items()}
        (run / "results.json").write_text(json.dumps(results))
    return folder


def test_a_mean_of_scores_of_two_kinds_or_of_one_score_is_refused(tmp_path: Path) -> None:
    runs = bare(tmp_path, accuracy=[0.5, 0.6, 0.7, 0.8], loss=[1.0, 1.1, 1.2, 1.3])
    with pytest.raises(GammaError, match=r"--metric: the mean of accuracy and loss means nothing"):
        find(runs, baseline="a", metric=["accuracy", "loss"])
    with pytest.raises(GammaError, match=r"--metric: 'accuracy' is there twice; leave one out$"):
        find(runs, baseline="a", metric=["accuracy", "accuracy"])


def test_accuracies_in_per_cent_are_shown_as_they_are(tmp_path: Path) -> None:
    found = find(bare(tmp_path, accuracy=[88, 89.5, 90, 91]), baseline="a", metric=["accuracy"])
    assert [run.value for run in found.runs] == [88, 89.5, 90, 91]
    assert any("is in per cent already" in note for note in found.notes)
    (tmp_path / "b-seed1" / "results.json").write_text(json.dumps({"seed": 1, "accuracy": 0.9}))
    found = find(tmp_path, baseline="a", metric=["accuracy"])
    assert len(found.left_out) == 3  # some in per cent, one not: nothing says which is meant


def test_of_two_arms_on_two_kinds_of_data_the_baseline_stands(tmp_path: Path) -> None:
    data = [{"train": "one"}] * 2 + [{"train": "two"}] * 2
    runs = bare(tmp_path, accuracy=[0.5, 0.6, 0.7, 0.8], data=data)
    for base, other in ("ab", "ba"):
        found = find(runs, baseline=base, metric=["accuracy"])
        assert list(found.of(base)) == [1, 2] and not found.of(other)


@pytest.mark.parametrize(
    ("decay", "rates", "dose"), [(0.1, -1e9, None), (1e300, 1e300, 1.0), (0.1, 1.0, 0.095)]
)
def test_a_dose_is_told_where_there_is_one(
    decay: float, rates: float, dose: float | None, tmp_path: Path
) -> None:
    sums = {"weight_decay": [decay] * 4, "sum_of_learning_rates": [rates] * 4}
    runs = bare(tmp_path, accuracy=[0.5, 0.6, 0.7, 0.8], **sums)
    found = find(runs, baseline="a", metric=["accuracy"])
    assert {cell.dose for cell in found.study.cells} == {dose}
