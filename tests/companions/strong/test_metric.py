"""In the metric of the optimizer's own steps, L1 and L2 end where the lasso's solution is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import GammaError
from gamma_nlp.companions.strong.metric import reaches
from gamma_nlp.companions.strong.regularizer import StrongRegularizer

CURVATURE = torch.tensor([1e4, 20.0, 2.0, 0.5])
LASSO = torch.tensor([0.9999, 0.95, 0.5, 0.0])
"""Where h (w - 1)**2 / 2 + |w| is least: 1 - 1 / h, but not below 0."""
OPTIM = torch.optim


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (OPTIM.SGD, {}),
        (OPTIM.SGD, {"dampening": 0.25}),
        (OPTIM.SGD, {"momentum": 0.5}),
        (OPTIM.SGD, {"momentum": 0.5, "dampening": 0.25}),
        (OPTIM.Adam, {"betas": (0.5, 0.999), "eps": 0.5}),
        (OPTIM.Adam, {"betas": (0.5, 0.75), "eps": 0.5, "amsgrad": True}),
        (OPTIM.AdamW, {"betas": (0.5, 0.999), "weight_decay": 0.0}),
        (OPTIM.NAdam, {"betas": (0.5, 0.999)}),
        (OPTIM.Adamax, {"eps": 0.5}),
        (OPTIM.RMSprop, {"alpha": 0.75, "eps": 0.5}),
        (OPTIM.RMSprop, {"alpha": 0.75, "eps": 0.5, "centered": True}),
        (OPTIM.RMSprop, {"alpha": 0.75, "momentum": 0.5}),
        (OPTIM.Adagrad, {"eps": 0.5, "lr_decay": 0.5}),
    ],
)
def test_a_lasting_gradient_takes_its_rate_times_the_factor(cls: Any, settings: Any) -> None:
    w, gradient = nn.Parameter(torch.zeros(3).double()), torch.tensor([2.0, -0.5, 0.125]).double()
    optimizer = cls([w], lr=0.01, **settings)
    for step in range(60):
        before = w.detach().clone()
        w.grad = gradient * (8 if step < 3 else 1)
        optimizer.step()
    (far,) = reaches(optimizer, [(0, 0)], [0.02])
    torch.testing.assert_close(2 * (before - w.detach()), far * gradient, rtol=5e-3, atol=0)


@pytest.mark.parametrize("eps", [1e-20, 1e-40])  # 1 / 1e-40 is beyond float32
def test_a_weight_without_any_gradient_becomes_zero_and_the_others_do_not_notice(
    eps: float,
) -> None:
    w = nn.Parameter(torch.ones(3))
    optimizer = OPTIM.Adam([w], lr=1e-3, eps=eps)
    how: Any = {"rule": "magnitude", "ratio": 5e3, "metric": "preconditioner"}
    strong = StrongRegularizer(optimizer, names=["0.0"], l1=1e-3, l2=1e-3, **how)
    w.grad = torch.tensor([1.0, 0.0, 1.0])
    optimizer.step()
    assert w[1] == 0 and bool((w[[0, 2]] > 0.99).all()) and strong.report().acted == 1


@pytest.mark.parametrize("cls", [OPTIM.RAdam, OPTIM.ASGD, OPTIM.Adafactor])
def test_an_optimizer_whose_metric_is_unknown_is_refused(cls: Any) -> None:
    optimizer = cls([nn.Parameter(torch.ones(2))])
    with pytest.raises(GammaError, match=f"not known for {cls.__name__}; use one of torch.optim's"):
        StrongRegularizer(optimizer, names=["0.0"], l1=1.0, metric="preconditioner")
    with pytest.raises(GammaError, match="metric must be one of 'euclidean', 'preconditioner'"):
        StrongRegularizer(optimizer, names=["0.0"], l1=1.0, metric="adam")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reaches_are_not_rounded_to_the_weights_precision(dtype: torch.dtype) -> None:
    w = nn.Parameter(torch.ones(2, dtype=dtype))
    (far,) = reaches(OPTIM.SGD([w], lr=0.5, momentum=0.7), [(0, 0)], [0.5])
    assert far.item() == pytest.approx(0.5 / (1 - 0.7), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_holds_what_a_tiny_gradient_is_divided_by(dtype: torch.dtype) -> None:
    w = nn.Parameter(torch.tensor([1.0, 2.0, -1.0], dtype=dtype))
    optimizer = OPTIM.SGD([w], lr=0.5, momentum=0.0)
    strong = StrongRegularizer(
        optimizer, names=["0.0"], l1=0.25, l2=0.0, rule="always", metric="preconditioner"
    )
    w.grad = torch.zeros_like(w)
    optimizer.step()
    assert w.tolist() == [0.875, 1.875, -0.875]
    adam = OPTIM.Adam([w], lr=0.125, eps=1e-4)
    strong.remove()
    StrongRegularizer(adam, names=["0.0"], l1=0.1, rule="always", metric="preconditioner")
    w.grad = torch.tensor([1.0, 0.0, 3e-5], dtype=dtype)
    adam.step()
    assert w[1] == 0 and w[2] == 0 and 0.7 < w[0].item() < 0.9


def solved(
    cls: Any,
    *,
    steps: int = 1200,
    curvature: Tensor = CURVATURE,
    l1: float = 1.0,
    l2: float = 0.0,
    metric: Any = "preconditioner",
    **settings: Any,
) -> Tensor:
    w = nn.Parameter(torch.full((4,), 0.3))
    lr = settings["lr"]
    optimizer = cls([w], **settings)
    StrongRegularizer(optimizer, names=["0.0"], l1=l1, l2=l2, rule="always", metric=metric)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        w.grad = curvature * (w.detach() - 1)
        optimizer.step()
    return w.detach()


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (OPTIM.AdamW, {"lr": 0.02, "weight_decay": 0.0}),
        (OPTIM.AdamW, {"lr": 0.02, "weight_decay": 0.0, "fused": True}),
        (OPTIM.Adam, {"lr": 0.02}),
        (OPTIM.NAdam, {"lr": 0.02}),
        (OPTIM.Adamax, {"lr": 0.02}),
        (OPTIM.RMSprop, {"lr": 0.01}),
        (OPTIM.RMSprop, {"lr": 0.005, "momentum": 0.5}),
        (OPTIM.Adagrad, {"lr": 0.5, "lr_decay": 1e-4}),
    ],
)
def test_l1_ends_at_the_lassos_solution(cls: Any, settings: Any) -> None:
    found = solved(cls, **settings)
    torch.testing.assert_close(found, LASSO, rtol=0, atol=2e-3)
    assert found[3] == 0


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({}, 1500), ({"momentum": 0.8}, 400), ({"momentum": 0.8, "dampening": 0.5}, 800)],
)
def test_l1_under_sgd_ends_there_with_any_momentum(settings: Any, steps: int) -> None:
    mild = torch.tensor([40.0, 20.0, 2.0, 0.5])
    found = solved(OPTIM.SGD, lr=0.02, steps=steps, curvature=mild, **settings)
    torch.testing.assert_close(found, (1 - 1 / mild).clamp(min=0), rtol=0, atol=2e-3)


def test_l1_and_l2_end_at_the_elastic_nets_solution() -> None:
    found = solved(OPTIM.AdamW, lr=0.02, weight_decay=0.0, l2=2.0)
    net = ((CURVATURE - 1) / (CURVATURE + 2)).clamp(min=0)
    torch.testing.assert_close(found, net, rtol=0, atol=2e-3)


def test_the_euclidean_step_after_adam_is_not_the_lasso() -> None:
    found = solved(OPTIM.AdamW, lr=0.02, weight_decay=0.0, l1=0.5, metric="euclidean")
    torch.testing.assert_close(found, torch.ones(4), rtol=0, atol=0.1)
