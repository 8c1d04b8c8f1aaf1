"""Checkpoints restore moments by parameter name, and the options of the run decide its decay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gamma_nlp import GammaError
from tests.support.fairseq_runs import ADAM, PRECISIONS, Session, is_gain, need_fairseq

need_fairseq()


@pytest.mark.usefixtures("flat_on_cpu")
@pytest.mark.parametrize("precision", ["float32", "memory-efficient", "flat"])
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
