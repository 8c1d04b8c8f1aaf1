"""Strong regularisation follows skipped steps, closures, and runs that are resumed."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import GammaError, make_optimizer
from gamma_nlp.companions.strong.regularizer import KEY, StrongRegularizer
from tests.support.regularized import (
    NAMES,
    adamw,
    backward,
    network,
    same,
    sgd,
    train,
    train_with,
    weights,
    zeros,
)


@pytest.mark.parametrize("through", ["plain", "by policy"])
@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "direction", "l1": 0.6, "threshold": 0.5},
        {"rule": "direction", "l1": 0.01, "threshold": 0.3, "metric": "preconditioner"},
        {"rule": "delayed", "l1": 0.05, "delay_steps": 9, "every": 2},
        {"rule": "magnitude", "l1": 0.2, "ratio": 8.0, "scope": "tensor", "every": 5},
    ],
    ids=lambda settings: settings["rule"],
)
def test_a_resumed_run_continues_as_if_it_had_not_stopped(
    through: str, settings: Any, tmp_path: Any
) -> None:
    def start() -> tuple[nn.Module, StrongRegularizer]:
        model = network()
        if through == "plain":
            optimizer = adamw(model)
        else:
            optimizer = make_optimizer(
                torch.optim.AdamW, model, weight_decay=0.1, lr=0.01, policy="none", table=table()
            )
        return model, StrongRegularizer(optimizer, names=NAMES, **settings)

    model, whole = start()
    train(model, whole.optimizer, 30)
    stopped, first = start()
    train(stopped, first.optimizer, 13)
    torch.save([stopped.state_dict(), first.optimizer.state_dict()], tmp_path / "state")
    saved, state = torch.load(tmp_path / "state")
    resumed, second = start()
    train(resumed, second.optimizer, 2)  # what it did before must not survive the load
    resumed.load_state_dict(saved)
    second.optimizer.load_state_dict(state)
    train(resumed, second.optimizer, 17, first=13)
    assert same(resumed, model) and zeros(model) > 0
    assert str(second.report()) == str(whole.report())
    assert second.history() == whole.history()


def table() -> Any:
    from gamma_nlp import GainTable, Role

    names = [name for name, _ in network().named_parameters()]
    roles = {name: Role.WEIGHT if "weight" in name else Role.BIAS for name in names}
    return GainTable(gains=(), roles=roles)


def test_states_with_and_without_its_entry_load_into_each_other() -> None:
    model = network()
    plain = sgd(model)
    train(model, plain, 2)
    state = copy.deepcopy(plain.state_dict())
    strong = StrongRegularizer(plain, names=NAMES, l1=0.01)
    plain.load_state_dict(state)
    assert KEY in plain.state_dict()
    strong.remove()
    assert KEY not in plain.state_dict()
    other = network()
    train_with(other, l1=0.05, rule="always", every=2, steps=4)
    saved = train_with(other, l1=0.05, rule="always", every=2, steps=4).optimizer.state_dict()
    plain.load_state_dict(saved)
    wider = nn.Sequential(nn.Linear(11, 16), *list(network())[1:])
    with pytest.raises(GammaError, match=r"zeros of '0.weight' have shape \(16, 12\)"):
        StrongRegularizer(sgd(wider), names=NAMES, l1=0.05).optimizer.load_state_dict(saved)


def test_a_step_that_a_grad_scaler_skips_counts_for_nothing() -> None:
    settings: Any = {"names": NAMES, "l1": 0.05, "rule": "direction", "threshold": 0.5}
    model, plain = network(), network()
    optimizer, other = adamw(model, fused=True), adamw(plain, fused=True)
    strong, without = (StrongRegularizer(one, **settings) for one in (optimizer, other))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(24):
        backward(model, step)
        for p in model.parameters():
            assert p.grad is not None
            p.grad.mul_(scaler.scale(torch.ones(())))
        if overflow := step % 5 == 3:
            model[0].weight.grad[0, 0] = math.inf
        scaler.step(optimizer)
        scaler.update()
        if not overflow:
            backward(plain, step)
            other.step()
        assert same(model, plain), step
    assert zeros(model) > 0
    assert str(strong.report()) == str(without.report()) and strong.report().steps == 19


def test_an_overflow_at_a_decision_leaves_its_steps_to_the_next() -> None:
    model = network()
    optimizer = adamw(model, lr=0.01, fused=True)
    StrongRegularizer(optimizer, names=NAMES, l1=1.0, rule="always", every=2)
    before = weights(model)[1].detach().clone()
    for step in range(1, 5):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.grad_scale = torch.tensor(1.0)
        optimizer.found_inf = torch.tensor(float(step == 2))
        optimizer.step()
    expected = before.sign() * (before.abs() - 0.03).clamp(min=0)
    torch.testing.assert_close(weights(model)[1].detach(), expected)


@pytest.mark.parametrize("way", ["keyword", "position", "thrice"])
def test_a_closure_is_followed_by_one_decision(way: str) -> None:
    class Thrice(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            with torch.enable_grad():
                losses = [closure() for _ in range(3)]
            for p in self.param_groups[0]["params"]:
                p.add_(p.grad, alpha=-self.param_groups[0]["lr"])
            return losses[0]

    model, plain = network(), network()
    cls: Any = Thrice if way == "thrice" else torch.optim.SGD
    optimizer = cls(model.named_parameters(), lr=0.1)
    other = torch.optim.SGD(plain.named_parameters(), lr=0.1)
    strong = StrongRegularizer(optimizer, names=NAMES, l1=0.05, rule="direction", threshold=0.5)
    StrongRegularizer(other, names=NAMES, l1=0.05, rule="direction", threshold=0.5)

    for step in range(6):

        def closure(step: int = step) -> Tensor:
            backward(model, step)
            return torch.tensor(1.0)

        done = optimizer.step(closure=closure) if way == "keyword" else optimizer.step(closure)
        assert float(done) == 1.0
        backward(plain, step)
        other.step()
    assert same(model, plain) and strong.totals()[2] == 6


def test_a_tensor_without_a_gradient_is_left_alone() -> None:
    model = network()
    optimizer = adamw(model)
    strong = StrongRegularizer(optimizer, names=NAMES, l1=0.5, rule="always")
    backward(model, 0)
    model[2].weight.grad = None
    before = model[2].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[2].weight, before) and zeros(model) > 0
    rows = {row.name: row.acted for row in strong.report().rows}
    assert rows["0.weight"] == 1 and math.isnan(rows["2.weight"])


def test_two_of_them_with_one_optimizer_save_their_states_apart() -> None:
    def start() -> tuple[nn.Module, list[StrongRegularizer]]:
        model = network()
        optimizer = adamw(model)
        return model, [
            StrongRegularizer(
                optimizer, names=[name], l1=l1, rule="delayed", delay_steps=delay, every=2
            )
            for name, l1, delay in (("0.weight", 0.5, 4), ("2.weight", 1.0, 9))
        ]

    model, (one, other) = start()
    train(model, one.optimizer, 20)
    stopped, (first, _) = start()
    train(stopped, first.optimizer, 7)
    resumed, (second, third) = start()
    resumed.load_state_dict(stopped.state_dict())
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    train(resumed, second.optimizer, 13, first=7)
    assert same(resumed, model) and zeros(model) > 0
    assert [str(second.report()), str(third.report())] == [str(one.report()), str(other.report())]


def test_an_optimizer_that_accelerate_prepared_is_followed() -> None:
    from accelerate import Accelerator

    model, prepared = network(), network()
    optimizer: Any = Accelerator(cpu=True).prepare(sgd(prepared))
    StrongRegularizer(optimizer, names=NAMES, l1=0.05, rule="always")
    train(prepared, optimizer, 5)
    bare = sgd(model)
    StrongRegularizer(bare, names=NAMES, l1=0.05, rule="always")
    train(model, bare, 5)
    assert same(prepared, model) and zeros(model) > 0
