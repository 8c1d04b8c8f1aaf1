"""Residual additions onto some of the tokens, and in other spellings."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.support.zoo.language import stack
from tests.support.zoo.parts import (
    Attention,
    D,
    Net,
    linear,
    mlp,
    norm,
    repeat,
    tokens,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


def routed(put: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Structure:
    """Mixture of depths: three tokens take the branch and are put back."""

    def forward(m: Net, x: Tensor) -> Tensor:
        score = m.route(x).sigmoid()
        index = score.topk(3, dim=1).indices
        chosen = x.gather(1, index.expand(-1, -1, D))
        y = m.post(m.f(m.n(chosen))) * score.gather(1, index)
        return put(x, index, y)

    make = lambda: Net(forward, route=linear(D, 1), n=norm(), f=mlp(), post=norm())
    return Structure(
        model=stack(make), inputs=tokens(), inner="blocks.*.n", last="blocks.*.post", head="final"
    )


@structure
def depths_by_scatter_add() -> Structure:
    return routed(lambda x, i, y: x.scatter_add(1, i.expand(-1, -1, D), y))


@structure
def depths_by_scatter_reduce() -> Structure:
    return routed(lambda x, i, y: x.scatter_reduce(1, i.expand(-1, -1, D), y, "sum"))


@structure
def depths_by_index_put() -> Structure:
    def put(x: Tensor, i: Tensor, y: Tensor) -> Tensor:
        rows = torch.arange(len(x))[:, None].expand(-1, 3)
        return x.index_put((rows, i[..., 0]), y, accumulate=True)

    return routed(put)


@structure
def depths_by_index_add() -> Structure:
    def put(x: Tensor, i: Tensor, y: Tensor) -> Tensor:
        rows = i[..., 0] + x.shape[1] * torch.arange(len(x))[:, None]
        return x.flatten(0, 1).index_add(0, rows.flatten(), y.flatten(0, 1)).view_as(x)

    return routed(put)


@structure
def expert_routing() -> Structure:
    """A sparse mixture of experts, gathered by token; its sum starts from zeros."""

    def experts(m: Net, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        weights, chosen = m.router(flat).softmax(-1).topk(2, -1)
        total = torch.zeros_like(flat)
        for i, expert in enumerate(m.experts):
            rows, slot = torch.where(chosen == i)
            total = total.index_add(0, rows, expert(flat[rows]) * weights[rows, slot, None])
        return total.view_as(x)

    def forward(m: Net, x: Tensor) -> Tensor:
        x = x + m.attention(m.n1(x))
        return x + experts(m, m.n2(x))

    make = lambda: Net(
        forward, n1=norm(), n2=norm(), attention=Attention(), router=linear(D, 3),
        experts=repeat(3, mlp),
    )  # fmt: skip
    return Structure(model=stack(make), inputs=tokens(), inner="blocks.*.n?", head="final")


@structure
def sum_by_stack() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        return m.n(torch.stack([x, m.mlp(x)]).sum(0))

    make = lambda: Net(forward, n=norm(), mlp=mlp())
    return Structure(
        model=stack(make, False), inputs=tokens(), shortcut="blocks.0.n", head="blocks.1.n"
    )


@structure
def sum_by_addcdiv() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        return m.n(torch.addcdiv(x, m.mlp(x), torch.tensor(2.0)))

    make = lambda: Net(forward, n=norm(), mlp=mlp())
    return Structure(
        model=stack(make, False), inputs=tokens(), shortcut="blocks.0.n", head="blocks.1.n"
    )
