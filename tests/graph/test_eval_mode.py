"""A model whose own train() or eval() does more than set a flag is placed right and left alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp import Role, categorize, probe
from tests.support.structures import D, linear, norm, signal

INNER, LAST, HEAD = "branch_inner", "branch_last", "head"


class Merging(nn.Linear):
    """A LoRA layer that merges in eval(), as in loralib."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.weight.requires_grad = False
        self.a, self.b = nn.Parameter(torch.randn(2, D)), nn.Parameter(torch.randn(D, 2))
        self.merged = False

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * self.b @ self.a
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.merged else out + x @ self.a.T @ self.b.T


class CachedForInference(nn.Linear):
    """Cannot run in eval mode without what its eval() computes."""

    cache: Tensor | None = None

    def train(self, mode: bool = True) -> CachedForInference:
        super().train(mode)
        self.cache = None if mode else self.weight.t().contiguous()
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        assert self.cache is not None
        return x @ self.cache + self.bias


class Fusing(nn.Linear):
    """Fuses its batch norm into its weight in eval()."""

    def __init__(self) -> None:
        super().__init__(D, D, bias=False)
        self.bn = nn.BatchNorm1d(D)
        self.fused: Tensor | None = None

    def train(self, mode: bool = True) -> Fusing:
        super().train(mode)
        self.fused = None if mode else self.weight * self.bn.weight[:, None]
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.fused is not None:
            return F.linear(x, self.fused, self.bn.bias)
        return self.bn(super().forward(x).transpose(1, 2)).transpose(1, 2)


class Swapping(nn.Linear):
    """Runs with averaged weights in eval mode."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.register_buffer("average", torch.zeros(D, D))

    def train(self, mode: bool = True) -> Swapping:
        if mode != self.training:
            self.weight.data, self.average = self.average, self.weight.data
        return super().train(mode)


class Raising(nn.Linear):
    """Has begun to change when it raises."""

    def train(self, mode: bool = True) -> Raising:
        self.bias.data.mul_(2)
        raise NotImplementedError("not this way")


class Block(nn.Module):
    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.norm, self.up = norm(), up

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.norm(x))


def state(model: nn.Module) -> dict[str, Any]:
    found = {name: value.clone() for name, value in model.state_dict().items()}
    return found | {f"{name} trains": m.training for name, m in model.named_modules()}


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(
        torch.equal(value, two[name]) if isinstance(value, Tensor) else value == two[name]
        for name, value in one.items()
    )


def check(model: nn.Module, **expected: str) -> None:
    before = state(model)
    table = categorize(model, signal())
    assert {g.name.removesuffix(".weight"): str(g.category) for g in table} == {
        name.replace("__", "."): place for name, place in expected.items()
    }
    assert probe(model, signal(), table).verdict == "agrees"
    assert same(state(model), before)


@pytest.mark.parametrize("kind", [Merging, CachedForInference, Swapping, Raising])
def test_layer_with_an_eval_of_its_own_is_placed_and_left_as_it_was(kind: type[nn.Linear]) -> None:
    model = nn.Sequential(Block(kind(D, D)), norm(), linear())
    check(model, **{"0__norm": INNER, "1": HEAD})


def test_lora_that_merges_still_gets_a_gradient_and_its_matrices_are_weights() -> None:
    model = nn.Sequential(Block(Merging(D, D)), norm())
    table = categorize(model, signal())
    assert {table.roles[f"0.up.{name}"] for name in ("weight", "a", "b")} == {Role.WEIGHT}
    model(signal()).square().sum().backward()
    assert model[0].up.a.grad is not None


def test_batch_norm_that_is_fused_in_eval_is_placed_as_in_training() -> None:
    check(
        nn.Sequential(Block(Fusing()), norm()), **{"0__norm": INNER, "0__up__bn": LAST, "1": HEAD}
    )


def test_flags_that_a_models_own_train_sets_hold_in_the_pass_and_come_back() -> None:
    class Dropped(Block):
        """Drops its whole branch while it trains."""

        drop = 1.0

        def train(self, mode: bool = True) -> Dropped:
            super().train(mode)
            self.drop = 1.0 if mode else 0.0
            return self

        def forward(self, x: Tensor) -> Tensor:
            return x if random.random() < self.drop else super().forward(x)

    model = nn.Sequential(Dropped(linear()), norm()).train()
    check(model, **{"0__norm": INNER, "1": HEAD})
    assert model[0].drop == 1.0


def test_frozen_backbone_that_stays_in_eval_mode_stays_there() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self[0].eval()
            return self

    model = Frozen(Block(nn.Sequential(linear(), nn.Dropout())), norm(), nn.Dropout()).train()
    model[2].eval()
    check(model, **{"0__norm": INNER, "1": HEAD})


def test_exported_model_is_placed_although_it_has_no_eval_mode() -> None:
    exported = torch.export.export(nn.Sequential(Block(linear()), norm()).eval(), (signal(),))
    check(exported.module(), **{"0__norm": INNER, "1": HEAD})
