"""Norms and effective rates settle where the formulas say, under real optimizers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import gamma_nlp
from gamma_nlp import DecayPolicy, GammaError
from gamma_nlp.companions.effective import EffectiveRate, effective_lr

ROWS, SIZE = 16, 64
SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW


def settled(cls: Any, lr: float, decay: float, **kwargs: Any) -> tuple[EffectiveRate, float, float]:
    """What is predicted once the norm has settled, the norm, and the angle per step.

    All start at a norm of 3. The loss of each row is <noise, w / |w|>, with new noise at every
    step. Averages are taken over the second half.
    """
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(ROWS, SIZE, generator=generator) * (3 / SIZE**0.5)
    optimizer = cls([("w", w.requires_grad_())], lr=lr, weight_decay=decay, **kwargs)
    steps = int(3.5 / (lr * decay))
    norms, turns = [], []
    for step in range(steps):
        noise = torch.randn(ROWS, SIZE, generator=generator)
        with torch.no_grad():
            length = w.norm(dim=1, keepdim=True)
            unit = w / length
            w.grad = (noise - unit * (noise * unit).sum(1, keepdim=True)) / length
        optimizer.step()
        if step > steps // 2:
            after = w.detach()
            norms.append(after.norm())
            turns.append(
                2 * ((after / after.norm(dim=1, keepdim=True) - unit).norm(dim=1) / 2).asin()
            )
    return (
        effective_lr(optimizer)[0],
        float(torch.stack(norms).mean()),
        float(torch.stack(turns).square().mean().sqrt()),
    )


CASES = {
    # optimizer, its arguments, exponents of |w| and of the rate in (lr, decay), allowed part off
    "sgd": (SGD, {}, (1 / 4, -1 / 4), (1 / 2, 1 / 2), 0.10),
    "momentum": (SGD, {"momentum": 0.9}, (1 / 4, -1 / 4), (1 / 2, 1 / 2), 0.10),
    "adamw": (ADAMW, {"betas": (0.9, 0.95)}, (1 / 2, -1 / 2), (1 / 2, 1 / 2), 0.10),
    "adam": (ADAM, {"betas": (0.9, 0.95)}, (1 / 3, -1 / 3), (2 / 3, 1 / 3), 0.15),
}


@pytest.mark.parametrize("case", CASES)
def test_exponents_of_norm_and_rate_are_those_of_theory(case: str) -> None:
    cls, kwargs, of_norm, of_rate, allowed = CASES[case]
    low, high = (0.02, 0.05), (0.08, 0.2)
    runs = {
        (lr, decay): settled(cls, lr, decay, **kwargs)
        for lr, decay in [low, (high[0], low[1]), (low[0], high[1])]
    }
    power = 2 if cls is SGD else 1
    norms = {point: norm for point, (_, norm, _) in runs.items()}
    rates = {point: point[0] / norms[point] ** power for point in runs}
    for which, point in enumerate([(high[0], low[1]), (low[0], high[1])]):
        ratio = math.log(high[which] / low[which])
        norm_exponent = math.log(norms[point] / norms[low]) / ratio
        rate_exponent = math.log(rates[point] / rates[low]) / ratio
        assert norm_exponent == pytest.approx(of_norm[which], rel=allowed)
        assert rate_exponent == pytest.approx(of_rate[which], rel=allowed)
    for predicted, norm, turned in runs.values():
        assert norm == pytest.approx(predicted.equilibrium_norm, rel=0.05)
        assert turned == pytest.approx(predicted.equilibrium_angle, rel=0.08)


def one(optimizer: Any) -> EffectiveRate:
    return effective_lr(optimizer)[0]


def test_rates_are_those_of_the_optimizer() -> None:
    w = torch.full((4,), 1.0, requires_grad=True)  # norm 2
    w.grad = torch.full((4,), 0.5)
    assert one(SGD([w], lr=0.8)).rate == pytest.approx(0.2)
    assert one(SGD([w], lr=0.8, momentum=0.75)).rate == pytest.approx(0.8)
    assert one(ADAM([w], lr=0.8)).rate == pytest.approx(0.4)
    assert one(ADAMW([w], lr=torch.tensor(0.8))).rate == pytest.approx(0.4)


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
    with pytest.raises(GammaError, match="Adagrad; known are SGD"):
        effective_lr(torch.optim.Adagrad([w]))
