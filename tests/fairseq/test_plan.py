"""What the plan decides before training: places, coefficients, rates, and bad options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp import GammaError, categorize
from tests.support.fairseq_runs import ADAM, LANGUAGE_MODEL, Session, need_fairseq, session

need_fairseq()


@pytest.mark.parametrize(
    "schedule",
    [
        ["inverse_sqrt", "--warmup-updates", 3],
        ["polynomial_decay", "--total-num-update", 6, "--warmup-updates", 2],
    ],
)
def test_planned_rates_are_those_of_the_run(
    begin: Callable[..., Session], schedule: list[Any]
) -> None:
    from gamma_nlp.fairseq.schedule import rates_of_fairseq

    run = begin(*ADAM, "--lr-scheduler", *schedule, "--max-update", 6)
    planned, seen = rates_of_fairseq(run.trainer), []
    for _ in range(6):
        seen.append(run.trainer.get_lr())
        run.train(1)
    assert planned == pytest.approx(seen)
    assert len(set(seen)) > 2


def test_coefficients_of_categories_win_over_the_policy(begin: Callable[..., Session]) -> None:
    run = begin(*ADAM, "--decay-branch-inner", 0.25, "--decay-head", 0.5)
    decays = {
        name: group["weight_decay"]
        for group in run.optimizer.param_groups
        for name in group["param_names"]
    }
    assert decays["encoder.layers.0.final_layer_norm.weight"] == 0.25
    assert decays["decoder.layer_norm.weight"] == 0.5
    assert decays["encoder.layers.0.fc1.weight"] == 1
    assert decays["encoder.layers.0.fc1.bias"] == 0


def test_another_library_s_rule_reads_the_trainer_s_model(begin: Callable[..., Session]) -> None:
    run = begin(*ADAM, "--decay-policy", "timm")
    for group in run.optimizer.param_groups:
        dimensions = {run.model.get_parameter(name).ndim for name in group["param_names"]}
        assert (min(dimensions) > 1) is (group["weight_decay"] > 0)


def test_a_model_without_a_table_is_placed_by_its_graph(begin: Callable[..., Session]) -> None:
    table = begin(*ADAM, "--no-decoder-final-norm").optimizer._plan.table
    assert {gain.source for gain in table} == {"graph"}
    assert {str(gain.category) for gain in table} == {"branch_inner"}


def test_another_task_and_architecture_is_placed_too(data: Path, tmp_path: Path) -> None:
    options = LANGUAGE_MODEL.split()
    run = session(data.parent / "monolingual", tmp_path / "run", *ADAM, options=options)
    run.train(1)
    rows = json.loads((tmp_path / "run" / "gain_table.json").read_text())["gains"]
    assert {row["name"]: row["category"] for row in rows} == {
        "decoder.layers.0.self_attn_layer_norm.weight": "branch_inner",
        "decoder.layers.0.final_layer_norm.weight": "branch_inner",
        "decoder.layers.1.self_attn_layer_norm.weight": "branch_inner",
        "decoder.layers.1.final_layer_norm.weight": "branch_inner",
        "decoder.layer_norm.weight": "head",
    }


def test_the_plugin_knows_the_categories_that_categorize_finds(
    begin: Callable[..., Session],
) -> None:
    run = begin(*ADAM)
    batch = run.batches[0]["net_input"]
    both = categorize(run.model, batch)
    assert {gain.source for gain in both} == {"table+graph"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimizer", "gamma_adam"], "--weight-decay is 0 .* for example 1e-4"),
        ([*ADAM, "--decay-branch-last", 1], "--decay-branch-last: no gain of .* branch_last"),
        ([*ADAM, "--decay-branch-last", 0], "--decay-branch-last: no gain of .* branch_last"),
        ([*ADAM, "--decay-head", -1], "--decay-head must be a number >= 0"),
        ([*ADAM, "--weight-decay", "nan"], "--weight-decay must be a number >= 0, not nan"),
        ([*ADAM, "--decay-policy", "guidline"], "unknown policy 'guidline'.*'guidelines'"),
    ],
)
def test_bad_options_say_what_to_type(
    begin: Callable[..., Session], words: list[Any], message: str
) -> None:
    with pytest.raises(GammaError, match=message):
        begin(*words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"branch_iner": 1.0}, "unknown key 'branch_iner'; did you mean 'branch_inner'"),
        ({"branch_last": 1.0}, "no gain of TransformerModel is branch_last"),
    ],
)
def test_bad_policy_files_name_the_key(
    begin: Callable[..., Session], tmp_path: Path, content: dict[str, float], message: str
) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(content))
    with pytest.raises(GammaError, match=message):
        begin(*ADAM, "--decay-policy", file)
