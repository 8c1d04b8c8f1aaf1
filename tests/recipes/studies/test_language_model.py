"""The language model's runs: paired over policies, whole results, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from gamma_nlp import Category, categorize
from gamma_nlp.tasks.run.items import read_items
from recipes.studies.language_model import DEFAULTS, LanguageArguments, main, make_model, setup
from recipes.studies.training import read_arguments
from tests.recipes.studies.test_corpus import write_sources

SMALL = [
    *("--vocabulary", "300", "--context", "16", "--windows", "8", "--layers", "1"),
    *("--width", "32", "--max_steps", "4", "--eval_steps", "2", "--logging_steps", "1"),
    *("--warmup_steps", "1"),
]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("text") / "lib")


def words(text: Path, *more: str) -> list[str]:
    return [*SMALL, "--sources", str(text), "--corpus", str(text.parent / "kept"), *more]


def run(text: Path, out: Path, *more: str) -> dict[str, Any]:
    assert main(words(text, "--output_dir", str(out), *more)) == 0
    found: dict[str, Any] = json.loads((out / "results.json").read_text("utf-8"))
    return found


def test_a_run_writes_all_that_a_report_reads(text: Path, tmp_path: Path) -> None:
    found = run(text, tmp_path / "a", "--decay_policy", "all", "--dose", "0.01", "--seed", "3")
    assert {"policy", "settings", "versions", "hardware", "groups", "wall_seconds"} <= found.keys()
    assert found["seed"] == 3 and found["steps"] == found["planned_steps"] == 4
    assert [entry["step"] for entry in found["history"]] == [2, 4]
    assert found["final"] == found["history"][-1]
    assert found["data"].keys() == {"train", "validation"}
    assert found["dose"]["branch_inner"]["dose"] == pytest.approx(0.01, rel=0.01)
    assert len(found["curves"]["loss"]) == 4 and found["curves"]["gain_norm"].keys() == {
        "branch_inner",
        "head",
    }
    for score, source in found["items"].items():
        items = read_items(tmp_path / "a" / source["file"])
        over, under = (items.columns[name] for name in source["columns"])
        value = found["final"][score.removeprefix("final.")]
        assert source["statistic"] == "ratio"
        assert over.sum() / under.sum() == pytest.approx(value, rel=1e-5)


def test_policies_share_weights_order_and_first_loss(text: Path, tmp_path: Path) -> None:
    one = run(text, tmp_path / "one", "--decay_policy", "none", "--dose", "0.5")
    other = run(text, tmp_path / "other", "--decay_policy", "all", "--dose", "0.5")
    again = run(text, tmp_path / "again", "--decay_policy", "none", "--dose", "0.5")
    moved = run(text, tmp_path / "m", "--decay_policy", "none", "--dose", "0.5", *NOISE)
    seeds = run(text, tmp_path / "s", "--decay_policy", "none", "--dose", "0.5", "--seed", "7")
    losses = [run["curves"]["loss"] for run in (one, other, again, moved, seeds)]
    assert losses[0][0] == losses[1][0] != losses[4][0]  # before the first step, all is the same
    assert losses[0][1:] != losses[1][1:] and one["groups"] != other["groups"]
    assert losses[0] == losses[2] and one["final"] == again["final"]
    assert one["data"] == other["data"] == seeds["data"]
    assert one["final"]["eval_loss"] == pytest.approx(moved["final"]["eval_loss"], rel=1e-3)
    items = [read_items(tmp_path / name / "items/validation.npz") for name in ("one", "m")]
    assert (items[0].ids == items[1].ids).all()
    assert (items[0].columns["loss"] != items[1].columns["loss"]).any()


NOISE = ("--init_noise", "1e-6")


@pytest.mark.parametrize("norms", ["pre", "sandwich"])
def test_models_of_a_pair_differ_in_query_and_key_norms_alone(norms: Any) -> None:
    plain, normed = (
        LanguageArguments(norms=norms, qk_norm=qk_norm, layers=2) for qk_norm in (False, True)
    )
    weights = []
    for recipe in (plain, normed):
        transformers.set_seed(1)
        weights.append(dict(make_model(recipe, 300).named_parameters()))
    more = weights[1].keys() - weights[0].keys()
    assert more and all(name.split(".")[-2] in ("q_norm", "k_norm") for name in more)
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_sandwich_norms_end_branches_and_pre_norms_do_not() -> None:
    found = {
        norms: {g.category for g in categorize(make_model(LanguageArguments(norms=norms), 300))}
        for norms in ("pre", "sandwich")
    }
    inner = {Category.BRANCH_INNER, Category.HEAD}
    assert found == {"pre": inner, "sandwich": inner | {Category.BRANCH_LAST}}


def test_the_order_of_rows_is_the_seed_s_and_covers_the_corpus(text: Path) -> None:
    orders = {}
    for seed in (1, 2):
        recipe, args = read_arguments(
            LanguageArguments, words(text, "--seed", str(seed), "--max_steps", "200"), DEFAULTS, "x"
        )
        orders[seed] = setup(recipe, args).train.columns["input_ids"]
    assert orders[1].shape == orders[2].shape == (800, 16) and not torch.equal(*orders.values())
    rows = len(np.unique(orders[1].numpy(), axis=0))
    assert rows == len(np.unique(orders[2].numpy(), axis=0)) > 100  # every window, more than once


def test_a_finished_run_is_kept_and_wrong_words_leave_nothing(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(text, tmp_path / "a", "--dose", "0.1")
    before = (tmp_path / "a" / "results.json").read_bytes()
    for more, said in (
        (["--output_dir", str(tmp_path / "a"), "--dose", "0.1"], "already holds a run"),
        (["--output_dir", str(tmp_path / "b"), "--decay_policy", "al"], "unknown policy 'al'"),
        (["--output_dir", str(tmp_path / "b"), "--norms", "post"], "norms"),
        (["--output_dir", str(tmp_path / "b"), "--dose", "0.1", "--resume"], "leave --resume out"),
        (["--output_dir", str(tmp_path / "b"), "--dose", ".1", "--decay_mode", "coupled"], "dose"),
    ):
        capsys.readouterr()
        assert main(words(text, *more)) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "b").exists()
    assert (tmp_path / "a" / "results.json").read_bytes() == before
