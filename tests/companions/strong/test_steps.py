"""The rules compare the optimizer's step with the penalty's, under any optimizer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import GammaError
from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from gamma_nlp.companions.strong.rules import StrongSettings
from gamma_nlp.companions.strong.steps import compare
from tests.support.regularized import NAMES, backward, network, weights

OPTIM = torch.optim


class Foreign(OPTIM.Adam):
    """One that this package knows nothing of."""

    __module__ = "elsewhere"


class Future(OPTIM.Adam):
    """One that a later torch may bring."""

    __module__ = "torch.optim.future"


@pytest.mark.parametrize(
    ("cls", "settings", "apart"),
    [
        (OPTIM.AdamW, {}, True),
        (OPTIM.SGD, {}, True),
        (OPTIM.SGD, {"momentum": 0.5}, False),
        (OPTIM.Adam, {}, False),
        (OPTIM.Adam, {"decoupled_weight_decay": True}, True),
        (Foreign, {"decoupled_weight_decay": True}, False),
        (Future, {"decoupled_weight_decay": True}, False),
    ],
)
@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_both_steps_are_lengths_in_the_weights(
    cls: Any, settings: Any, apart: bool, l1: float, l2: float
) -> None:
    """Each under its own learning rate, without decoupled decay; L1 sees no weight that is 0."""
    torch.manual_seed(0)
    before = [torch.randn(size, dtype=torch.float64) for size in (5, 3)]
    before[0][1] = 0.0
    rates, steps = [0.1, 0.02], [torch.randn_like(w) for w in before]
    groups = [{"params": [nn.Parameter(w)], "lr": lr} for w, lr in zip(before, rates, strict=True)]
    optimizer = cls(groups, weight_decay=0.5, **settings)
    after = [w * (1 - lr * 0.5) - g for w, lr, g in zip(before, rates, steps, strict=True)]
    how = StrongSettings(l1=l1, l2=l2)
    found = compare(optimizer, [(0, 0), (1, 0)], before, after, how)
    for row, w, lr, g in zip(found, before, rates, steps, strict=True):
        g = (g if apart else g + lr * 0.5 * w) * ((w != 0) | (l1 == 0))
        r = lr * (l1 * w.sign() + l2 * w)
        torch.testing.assert_close(row.double(), torch.stack([g @ g, g @ r, r @ r]))


@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_in_a_metric_the_penalty_takes_the_proximal_step(l1: float, l2: float) -> None:
    before = [torch.tensor([1.0, 0.0, -2.0, 0.125], dtype=torch.float64)]
    w, g = before[0], torch.tensor([0.25, 0.5, -1.0, 2.0], dtype=torch.float64)
    optimizer = OPTIM.SGD([nn.Parameter(w)], lr=0.5, momentum=0.5)  # which doubles a gradient
    how = StrongSettings(l1=l1, l2=l2, metric="preconditioner")
    (found,) = compare(optimizer, [(0, 0)], before, [w - g], how)
    r = w - w.sign() * (w.abs() - l1).clamp(min=0) / (1 + l2)
    g = g * ((w != 0) | (l1 == 0))
    torch.testing.assert_close(found.double(), torch.stack([g @ g, g @ r, r @ r]))


@pytest.mark.skipif(not hasattr(OPTIM, "Muon"), reason="torch is older than Muon")
def test_muons_own_decay_is_no_step_of_the_loss() -> None:
    w = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    optimizer = OPTIM.Muon([w], lr=0.1, weight_decay=0.5)
    before, w.grad = w.detach().clone(), torch.zeros_like(w)
    optimizer.step()
    found = compare(optimizer, [(0, 0)], [before], [w.detach()], StrongSettings(l2=1.0))
    assert found[0, 0] == pytest.approx(0.0, abs=1e-20)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("rule", ["direction", "magnitude"])
def test_under_sgd_without_momentum_the_gradients_decide(rule: Any, decay: float) -> None:
    model, l1 = network(dtype=torch.float64), 0.05
    optimizer = OPTIM.SGD(model.named_parameters(), lr=0.1, weight_decay=decay)
    strong = StrongRegularizer(optimizer, names=NAMES, l1=l1, rule=rule, threshold=0.3, ratio=2.6)
    expected = []
    for step in range(25):
        backward(model, step)
        w = torch.cat([one.detach().flatten() for one in weights(model)])
        g = torch.cat([one.grad.flatten() for one in weights(model)])
        g, r = g[w != 0], l1 * w[w != 0].sign()
        cosine = float(g @ (g + r) / (g.norm() * (g + r).norm()))
        direction = cosine >= 0.3
        expected.append(direction if rule == "direction" else bool(r.norm() <= 2.6 * g.norm()))
        optimizer.step()
        assert strong.history()[-1].coherence == pytest.approx(cosine, abs=1e-5)
    assert [bool(span.acted) for span in strong.history()] == expected
    assert 0 < sum(expected) < 25


def lasting(cls: Any, ratio: float, steps: int = 60, **settings: Any) -> bool:
    """Whether it acts at last, where the gradient is 0.25 at every step and l1 is 1."""
    w = nn.Parameter(torch.full((50,), 3e3))
    optimizer = cls([w], **{"lr": 1.0, **settings})
    strong = StrongRegularizer(optimizer, names=["0.0"], l1=1.0, rule="magnitude", ratio=ratio)
    for _ in range(steps):
        w.grad = torch.full_like(w, -0.25 if settings.get("maximize") else 0.25)
        optimizer.step()
    return strong.history()[-1].acted == 1


@pytest.mark.parametrize(
    ("settings", "gain"),
    [
        ({}, 1),
        ({"maximize": True}, 1),
        ({"momentum": 0.75}, 4),
        ({"momentum": 0.75, "nesterov": True}, 4),
        ({"momentum": 0.75, "dampening": 0.5}, 2),
        ({"momentum": 0.75, "foreach": True, "maximize": True}, 4),
    ],
)
def test_momentum_makes_a_lasting_gradient_count_for_more(settings: Any, gain: float) -> None:
    edge = 1 / (0.25 * gain)  # |r| over |g|
    assert lasting(OPTIM.SGD, ratio=edge * 1.01, **settings)
    assert not lasting(OPTIM.SGD, ratio=edge * 0.99, **settings)


def test_adams_step_is_as_large_as_its_learning_rate_whatever_the_gradient() -> None:
    assert lasting(OPTIM.AdamW, ratio=1.01, weight_decay=0.0)
    assert not lasting(OPTIM.AdamW, ratio=0.99, weight_decay=0.0)


@pytest.mark.parametrize("cls", [OPTIM.AdamW, OPTIM.SGD])
def test_the_optimizers_own_decay_is_no_step_of_the_loss(cls: Any) -> None:
    w = nn.Parameter(torch.randn(50, dtype=torch.float64))
    optimizer = cls([w], lr=0.1, weight_decay=0.5)
    strong = StrongRegularizer(optimizer, names=["0.0"], l1=1e-9, rule="magnitude", ratio=100.0)
    w.grad = torch.zeros_like(w)
    optimizer.step()
    assert strong.report().acted == 0.0  # the loss has taken nothing, so nothing is too large


@pytest.mark.parametrize("rule", ["always", "delayed", "direction"])
@pytest.mark.parametrize(("delay", "rates"), [(9, 1), (10, 10), (4, 6), (0, 10)])
def test_what_is_delayed_is_left_out_and_not_put_off(rule: Any, delay: int, rates: int) -> None:
    if rule == "delayed" and not delay:
        return
    w = nn.Parameter(torch.ones(3))
    optimizer = OPTIM.SGD([w], lr=0.01)
    how: dict[str, Any] = {"rule": rule, "delay_steps": delay, "every": 10, "threshold": -1}
    StrongRegularizer(optimizer, names=["0.0"], l1=1.0, **how)
    for _ in range(20 if delay == 10 else 10):
        w.grad = torch.zeros_like(w)
        optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((3,), 1 - 0.01 * rates))


def test_l2_times_the_rates_above_one_makes_zeros_and_no_other_signs() -> None:
    w = nn.Parameter(torch.ones(3))
    optimizer = OPTIM.SGD([w], lr=0.5)
    StrongRegularizer(optimizer, names=["0.0"], l2=1.0, rule="always", every=5)
    for _ in range(5):
        w.grad = torch.zeros_like(w)
        optimizer.step()
    assert w.tolist() == [0.0, 0.0, 0.0]


def test_a_group_that_comes_later_does_no_harm() -> None:
    model = network()
    optimizer = OPTIM.SGD([model[0].weight], lr=0.1)
    strong = StrongRegularizer(optimizer, names=["0.weight"], model=model, l1=1.0, rule="always")
    optimizer.add_param_group({"params": [model[2].weight]})
    backward(model, 0)
    optimizer.step()
    assert strong.report().sparsity > 0 and not bool((model[2].weight == 0).any())


def test_odd_shapes_are_shrunk_and_reported() -> None:
    shapes: list[Tensor] = [torch.ones(()), torch.ones(0, 3), torch.ones(4, 6).T, torch.ones(5)]
    tensors = [nn.Parameter(one.clone(memory_format=torch.preserve_format)) for one in shapes]
    tensors[3].requires_grad_(False)
    optimizer = OPTIM.Adam(tensors, lr=torch.tensor(0.1))
    names = [f"0.{i}" for i in range(4)]
    for metric in ("euclidean", "preconditioner"):
        how: Any = {"rule": "always", "metric": metric}
        strong = StrongRegularizer(optimizer, names=names, l1=50.0, **how)
        for w in tensors[:3]:
            w.grad = torch.ones_like(w)
        optimizer.step()
        rows = strong.report().rows
        assert [row.zeros for row in rows] == [1, 0, 24, 0] and "0.1" in str(strong.report())
        assert math.isnan(rows[3].acted)
        strong.remove()
    empty = OPTIM.SGD([nn.Parameter(torch.ones(0))], lr=0.1)
    report = StrongRegularizer(empty, names=["0.0"], l1=1.0).report()
    assert report.sparsity == 0.0 and "0.0%" in str(report)


def test_frozen_tensors_alone_are_refused() -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = OPTIM.SGD(model.parameters(), lr=0.1)
    with pytest.raises(GammaError, match=r"are frozen \('0\.weight'\), so nothing would happen"):
        StrongRegularizer(optimizer, names=["0.weight"], model=model, l1=1.0)
    StrongRegularizer(optimizer, names=NAMES, model=model, l1=1.0)


def test_what_has_no_sign_or_no_rate_is_refused() -> None:
    complex_one = OPTIM.SGD([nn.Parameter(torch.ones(2, dtype=torch.complex64))], lr=0.1)
    with pytest.raises(GammaError, match=r"'0\.0' has complex numbers, which have no sign"):
        StrongRegularizer(complex_one, names=["0.0"], l1=1.0)
    relative = OPTIM.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    relative.param_groups[0]["lr"] = None
    with pytest.raises(GammaError, match=r"group of '0\.0' has no lr"):
        StrongRegularizer(relative, names=["0.0"], l1=1.0)


ADAPTIVE = [
    (OPTIM.Adam, {"lr": 0.01}),
    (OPTIM.Adam, {"lr": 0.01, "amsgrad": True, "foreach": True}),
    (OPTIM.AdamW, {"lr": 0.01, "fused": True, "weight_decay": 0.1}),
    (OPTIM.NAdam, {"lr": 0.01, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    (OPTIM.Adamax, {"lr": 0.01}),
    (OPTIM.RMSprop, {"lr": 0.01, "alpha": 0.5}),
    (OPTIM.Adagrad, {"lr": 0.05}),
    (OPTIM.Adafactor, {"lr": 0.01}),
]


def shares(cls: Any, settings: Any, scale: float, **how: Any) -> tuple[float, float]:
    model = network(dtype=torch.float64)
    optimizer = cls(model.named_parameters(), **settings)
    strong = StrongRegularizer(optimizer, names=NAMES, **how)
    for step in range(25):
        backward(model, step)
        for p in model.parameters():
            p.grad.mul_(scale)
        optimizer.step()
    return strong.report().acted, strong.report().coherence


@pytest.mark.parametrize(("cls", "settings"), ADAPTIVE)
@pytest.mark.parametrize(
    ("rule", "limit", "tried"),
    [
        ("direction", "threshold", (0.2, 0.5, 0.8)),
        ("magnitude", "ratio", (0.3, 0.6, 0.9, 1.5, 4.0)),
    ],
)
def test_the_scale_of_the_loss_changes_nothing_where_it_does_not_change_the_steps(
    cls: Any, settings: Any, rule: Any, limit: str, tried: tuple[float, ...]
) -> None:
    settings = {**settings, "eps": (1e-30, 1e-3) if cls is OPTIM.Adafactor else 1e-30}

    def found(scale: float, at: float) -> tuple[float, float]:
        return shares(cls, settings, scale, l1=0.6, rule=rule, scope="tensor", **{limit: at})

    at, first = next((at, one) for at in tried if 0 < (one := found(1.0, at))[0] < 1)
    for scale in (1e-3, 1e3):
        assert found(scale, at) == pytest.approx(first, rel=1e-3)
