"""UnitNorm holds norms, changes no function, and refuses what it would change."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import GammaError, make_optimizer
from gamma_nlp.companions.effective_rate.invariance import scale_invariant
from gamma_nlp.companions.effective_rate.report import Invariance, ScaleInvariance
from gamma_nlp.companions.effective_rate.unit_norm import WITHIN, UnitNorm

HELD = ["whole", "rows", "columns", "heads"]


class Sheet(nn.Module):
    """Tensors of all kinds of units, and one whose scale matters."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name in [*HELD, "free", "part", "one", "other"]:
            setattr(self, name, nn.Parameter(torch.randn(12, 6, generator=generator)))

    def loss(self) -> Tensor:
        return torch.stack([(p - 1).square().sum() for p in self.parameters()]).sum()


def blocks(size: int, count: int) -> tuple[tuple[int, int], ...]:
    return tuple((i * size, (i + 1) * size) for i in range(count))


REPORT = ScaleInvariance(
    model="Sheet",
    alone=(
        Invariance(names=("whole",), whole=True),
        Invariance(names=("rows",), whole=True, units=blocks(1, 12)),
        Invariance(names=("columns",), whole=True, dim=1, units=blocks(1, 6)),
        Invariance(names=("heads",), whole=True, units=blocks(4, 3)),
        Invariance(names=("part",), whole=False, units=blocks(4, 2)),
    ),
    joint=(Invariance(names=("one", "other"), whole=True),),
    no_gradient=(),
    sensitive=("free", "one", "other"),
)


def adamw(model: nn.Module, **kwargs: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.named_parameters(), lr=0.1, weight_decay=0.1, **kwargs)


def norms(model: Any) -> dict[str, Tensor]:
    return {
        "whole": model.whole.detach().norm(),
        "rows": model.rows.detach().norm(dim=1),
        "columns": model.columns.detach().norm(dim=0),
        "heads": model.heads.detach().unflatten(0, (3, 4)).flatten(1).norm(dim=1),
    }


def train(model: Any, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()


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


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("through", ["plain", "by policy"])
def test_a_resumed_run_continues_as_if_it_had_not_stopped(
    through: str, every: int, tmp_path: Any
) -> None:
    def start() -> tuple[Any, torch.optim.Optimizer, UnitNorm]:
        model = Sheet()
        if through == "plain":
            optimizer = adamw(model)
        else:
            optimizer = make_optimizer(
                torch.optim.AdamW,
                model,
                weight_decay=0.1,
                lr=0.1,
                policy="none",
                table=table_of(model),
            )
        return model, optimizer, UnitNorm(optimizer, HELD, invariance=REPORT, every=every)

    model, optimizer, held = start()
    train(model, optimizer, 6)
    stopped, first, _ = start()
    train(stopped, first, 3)
    torch.save([stopped.state_dict(), first.state_dict()], tmp_path / "state")
    weights, state = torch.load(tmp_path / "state")
    resumed, second, again = start()
    with torch.no_grad():
        resumed.rows.mul_(3)  # norms from another start must not survive the load
    again.norms["rows"].mul_(3)
    resumed.load_state_dict(weights)
    second.load_state_dict(state)
    train(resumed, second, 3)
    for name in HELD:
        assert torch.equal(again.norms[name], held.norms[name])
        assert torch.equal(getattr(resumed, name), getattr(model, name))


def table_of(model: nn.Module) -> Any:
    from gamma_nlp import GainTable, Role

    return GainTable(gains=(), roles={name: Role.WEIGHT for name, _ in model.named_parameters()})


def test_a_state_saved_without_it_loads_and_keeps_the_present_norms() -> None:
    model = Sheet()
    optimizer = adamw(model)
    train(model, optimizer, 1)
    state = copy.deepcopy(optimizer.state_dict())
    held = UnitNorm(optimizer, HELD, invariance=REPORT)
    before = {name: norm.clone() for name, norm in held.norms.items()}
    optimizer.load_state_dict(state)
    assert all(torch.equal(held.norms[name], before[name]) for name in HELD)
    assert "unit_norm" in optimizer.state_dict()


def test_let_go_of_tensors_move_freely() -> None:
    model = Sheet()
    optimizer = adamw(model)
    UnitNorm(optimizer, HELD, invariance=REPORT).remove()
    before = norms(model)["whole"]
    train(model, optimizer, 5)
    assert not torch.allclose(norms(model)["whole"], before, rtol=1e-3)
    assert "unit_norm" not in optimizer.state_dict()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("free", "its scale matters"),
        ("one", r"only together with others \(one \+ other\)"),
        ("part", "only some of its rows are"),
        ("none", "has no parameter 'none'"),
    ],
)
def test_what_is_not_scale_invariant_is_refused(name: str, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        UnitNorm(adamw(Sheet()), [name], invariance=REPORT, force=name == "none")


@pytest.mark.parametrize("units", [((0, 4), (4, 12)), blocks(4, 2)])
def test_units_that_are_not_alike_or_leave_rows_out_are_refused(units: Any) -> None:
    found = Invariance(names=("free",), whole=True, units=units)
    report = dataclasses.replace(REPORT, alone=(found,))
    with pytest.raises(GammaError, match="pass per='tensor'"):
        UnitNorm(adamw(Sheet()), ["free"], invariance=report)
    UnitNorm(adamw(Sheet()), ["free"], invariance=report, per="tensor")


def test_without_a_report_only_force_holds_a_tensor() -> None:
    model = Sheet()
    with pytest.raises(GammaError, match="pass invariance=scale_invariant"):
        UnitNorm(adamw(model), ["free"])
    optimizer = adamw(model)
    UnitNorm(optimizer, ["free"], force=True)
    before = model.free.detach().norm()
    train(model, optimizer, 5)
    torch.testing.assert_close(model.free.detach().norm(), before)


def test_bad_settings_are_refused() -> None:
    model = Sheet()
    wrong: Any
    with pytest.raises(GammaError, match="there is no tensor to hold: names is empty"):
        UnitNorm(adamw(model), [], invariance=REPORT)
    for value in (float("nan"), float("inf")):
        broken = torch.optim.SGD([nn.Parameter(torch.tensor([value, 1.0]))], lr=0.1)
        with pytest.raises(GammaError, match=r"'0\.0' has values that are not finite"):
            UnitNorm(broken, ["0.0"], force=True)
    empty = torch.optim.SGD([nn.Parameter(torch.ones(2, device="meta"))], lr=0.1)
    with pytest.raises(GammaError, match="on the meta device and has no values"):
        UnitNorm(empty, ["0.0"], force=True)
    complex_one = torch.optim.SGD([nn.Parameter(torch.ones(2, dtype=torch.complex64))], lr=0.1)
    with pytest.raises(GammaError, match="has complex numbers"):
        UnitNorm(complex_one, ["0.0"], force=True)
    for wrong in (0, -1, float("inf"), float("nan"), "1", True):
        with pytest.raises(GammaError, match=f"norm must be a positive number, got {wrong!r}"):
            UnitNorm(adamw(model), HELD, invariance=REPORT, norm=wrong)
    for wrong in (0, 1.5, "1", True):
        with pytest.raises(GammaError, match=f"every must be a whole number.*got {wrong!r}"):
            UnitNorm(adamw(model), HELD, invariance=REPORT, every=wrong)
    wrong = model
    with pytest.raises(GammaError, match="invariance is a Sheet; expected what scale_invariant"):
        UnitNorm(adamw(model), HELD, invariance=wrong)
    with pytest.raises(GammaError, match=r"names must be a list of names.*write \['rows'\]"):
        UnitNorm(adamw(model), "rows", invariance=REPORT)
    with pytest.raises(GammaError, match="names must be a list of names, got a Invariance"):
        UnitNorm(adamw(model), list(REPORT), invariance=REPORT)  # type: ignore[arg-type]
    with pytest.raises(GammaError, match="optimizer is None; expected a torch"):
        UnitNorm(None, HELD, invariance=REPORT)  # type: ignore[arg-type]
    with pytest.raises(GammaError, match="'unit' or 'tensor'"):
        UnitNorm(adamw(model), HELD, invariance=REPORT, per="row")
    with torch.no_grad():
        model.rows[3] = 0
    with pytest.raises(GammaError, match="'rows' has a norm of 0"):
        UnitNorm(adamw(model), HELD, invariance=REPORT)


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


def test_two_of_them_with_one_optimizer_save_their_norms_apart() -> None:
    def start() -> tuple[Any, torch.optim.Optimizer, list[UnitNorm]]:
        model = Sheet()
        optimizer = adamw(model)
        pair = [
            UnitNorm(optimizer, [name], invariance=REPORT, norm=norm, every=every)
            for name, norm, every in (("rows", 1.0, 2), ("whole", 5.0, 3))
        ]
        return model, optimizer, pair

    model, optimizer, _ = start()
    train(model, optimizer, 5)
    stopped, first, _ = start()
    train(stopped, first, 2)
    resumed, second, pair = start()
    for held in pair:  # norms from another start must not survive the load
        for norm in held.norms.values():
            norm.mul_(3)
    resumed.load_state_dict(stopped.state_dict())
    second.load_state_dict(first.state_dict())
    train(resumed, second, 3)
    assert torch.equal(resumed.rows, model.rows) and torch.equal(resumed.whole, model.whole)


def test_an_optimizer_that_accelerate_prepared_is_followed() -> None:
    from accelerate import Accelerator

    model = Sheet()
    optimizer: Any = Accelerator(cpu=True).prepare(adamw(model))
    held = UnitNorm(optimizer, HELD, invariance=REPORT)
    train(model, optimizer, 5)
    for name, norm in norms(model).items():
        torch.testing.assert_close(norm.flatten(), held.norms[name].flatten(), rtol=1e-4, atol=0)
