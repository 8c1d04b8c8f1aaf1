"""Parameters that get gradients and that no optimizer holds are named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import make_optimizer
from gamma_nlp.decay import untrained
from tests.support.optim_models import Toy, toy_table

FROZEN = "were frozen or not in the model: "
REPLACED = "were replaced after the optimizer was made"


def build(model: nn.Module, cls: Any = torch.optim.SGD, **kwargs: Any) -> torch.optim.Optimizer:
    return make_optimizer(
        cls, model, weight_decay=0.1, lr=0.1, policy="all", table=toy_table(), **kwargs
    )


def step(model: Any, *optimizers: torch.optim.Optimizer) -> None:
    model.zero_grad()
    model.loss().backward()
    for optimizer in optimizers:
        optimizer.step()


def frozen(*names: str) -> Toy:
    model = Toy()
    for name in names:
        model.get_parameter(name).requires_grad = False
    return model


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.AdamW])
def test_the_first_step_after_the_thaw_says_so_once(
    cls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = frozen("inner", "w", "mix")
    optimizer = build(model, cls)
    for _ in range(3):
        step(model, optimizer)
    assert not caplog.records
    model.inner.requires_grad = True
    for _ in range(3):
        step(model, optimizer)
    model.w.requires_grad = True
    step(model, optimizer)
    first, second = (record.getMessage() for record in caplog.records)
    assert FROZEN + "'inner'." in first and FROZEN + "'w'." in second


def test_a_parameter_frozen_after_the_optimizer_was_made_trains_after_the_thaw(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Toy()
    optimizer = build(model)
    model.inner.requires_grad = False
    before = model.inner.clone()
    step(model, optimizer)
    assert torch.equal(model.inner, before)
    model.inner.requires_grad = True
    step(model, optimizer)
    assert not torch.equal(model.inner, before) and not caplog.records


def added(model: Any) -> None:
    model.adapter = nn.Parameter(torch.ones(4))


def thawed(model: Any) -> None:
    model.last.requires_grad = True


def replaced(model: Any) -> None:
    model.inner = nn.Parameter(torch.ones(4))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (added, FROZEN + "'adapter'."),
        (thawed, FROZEN + "'last'."),
        (replaced, REPLACED + ", which still holds the tensors from before: 'inner'."),
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_what_was_changed_after_the_optimizer_was_made_is_named(
    change: Callable[[Any], None],
    said: str,
    first: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(untrained, "EVERY", 4)
    model = frozen("last")
    optimizer = build(model)
    for _ in range(first):
        step(model, optimizer)
    change(model)
    for _ in range(9):
        step(model, optimizer)
    assert caplog.text.count(said) == len(caplog.records) == 1


def test_what_another_optimizer_holds_is_trained(caplog: pytest.LogCaptureFixture) -> None:
    model = frozen("inner", "mix")
    one = build(model)
    for p in model.parameters():
        p.requires_grad = not p.requires_grad
    two = build(model)
    model.requires_grad_(True)
    step(model, one, two)
    assert not caplog.records


def test_a_thawed_parameter_may_be_added_by_hand(caplog: pytest.LogCaptureFixture) -> None:
    model = frozen("inner")
    optimizer = build(model)
    model.inner.requires_grad = True
    optimizer.add_param_group({"params": [("inner", model.inner)]})
    step(model, optimizer)
    assert not caplog.records


def test_wrapping_and_parametrizing_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._orig_mod = Toy()

    model = Held()
    optimizer = make_optimizer(
        torch.optim.SGD, model, weight_decay=0.1, lr=0.1, policy="all", table=toy_table()
    )
    nn.utils.parametrize.register_parametrization(model._orig_mod, "w", nn.Identity())
    step(model._orig_mod, optimizer)
    assert not caplog.records


def test_copies_do_not_watch_and_dead_models_are_no_matter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = frozen("inner")
    optimizer = build(model)
    other, twin = copy.deepcopy((model, optimizer))
    other.inner.requires_grad = True
    step(other, twin)
    del model
    optimizer.step()
    assert not caplog.records


def test_float32_copies_that_get_the_gradient_stand_for_their_parameters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Toy(torch.bfloat16)
    optimizer = build(model)
    copies = {name: nn.Parameter(p.detach().float()) for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        group["params"] = [copies[name] for name in group["param_names"]]
    model.loss().backward()
    for name, p in model.named_parameters():
        copies[name].grad = p.grad.float()
    optimizer.step()
    assert not caplog.records
