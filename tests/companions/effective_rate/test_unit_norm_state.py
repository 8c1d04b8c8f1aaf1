"""Held norms survive saving and loading, and what cannot be held is refused."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import GammaError, make_optimizer
from gamma_nlp.companions.effective_rate.report import Invariance
from gamma_nlp.companions.effective_rate.unit_norm import UnitNorm
from tests.support.unit_norms import HELD, REPORT, Sheet, adamw, blocks, norms, train


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
