"""Strong regularisation shrinks as its reference does, when its rule acts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp.companions.strong.reference import (
    decide_reference,
    shrink_reference,
)
from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from gamma_nlp.companions.strong.rules import (
    StrongSettings,
)
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


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "always", "l1": 0.02},
        {"rule": "always", "l2": 0.3},
        {"rule": "delayed", "l1": 0.02, "l2": 0.1, "delay_steps": 5},
        {"rule": "direction", "l1": 0.05, "threshold": 0.5},
        {"rule": "direction", "l1": 0.02, "l2": 0.1, "threshold": 0.6, "delay_steps": 3},
        {"rule": "magnitude", "l1": 0.02, "l2": 0.01, "ratio": 0.7},
        {
            "rule": "direction",
            "l1": 0.004,
            "l2": 0.02,
            "threshold": 0.4,
            "metric": "preconditioner",
        },
        {"rule": "magnitude", "l1": 0.006, "l2": 0.01, "ratio": 2.5, "metric": "preconditioner"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_each_step_equals_the_reference(make: Any, scope: Any, settings: Any) -> None:
    # Another metric's 1 / sqrt(v) magnifies rounding.
    dtype = torch.float64 if "metric" in settings else torch.float32
    fast, slow = network(dtype=dtype), network(dtype=dtype)
    ours, plain = make(fast), make(slow)
    if make is adamw and settings.get("metric") is None:  # its steps are larger than its gradients
        settings = {**settings, "l1": 20 * settings.get("l1", 0.0)}
    how = StrongSettings(scope=scope, **settings)
    StrongRegularizer(ours, names=NAMES, scope=scope, **settings)
    masks = [torch.ones_like(w, dtype=torch.bool) for w in weights(slow)]
    acted = []
    for step in range(25):
        backward(fast, step)
        backward(slow, step)
        before = [w.detach().clone() for w in weights(slow)]
        ours.step()
        plain.step()
        after = [w.detach().clone() for w in weights(slow)]
        reaches = [reach(plain, w, how) for w in weights(slow)]
        acts = decide_reference(before, after, reaches, how, step)
        for w, one, act, mask in zip(weights(slow), reaches, acts, masks, strict=True):
            if act:
                shrink_reference(w, one, how)
                mask.copy_(w != 0)
            elif how.l1:
                w.data[~mask] = 0
        acted += acts
        for a, b in zip(fast.parameters(), slow.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
            assert torch.equal(a == 0, b == 0)
    if how.rule in ("direction", "magnitude"):
        assert 0 < sum(acted) < len(acted)  # the settings try both answers


def reach(optimizer: Any, w: Tensor, how: StrongSettings) -> Any:
    (group,) = optimizer.param_groups
    if how.metric == "euclidean":
        return group["lr"]
    if isinstance(optimizer, torch.optim.SGD):
        return group["lr"] / (1 - group["momentum"])
    state = optimizer.state[w]
    debiased = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
    return group["lr"] / (debiased.sqrt() + group["eps"])


def test_l1_makes_exact_zeros_without_a_sign() -> None:
    model = network()
    train_with(model, l1=0.05, rule="always", steps=40)
    assert 0 < zeros(model) < sum(w.numel() for w in weights(model))
    assert not any(torch.signbit(w[w == 0]).any() for w in weights(model))


def test_only_the_chosen_tensors_are_shrunk() -> None:
    model, plain = network(), network()
    strong = StrongRegularizer(sgd(model), names=["2.weight"], l1=0.5, rule="always")
    backward(model, 0)
    backward(plain, 0)
    strong.optimizer.step()
    sgd(plain).step()
    for name, p in model.named_parameters():
        assert torch.equal(p, plain.get_parameter(name)) == (name != "2.weight"), name


def test_zeros_stay_zero_while_the_rule_does_not_act_and_come_back_when_it_does() -> None:
    model = network()
    optimizer = sgd(model)
    strong = StrongRegularizer(optimizer, names=NAMES, l1=0.05, rule="direction", threshold=-1)
    train(model, optimizer, 30)
    before = [w == 0 for w in weights(model)]
    strong.settings = StrongSettings(l1=0.05, rule="magnitude", ratio=0)  # never again
    train(model, optimizer, 5, first=30)
    for w, zero in zip(weights(model), before, strict=True):
        assert zero.any() and torch.equal(w == 0, zero)
    strong.settings = StrongSettings(l1=1e-6, rule="always")
    train(model, optimizer, 1, first=35)
    assert zeros(model) < 0.1 * sum(int(zero.sum()) for zero in before)


def test_weights_that_are_zero_at_the_start_are_free_until_it_acts() -> None:
    model = network()
    nn.init.zeros_(model[4].weight)
    train_with(model, l1=0.05, rule="magnitude", ratio=0.0, steps=2)
    assert not (model[4].weight == 0).any()


def test_the_delay_counts_steps_and_changes_nothing_before() -> None:
    model, plain = network(), network()
    optimizer, other = sgd(model), sgd(plain)
    strong = StrongRegularizer(optimizer, names=NAMES, l1=0.1, rule="delayed", delay_steps=4)
    train(model, optimizer, 4)
    train(plain, other, 4)
    assert same(model, plain) and strong.report().acted == 0
    train(model, optimizer, 1, first=4)
    assert zeros(model) > 0
    assert strong.report().acted == pytest.approx(1 / 5)


@pytest.mark.parametrize("tensor_lr", [False, True])
def test_a_decision_for_several_steps_shrinks_by_all_their_rates(tensor_lr: bool) -> None:
    model, plain = network(), network()
    lr: Any = torch.tensor(0.0) if tensor_lr else 0.0
    optimizer, other = (torch.optim.SGD(m.named_parameters(), lr=lr) for m in (model, plain))
    StrongRegularizer(optimizer, names=NAMES, l1=0.5, l2=0.1, rule="always", every=3)
    for step, rate in enumerate([0.01, 0.02, 0.03, 0.04]):
        for one, of in ((optimizer, model), (other, plain)):
            one.param_groups[0]["lr"] = torch.tensor(rate) if tensor_lr else rate
            backward(of, step)
            one.step()
        if step == 2:
            for w in weights(plain):
                shrink_reference(w, 0.06, StrongSettings(l1=0.5, l2=0.1))
        for a, b in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_zeros_that_moved_between_decisions_are_put_back() -> None:
    model = network()
    strong = train_with(model, l1=0.05, rule="always", every=5, steps=30)
    before = [w.detach() == 0 for w in weights(model)]
    train(model, strong.optimizer, 3, first=30)
    assert zeros(model) == 0
    strong.restore_zeros()
    assert sum(int(zero.sum()) for zero in before) > 0
    assert all(torch.equal(w == 0, zero) for w, zero in zip(weights(model), before, strict=True))


def test_ascent_on_the_negative_loss_is_the_same() -> None:
    runs = []
    for maximize in (False, True):
        model = network()
        optimizer = sgd(model, maximize=maximize)
        StrongRegularizer(optimizer, names=NAMES, l1=0.05, rule="direction", threshold=0.7)
        for step in range(12):
            backward(model, step)
            for p in model.parameters():
                p.grad.mul_(-1.0 if maximize else 1.0)
            optimizer.step()
        runs.append(model)
    assert same(*runs)


def test_strong_l1_stops_a_deep_network_and_the_rules_rescue_it() -> None:
    def trained(**settings: Any) -> tuple[float, float]:
        model = network()
        optimizer = sgd(model, lr=0.05)
        strong = StrongRegularizer(optimizer, names=NAMES, l1=0.4, **settings)
        train(model, optimizer, 300)
        x = torch.randn(500, 12, generator=torch.Generator().manual_seed(999))
        y = (x[:, :3] + 0.5 * x[:, 3:6]).argmax(1)
        error = float((model(x).argmax(1) != y).float().mean())
        return error, strong.report().sparsity

    assert trained(rule="always") == (pytest.approx(2 / 3, abs=0.05), 1.0)  # of three classes
    for settings in ({"rule": "direction", "threshold": 0.3}, {"rule": "magnitude", "ratio": 2.4}):
        error, sparsity = trained(**settings)
        assert error < 0.15 and sparsity > 0.3
