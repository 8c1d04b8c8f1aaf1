"""Units keep their norm, in every precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp.companions.effective_rate.invariance import scale_invariant
from gamma_nlp.companions.effective_rate.unit_norm import WITHIN, UnitNorm
from tests.support.unit_norms import HELD, REPORT, Sheet, adamw, norms, train


def test_each_unit_keeps_its_norm_and_other_tensors_are_left_alone() -> None:
    model, plain = Sheet(), Sheet()
    before = norms(model)
    optimizer = adamw(model)
    UnitNorm(optimizer, HELD, invariance=REPORT)
    train(model, optimizer, 5)
    train(plain, adamw(plain), 5)
    for name, norm in norms(model).items():
        torch.testing.assert_close(norm, before[name])
        assert not torch.allclose(norms(plain)[name], before[name], rtol=1e-3)
    assert torch.equal(model.free, plain.free)


@pytest.mark.parametrize("per", ["unit", "tensor"])
def test_the_fast_form_equals_the_reference(per: str) -> None:
    first, second = Sheet(), Sheet()
    fast = UnitNorm(adamw(first), HELD, invariance=REPORT, per=per)
    slow = UnitNorm(adamw(second), HELD, invariance=REPORT, per=per)
    for turn in range(3):
        for model in (first, second):
            torch.manual_seed(turn)
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(torch.randn_like(p))
        fast.apply()
        slow.apply_reference()
        for name in HELD:
            torch.testing.assert_close(getattr(first, name), getattr(second, name))


def test_a_norm_of_ones_choice_is_reached_at_once() -> None:
    model = Sheet()
    UnitNorm(adamw(model), HELD, invariance=REPORT, norm=2.5)
    for norm in norms(model).values():
        torch.testing.assert_close(norm, torch.full_like(norm, 2.5))


def test_as_a_whole_a_tensor_keeps_its_norm_while_its_rows_move() -> None:
    model = Sheet()
    whole, rows = model.rows.detach().norm(), norms(model)["rows"]
    optimizer = adamw(model)
    UnitNorm(optimizer, ["rows"], invariance=REPORT, per="tensor")
    train(model, optimizer, 5)
    torch.testing.assert_close(model.rows.detach().norm(), whole)
    assert not torch.allclose(norms(model)["rows"], rows, rtol=1e-3)


def test_norms_are_put_back_every_so_many_steps() -> None:
    model = Sheet()
    optimizer = adamw(model)
    held = UnitNorm(optimizer, HELD, invariance=REPORT, every=3)
    kept = []
    for _ in range(7):
        train(model, optimizer, 1)
        kept.append(torch.allclose(norms(model)["whole"], held.norms["whole"], rtol=1e-4))
    assert kept == [False, False, True, False, False, True, False]


@pytest.mark.parametrize(
    ("dtype", "within"),
    [
        (torch.float64, WITHIN),
        (torch.float32, WITHIN),
        (torch.bfloat16, 2**-8),
        (torch.float16, 2**-11),
    ],
)
@pytest.mark.parametrize("per", ["unit", "tensor"])
def test_every_precision_keeps_its_norm_up_to_its_rounding(
    dtype: torch.dtype, within: float, per: str
) -> None:
    for factor in (1.0005, 1.003, 0.996, 1.02, 0.7, 3.0):
        for apply in (UnitNorm.apply, UnitNorm.apply_reference):
            model = Sheet().to(dtype)
            held = UnitNorm(adamw(model), HELD, invariance=REPORT, per=per)
            with torch.no_grad():
                for name in HELD:
                    getattr(model, name).mul_(factor)
            apply(held)
            for name, now in zip(HELD, held._norms(), strict=True):
                wanted = held.norms[name]
                assert float((now / wanted - 1).detach().abs().max()) <= within * 1.01, (
                    name,
                    factor,
                )
                assert wanted.dtype == (dtype if dtype == torch.float64 else torch.float32)


def test_a_far_norm_is_reached_at_once() -> None:
    model = Sheet().double()
    with torch.no_grad():
        model.whole.mul_(1e-30)
    UnitNorm(adamw(model), ["whole"], invariance=REPORT, norm=1.0)
    assert float(model.whole.detach().norm()) == pytest.approx(1.0)


def test_tensors_of_several_precisions_and_shapes_are_held_together() -> None:
    some = [torch.ones(()), torch.ones(2, 3, dtype=torch.float64).T, torch.ones(5).half()]
    tensors = [nn.Parameter(one) for one in some]
    names = ["0.0", "0.1", "0.2"]
    held = UnitNorm(torch.optim.SGD(tensors, lr=0.1), names, force=True)
    with torch.no_grad():
        for w in tensors:
            w.mul_(3)
    held.apply()
    for w in tensors:
        torch.testing.assert_close(w.detach(), torch.ones_like(w))


def test_half_precision_keeps_its_norm_up_to_rounding() -> None:
    model = Sheet().bfloat16()
    before = norms(model.float())["heads"]
    model = model.bfloat16()
    optimizer = adamw(model)
    UnitNorm(optimizer, ["heads"], invariance=REPORT)
    train(model, optimizer, 20)
    torch.testing.assert_close(norms(model.float())["heads"], before, rtol=0.01, atol=0)


def test_a_network_computes_the_same_with_its_tensors_held() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.LayerNorm(6, eps=1e-12), nn.Linear(6, 2))
    x = torch.randn(5, 4)
    before = net(x)
    report = scale_invariant(net, x)
    UnitNorm(adamw(net), [one.names[0] for one in report], invariance=report, norm=1.0)
    assert float(net[0].weight.detach().norm()) == pytest.approx(1.0)
    torch.testing.assert_close(net(x), before)


def test_norms_that_are_off_by_no_more_than_rounding_cost_no_writing() -> None:
    model = Sheet()
    held = UnitNorm(adamw(model), HELD, invariance=REPORT)
    with torch.no_grad():
        model.whole.mul_(1 + WITHIN / 2)
        model.rows[3].mul_(1 + 2 * WITHIN)  # one row is enough for the tensor
        model.heads.mul_(1 - 2 * WITHIN)
    before = {name: getattr(model, name).detach().clone() for name in HELD}
    held.apply()
    changed = [name for name in HELD if not torch.equal(getattr(model, name), before[name])]
    assert changed == ["rows", "heads"]
    for name in changed:
        torch.testing.assert_close(norms(model)[name].flatten(), held.norms[name].flatten())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_unit_that_has_become_zero_stays_zero_and_the_others_are_held(dtype: Any) -> None:
    model = Sheet().to(dtype)
    held = UnitNorm(adamw(model), ["rows"], invariance=REPORT)
    for apply in (held.apply, held.apply_reference):
        with torch.no_grad():
            model.rows[3] = 0
            model.rows[4] *= 2
        apply()
        now = norms(model)["rows"].float()
        assert float(now[3]) == 0.0
        torch.testing.assert_close(now[4], held.norms["rows"].flatten()[4], rtol=2e-3, atol=0)
