"""Norms and effective rates settle where the formulas say, under real optimizers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import gamma_nlp
from gamma_nlp import DecayPolicy, GammaError
from gamma_nlp.companions.effective_rate.rate import EffectiveRate, effective_lr
from recipes.effective_lr.equilibrium import ALLOWED, THEORY, Point, fit, simulate

SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW


@pytest.mark.parametrize("rule", THEORY)
def test_exponents_of_norm_and_rate_are_those_of_theory(rule: str) -> None:
    points = []
    for lr, decay in [(0.02, 0.05), (0.08, 0.05), (0.02, 0.2)]:
        cell = {"rule": rule, "lr": lr, "decay": decay, "seed": 0}
        run = simulate(cell, {"turnovers": 3.5})
        assert run["norm"] == pytest.approx(run["predicted"]["norm"], rel=0.05)
        assert run["rate"] == pytest.approx(run["predicted"]["rate"], rel=0.10)
        assert run["angle"] == pytest.approx(run["predicted"]["angle"], rel=0.08)
        settled, rate = run["predicted"]["norm"], run["rate"]
        points.append(
            Point(tensor="w", lr=lr, decay=decay, norm=run["norm"], predicted=settled, rate=rate)
        )
    fitted = fit(points)
    assert fitted is not None
    assert fitted.off(THEORY[rule]) < ALLOWED[rule]


def one(optimizer: Any) -> EffectiveRate:
    return effective_lr(optimizer)[0]


def test_rates_are_those_of_the_optimizer() -> None:
    w = torch.full((4,), 1.0, requires_grad=True)  # norm 2
    w.grad = torch.full((4,), 0.5)
    assert one(SGD([w], lr=0.8)).rate == pytest.approx(0.2)
    assert one(SGD([w], lr=0.8, momentum=0.75)).rate == pytest.approx(0.8)
    assert one(ADAM([w], lr=0.8)).rate == pytest.approx(0.4)
    assert one(ADAMW([w], lr=torch.tensor(0.8))).rate == pytest.approx(0.4)


@pytest.mark.parametrize(
    "settings", [{}, {"dampening": 0.25}, {"nesterov": True}], ids=["plain", "dampened", "nesterov"]
)
def test_rate_and_angle_are_those_of_all_steps_that_one_gradient_makes(settings: Any) -> None:
    w = torch.zeros(1, requires_grad=True)
    optimizer, steps = SGD([w], lr=1.0, momentum=0.75, **settings), []
    for step in range(60):
        before = w.item()
        w.grad = torch.full((1,), float(step == 1))  # the first one would go undampened
        optimizer.step()
        steps.append(before - w.item())
    w.data.fill_(2.0)
    w.grad = torch.ones(1)  # 2 at norm 1
    optimizer.param_groups[0]["weight_decay"] = 0.01
    found = one(optimizer)
    assert found.rate == pytest.approx(sum(steps) / 2**2)
    turned = math.sqrt(sum(step**2 for step in steps)) * 2 / found.equilibrium_norm**2
    assert found.equilibrium_angle == pytest.approx(turned)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", [SGD, ADAM, ADAMW, torch.optim.RMSprop])
def test_every_precision_has_the_same_rates(make: Any, dtype: torch.dtype) -> None:
    w = torch.full((4, 2), 1.0, dtype=dtype, requires_grad=True)
    plain = torch.full((4, 2), 1.0, requires_grad=True)
    optimizer = make([w, plain], lr=2.0**-6, weight_decay=0.25)
    for _ in range(3):
        w.grad, plain.grad = torch.full_like(w, 0.5), torch.full_like(plain, 0.5)
        optimizer.step()
    mine, other = effective_lr(optimizer)
    for key in ("norm", "rate", "equilibrium_norm", "equilibrium_rate", "equilibrium_angle"):
        assert getattr(mine, key) == pytest.approx(getattr(other, key), rel=2e-2), key


def test_odd_shapes_have_rates_and_complex_ones_are_refused() -> None:
    some = [torch.ones(()), torch.ones(0, 3), torch.ones(4, 6, dtype=torch.float64).T]
    tensors = [one.requires_grad_() for one in some]
    for w in tensors:
        w.grad = torch.ones_like(w)
    norms = [one.norm for one in effective_lr(SGD(tensors, lr=0.1, weight_decay=0.1))]
    assert norms == pytest.approx([1, 0, 24**0.5])
    w = torch.ones(3, dtype=torch.complex64, requires_grad=True)
    with pytest.raises(GammaError, match=r"shape \(3,\) has complex numbers"):
        effective_lr(SGD([w], lr=0.1))


@pytest.mark.parametrize("make", [ADAM, torch.optim.RMSprop])
def test_the_size_of_gradients_is_known_from_the_first_step(make: Any) -> None:
    w = torch.ones(4, requires_grad=True)
    optimizer = make([w], lr=0.0, weight_decay=0.0)
    for _ in range(2):
        w.grad = torch.full((4,), 0.5)
        optimizer.step()
    optimizer.param_groups[0].update(lr=0.1, weight_decay=0.25)
    # lr |u| d**0.5 / (2 decay), with |u| = |gradient| |w| = 2 here, d = 4
    assert one(optimizer).equilibrium_norm == pytest.approx((0.1 * 2 * 2 / 0.5) ** (1 / 3))


def test_amsgrad_has_no_equilibrium_and_is_refused() -> None:
    w = torch.ones(4, requires_grad=True)
    with pytest.raises(GammaError, match="amsgrad=True: it divides by the largest gradients ever"):
        effective_lr(ADAMW([w], lr=0.1, amsgrad=True))


def test_without_decay_the_norm_grows_for_ever_and_the_rate_goes_to_zero() -> None:
    w = torch.ones(4, requires_grad=True)
    w.grad = torch.ones(4)
    rate = one(SGD([w], lr=0.1))
    assert rate.equilibrium_norm == math.inf
    assert (rate.equilibrium_rate, rate.equilibrium_angle) == (0.0, 0.0)


def test_sgd_without_a_gradient_says_that_its_equilibrium_is_not_known() -> None:
    rate = one(SGD([torch.ones(4, requires_grad=True)], lr=0.1, weight_decay=0.1))
    assert math.isnan(rate.equilibrium_norm)
    assert rate.rate == pytest.approx(0.025)


def test_decay_by_the_step_hook_counts() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    table = gamma_nlp.categorize(model, torch.randn(2, 4))
    coupled = replace(DecayPolicy.load("guidelines"), mode="coupled")
    optimizer = gamma_nlp.make_optimizer(
        ADAMW, model, weight_decay=0.1, lr=0.1, table=table, policy=coupled
    )
    (rate,) = effective_lr(optimizer, ["0.weight"])
    assert (rate.rule, rate.weight_decay) == (("adam", "coupled"), 0.1)


def test_a_model_gives_names_to_an_optimizer_without() -> None:
    model = torch.nn.Linear(3, 2)
    rates = effective_lr(SGD(model.parameters(), lr=0.1), ["weight"], model)
    assert rates[0].norm == pytest.approx(float(model.weight.detach().norm()))


def test_names_and_optimizers_that_are_not_known_are_refused() -> None:
    w = torch.ones(4, requires_grad=True)
    with pytest.raises(GammaError, match=r"no parameter 'q'; it has '0\.0'"):
        effective_lr(SGD([w], lr=0.1), ["q"])
    with pytest.raises(GammaError, match=r"Adagrad; use one of torch\.optim's SGD"):
        effective_lr(torch.optim.Adagrad([w]))


def test_a_gradient_of_zero_has_an_equilibrium_of_zero_and_no_angle() -> None:
    for make in (SGD, ADAM):
        w = torch.ones(4, requires_grad=True)
        w.grad = torch.zeros(4)
        rate = one(make([w], lr=0.1, weight_decay=0.1))
        assert (rate.equilibrium_norm, rate.equilibrium_rate) == (0.0, math.inf)
        assert math.isnan(rate.equilibrium_angle)


def test_what_cannot_be_meant_is_refused() -> None:
    w: Any = torch.ones(4, requires_grad=True)
    with pytest.raises(GammaError, match=r"momentum 1 never forgets"):
        effective_lr(SGD([w], lr=0.1, momentum=1.0))
    with pytest.raises(GammaError, match=r"names must be a list of names.*write \['0\.0'\]"):
        effective_lr(SGD([w], lr=0.1), "0.0")
    with pytest.raises(GammaError, match="optimizer is a Tensor; expected a torch"):
        effective_lr(w)


def test_an_optimizer_that_accelerate_prepared_has_the_rates_of_the_bare_one() -> None:
    from accelerate import Accelerator

    w = torch.ones(4, requires_grad=True)
    w.grad = torch.ones(4)
    bare = SGD([w], lr=0.1, weight_decay=0.1)
    assert effective_lr(Accelerator(cpu=True).prepare(bare)) == effective_lr(bare)
