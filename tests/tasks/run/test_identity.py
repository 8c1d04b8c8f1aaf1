"""What makes two runs the same, and what a resumed run is made of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.run.identity import (
    differences,
    digest,
    identity,
    joined,
    rates_of_parts,
    report_parts,
)
from tests.support.glue_runs import BERT, experiment


def changed(tmp_path: Path, *options: str) -> list[str]:
    """The settings that differ between a run and one with more options."""
    argv = experiment(tmp_path, Path("not read"))
    found = []
    for words in (argv, [*argv, *options]):
        recipe, args = read_arguments(words)
        found.append(identity(recipe, args, recipe.policy(), BERT))
    return [text.split(" ")[0] for text in differences(*found)]


def test_what_trains_the_weights_belongs_to_the_run(tmp_path: Path) -> None:
    assert changed(tmp_path, "--learning_rate", "2e-3") == ["learning_rate"]
    policy = ["decay_policy", "policy.branch_inner", "policy.branch_last", "policy.head"]
    assert changed(tmp_path, "--decay_policy", "none") == [
        *policy,
        "policy.name",
        "policy.shortcut",
    ]
    for option, value in (
        ("lr_scheduler_type", "cosine"),
        ("warmup_steps", "3"),
        ("adam_beta2", "0.9"),
        ("optim", "adafactor"),
        ("max_grad_norm", "0.5"),
        ("max_length", "32"),
        ("data_seed", "3"),
        ("dataloader_drop_last", "true"),
        ("train_sampling_strategy", "random"),
    ):
        assert changed(tmp_path, f"--{option}", value) == [option]


def test_where_it_runs_and_what_it_keeps_and_tells_may_change(tmp_path: Path) -> None:
    free = {
        "output_dir": "elsewhere",
        "logging_steps": "7",
        "save_total_limit": "9",
        "cpu_threads": "1",
        "per_device_eval_batch_size": "3",
        "data": "moved",
        "num_train_epochs": "5",
    }
    assert (
        changed(tmp_path, *(word for key, value in free.items() for word in (f"--{key}", value)))
        == []
    )


def test_a_number_that_was_typed_again_is_the_same() -> None:
    assert not differences({"weight_decay": 0.123456789}, {"weight_decay": 0.123457})
    assert differences({"weight_decay": 0.1}, {"weight_decay": None}) == [
        "weight_decay was 0.1 and is not set"
    ]


def test_the_rates_of_a_resumed_run_are_those_of_each_part() -> None:
    one = {"from_step": 0, "num_train_epochs": 1, "max_steps": -1}
    two = {"from_step": 2, "num_train_epochs": 2, "max_steps": -1}

    def plan(args: SimpleNamespace) -> list[float]:
        return [float(args.num_train_epochs)] * (4 * args.num_train_epochs)

    args = SimpleNamespace(num_train_epochs=2, max_steps=-1)
    parts = joined([one], two)
    rates = rates_of_parts(parts, args, plan)
    assert rates == [1.0, 1.0, *[2.0] * 6]
    found = report_parts(parts, rates, 7)
    assert [(one["from_step"], one["to_step"]) for one in found] == [(0, 2), (2, 7)]
    assert [one["sum_of_learning_rates"] for one in found] == [2.0, 10.0]


def test_a_part_that_left_no_checkpoint_is_no_part() -> None:
    parts = joined([{"from_step": 0}, {"from_step": 4}], {"from_step": 4, "again": True})
    assert parts == [{"from_step": 0}, {"from_step": 4, "again": True}]


def test_other_data_has_another_digest() -> None:
    one, other = [("a", 1), ("b", 0)], [("a", 1), ("b", 1)]
    assert digest(one) == digest(list(one)) != digest(other)


@pytest.mark.parametrize("bad", ["\ud800"])
def test_text_that_cannot_be_encoded_has_a_digest(bad: str) -> None:
    assert digest([bad]) != digest(["x"])
