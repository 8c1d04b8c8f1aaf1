"""Checkpoints restore moments by parameter name, and the options of the run decide its decay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp import GammaError
from tests.support.fairseq_runs import (
    ADAM,
    PRECISIONS,
    TINY,
    Session,
    call,
    is_gain,
    need_fairseq,
)

need_fairseq()


@pytest.mark.usefixtures("flat_on_cpu")
@pytest.mark.parametrize(
    "precision", ["float32", "memory-efficient", "memory-efficient-bf16", "flat"]
)
def test_states_follow_their_names_and_the_present_policy_decides(
    begin: Callable[..., Session], precision: str
) -> None:
    first = begin(*ADAM, *PRECISIONS[precision])
    first.train(2)
    saved = first.optimizer.state_dict()
    moments = _moments(first)
    second = begin(*ADAM, *PRECISIONS[precision], "--decay-policy", "all")
    second.optimizer.load_state_dict(saved, {"eps": 1e-3})
    assert all(group["eps"] == 1e-3 for group in second.optimizer.param_groups)
    decayed = {
        n for g in second.optimizer.param_groups if g["weight_decay"] for n in g["param_names"]
    }
    assert {n for n, _ in second.model.named_parameters() if is_gain(n)} <= decayed
    loaded = _moments(second)
    assert {value.dtype for value in loaded.values()} == {torch.float32}
    assert all(torch.equal(value, moments[name]) for name, value in loaded.items())


def _moments(run: Session) -> dict[str, torch.Tensor]:
    optimizer = run.optimizer.optimizer
    return {
        name: optimizer.state[p]["exp_avg"].clone()
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }


def saved(run: Session, folder: Path) -> str:
    file = folder / "saved.pt"
    run.trainer.consolidate_optimizer()
    run.trainer.save_checkpoint(str(file), {"train_iterator": {"epoch": 1}})
    return str(file)


@pytest.mark.usefixtures("flat_on_cpu")
@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("float32", 0), ("flat", 1e-3)],  # fairseq saves half-precision weights without their copies
)
def test_a_resumed_run_is_the_run_that_went_on(
    begin: Callable[..., Session], tmp_path: Path, precision: str, tolerance: float
) -> None:
    whole, resumed = (begin(*ADAM, *PRECISIONS[precision]) for _ in range(2))
    whole.train(2)
    file = saved(whole, tmp_path)
    whole.train(3)
    resumed.trainer.load_checkpoint(file)
    resumed.train(3)
    expected = whole.weights()
    for name, value in resumed.weights().items():
        if not (precision == "flat" and name.endswith("k_proj.bias")):  # its gradient is rounding
            torch.testing.assert_close(value, expected[name], rtol=0, atol=tolerance, msg=name)


def test_a_checkpoint_of_another_optimizer_is_refused_without_a_reset(
    begin: Callable[..., Session], tmp_path: Path
) -> None:
    file = saved(begin("--optimizer", "adam"), tmp_path)
    ours = begin(*ADAM)
    with pytest.raises(GammaError, match=r"saved.pt: .*FairseqAdam vs GammaAdam.*add --reset"):
        ours.trainer.load_checkpoint(file)
    ours.trainer.load_checkpoint(file, reset_optimizer=True)
    with pytest.raises(AssertionError, match="GammaAdam vs FairseqAdam"):
        begin("--optimizer", "adam").trainer.load_checkpoint(saved(ours, tmp_path))


def test_a_checkpoint_of_another_criterion_names_both(
    begin: Callable[..., Session], tmp_path: Path
) -> None:
    file = saved(begin(*ADAM), tmp_path)
    state = torch.load(file, weights_only=False)
    state["optimizer_history"][-1]["criterion_name"] = "Other"
    torch.save(state, file)
    expected = r"its criterion was another \(Other vs LabelSmoothed\w+\), so its moments"
    with pytest.raises(GammaError, match=expected):
        begin(*ADAM).trainer.load_checkpoint(file)


def test_overrides_cannot_erase_the_decay(begin: Callable[..., Session]) -> None:
    run = begin(*ADAM)
    with pytest.raises(GammaError, match="weight_decay would erase the decay"):
        run.optimizer.load_state_dict(run.optimizer.state_dict(), {"weight_decay": 0.0})


def test_a_state_of_another_optimizer_is_refused(begin: Callable[..., Session]) -> None:
    stock, ours = begin("--optimizer", "adam"), begin(*ADAM)
    with pytest.raises(GammaError, match="--reset-optimizer"):
        ours.optimizer.load_state_dict(stock.optimizer.state_dict())


TINY_DECAY = ["--weight-decay", 1e-6]  # of which rounding would take all
TOWARD_START = {"target": "start", "schedule": {"kind": "cosine", "end": 0.1}}


@pytest.mark.parametrize(
    ("precision", "decay", "before", "after"),
    [
        ("float32", 1e-6, 2, 4),  # all of it is due at the last update
        ("memory-efficient", 0.02, 25, 15),  # some of it at the thirtieth
        ("memory-efficient-bf16", 0.1, 12, 8),
    ],
)
def test_deferred_decay_targets_and_ramps_go_on_where_they_were(
    begin: Callable[..., Session],
    tmp_path: Path,
    precision: str,
    decay: float,
    before: int,
    after: int,
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(TOWARD_START))
    words = [*ADAM, *PRECISIONS[precision], "--decay-policy", policy, "--weight-decay", decay]
    whole, resumed = (begin(*words, "--max-update", before + after) for _ in range(2))
    whole.train(before)
    file = saved(whole, tmp_path)
    whole.train(after)
    resumed.trainer.load_checkpoint(file)
    resumed.train(after)
    expected = whole.weights()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.weights().items())
    states = (one.optimizer.optimizer.state_dict() for one in (whole, resumed))
    (groups, state), (expected_groups, expected_state) = (
        (one["param_groups"], one["state"]) for one in states
    )
    assert groups == expected_groups
    assert all(group["gamma_taken"] for group in groups if group["weight_decay"])
    assert sum("gamma_start" in one for one in state.values()) == 11
    for key, one in state.items():
        assert all(torch.equal(*pair) for pair in _tensors(one, expected_state[key]))


def _tensors(*states: dict[str, Any]) -> list[tuple[torch.Tensor, ...]]:
    keys = [key for key, value in states[0].items() if isinstance(value, torch.Tensor)]
    return [tuple(state[key] for state in states) for key in keys]


def test_a_run_counted_in_epochs_knows_its_end_when_it_resumes(data: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(TOWARD_START))
    words = [data, *TINY, *ADAM, *TINY_DECAY, "--decay-policy", policy, "--disable-validation"]
    words += ["--max-update", 0, "--max-epoch", 3]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert call("train", *words, "--save-dir", whole) == 0
    killed.mkdir()
    shutil.copy(whole / "checkpoint1.pt", killed / "checkpoint_last.pt")
    assert call("train", *words, "--save-dir", killed) == 0
    one, other = (
        torch.load(folder / "checkpoint_last.pt", map_location="cpu") for folder in (whole, killed)
    )
    for name, value in one["model"].items():
        if "_float_tensor" not in name:  # a buffer whose memory fairseq never fills
            assert torch.equal(value, other["model"][name]), name
    (group, *_), (resumed, *_) = (
        state["last_optimizer_state"]["param_groups"] for state in (one, other)
    )
    assert group == resumed
    assert group["gamma_steps"] == group["gamma_last"] == group["gamma_calls"]


def test_overrides_cannot_erase_what_is_due(begin: Callable[..., Session]) -> None:
    run = begin(*ADAM)
    with pytest.raises(GammaError, match="gamma_due would erase the decay"):
        run.optimizer.load_state_dict(run.optimizer.state_dict(), {"gamma_due": 0.0})


def test_what_was_deferred_stays_so_although_the_gains_have_moved(
    begin: Callable[..., Session], tmp_path: Path
) -> None:
    words = [*ADAM, "--weight-decay", 4.37e-5]  # rounding takes it from gains of 1, not of 1.1
    whole, resumed, anew = (begin(*words) for _ in range(3))
    whole.train(4)
    file = saved(whole, tmp_path)
    resumed.trainer.load_checkpoint(file)
    assert _deferred(resumed) == _deferred(whole)
    anew.trainer.load_checkpoint(file, reset_optimizer=True)
    anew.trainer._build_optimizer()
    assert _deferred(anew) != _deferred(whole)
    for one in (whole, resumed):
        one.train(16)
    expected = whole.weights()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.weights().items())


def _deferred(run: Session) -> set[str]:
    groups = run.optimizer.param_groups
    return {name for group in groups if "gamma_share" in group for name in group["param_names"]}
