from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from gamma_nlp.study.found import find
from gamma_nlp.study.item_sums import read_sums
from gamma_nlp.study.pairs import alone, pair
from gamma_nlp.tasks.run.items import Items, read_items, write_items
from tests.support.studies import ACCURACY, TEST_SETS, Fake, change, fail

Edit = Callable[[np.ndarray, Mapping[str, np.ndarray]], Items]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return Fake(items=40, seeds=(1, 2, 3)).write(tmp_path / "study")


def edit(study: Path, run: str, change: Edit) -> None:
    file = study / "runs" / run / "items" / "validation.npz"
    items = read_items(file)
    write_items(file, change(items.ids, items.columns))


def test_scores_follow_from_their_items(study: Path) -> None:
    found, sums, notes = read_sums(find(study))
    assert len(found.runs) == 6 and not notes and not found.left_out
    for run in found.runs:
        one = sums[run.run.file][ACCURACY]
        assert one.statistic.score(one.sums.sum(axis=0)) == pytest.approx(run.scores[ACCURACY])


def test_items_in_another_order_are_put_in_order(study: Path) -> None:
    before = read_sums(find(study))[1]
    edit(study, "all-seed1", lambda ids, columns: Items(
        ids=ids[::-1], columns={name: column[::-1] for name, column in columns.items()}
    ))  # fmt: skip
    after = read_sums(find(study))[1]
    for file, of_run in before.items():
        np.testing.assert_array_equal(of_run[ACCURACY].sums, after[file][ACCURACY].sums)


def test_a_score_that_is_not_that_of_its_items_is_left_out(study: Path) -> None:
    told = json.loads((study / "runs/all-seed2/results.json").read_text())["final"]
    change(study, "all-seed2", final__eval_accuracy=told["eval_accuracy"] - 0.025)
    found, _, _ = read_sums(find(study))
    (line,) = found.left_out
    assert line.startswith("runs/all-seed2/results.json: final.eval_accuracy is 0.")
    assert "its items in validation.npz give" in line
    assert len(found.runs) == 5


def test_one_item_in_two_thousand_is_seen(tmp_path: Path) -> None:
    study = Fake(items=2000, seeds=(1, 2)).write(tmp_path)
    told = json.loads((study / "runs/all-seed2/results.json").read_text())["final"]
    change(study, "all-seed2", final__eval_accuracy=told["eval_accuracy"] + 1 / 2000)
    assert len(read_sums(find(study))[0].left_out) == 1


def test_other_items_than_the_others_are_left_out(study: Path) -> None:
    edit(study, "all-seed3", lambda ids, columns: Items(
        ids=np.char.add("x-", ids), columns=columns
    ))  # fmt: skip
    found, _, _ = read_sums(find(study))
    assert found.left_out == (
        "runs/all-seed3/results.json: items of final.eval_accuracy: 40 ids, 40 in the others: "
        "40 that the others lack (x-item-0...) and 40 fewer than the others (item-0...)",
    )


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("columns", ["corect"], "has no column 'corect'; did you mean 'correct'?"),
        ("columns", ["correct", "loss"], "statistic mean takes the columns 'value', and 2 were"),
        ("statistic", "meen", "no statistic 'meen'; did you mean 'mean'?"),
        ("statistic", "bleu", "column 'counts' has shape (40,), expected (items, 10)"),
    ],
)
def test_a_source_that_cannot_be_is_named(key: str, value: object, line: str, study: Path) -> None:
    file = study / "runs" / "all-seed1" / "results.json"
    results = json.loads(file.read_text())
    results["items"][ACCURACY][key] = value
    file.write_text(json.dumps(results))
    (left_out,) = read_sums(find(study))[0].left_out
    assert "all-seed1" in left_out and line in left_out


def test_a_run_without_its_items_counts_and_its_arm_has_no_items(study: Path) -> None:
    file = study / "runs" / "all-seed1" / "items" / "validation.npz"
    file.write_bytes(file.read_bytes()[:200])
    found, sums, notes = read_sums(find(study))
    assert len(found.runs) == 6
    assert "all-seed1/items/validation.npz" in notes[0] and "counts, without its items" in notes[0]
    one = pair(found, sums, found.study.cell("all"))
    assert one is not None and one.seeds == (1, 2, 3) and not one.sets


def test_foreign_runs_without_items_are_compared_over_seeds(study: Path) -> None:
    for run in ("none", "all"):
        for seed in (1, 2, 3):
            change(study, f"{run}-seed{seed}", items={})
    found, sums, notes = read_sums(find(study))
    assert notes == [
        "no run has items for final.eval_accuracy: where they lack, intervals are over seeds alone"
    ]
    one = pair(found, sums, found.study.cell("all"))
    assert one is not None and not one.sets


def test_pairs_hold_the_seeds_that_both_have_and_say_which_not(study: Path) -> None:
    fail(study, "all-seed2")
    fail(study, "none-seed3")
    found, sums, _ = read_sums(find(study))
    one = pair(found, sums, found.study.cell("all"))
    assert one is not None and one.seeds == (1,) and one.items == 40
    assert alone(found) == [
        "all against none: seed 3 not compared, since none lacks it",
        "all against none: seed 2 not compared, since all lacks it",
    ]


def test_bleu_over_four_sets_is_the_mean_of_four(tmp_path: Path) -> None:
    found, sums, _ = read_sums(find(Fake(bleu=True, items=30, seeds=(1, 2)).write(tmp_path)))
    assert len(found.runs) == 4 and not found.left_out
    one = pair(found, sums, found.study.cell("all"))
    assert one is not None and len(one.sets) == len(TEST_SETS)
    assert one.sets[0].baseline_sums.shape == (2, 30, 10)
