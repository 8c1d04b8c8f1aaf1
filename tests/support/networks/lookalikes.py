"""Bodies whose norms, softmaxes, choices and vectors are easily taken for something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .kit import Kit
from .parts import Part


def similarity(kit: Kit, dim: int) -> nn.Module:
    """Attention without weights of queries and keys: what is read are the tokens themselves."""
    kit.kind("attention without queries")

    def run(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
        return m[0]((x @ x.transpose(1, 2) / x.shape[-1]).softmax(-1) @ x)

    return kit.part(run, kit.weight(dim, dim))


def topics(kit: Kit, dim: int) -> nn.Module:
    """A softmax over normalised channels, with no weight before it."""
    kit.kind("softmax of a norm")
    norm = kit.inner_norm(dim, "norm inside a branch")
    return kit.part(lambda m, x, env: m[1](m[0](x).softmax(-1)), norm, kit.weight(dim, dim))


def routed(kit: Kit, dim: int) -> nn.Module:
    """A weight whose output is masked or put in order by a norm, which does nothing else."""
    norm = kit.inner_norm(dim, "norm that only chooses")

    def masked(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
        level = m[0](x)[..., :1]
        return m[1](x).masked_fill(level > level.mean(1, keepdim=True), 0.0)

    def ordered(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
        first, second = m[1](x).chunk(2, dim=-1)
        order = m[0](x)[..., :1].argsort(1)
        return torch.cat((first.gather(1, order.expand_as(first)), second), dim=-1)

    return kit.part(masked if kit.flag() else ordered, norm, kit.weight(dim, dim))


def weighed(kit: Kit, dim: int) -> nn.Module:
    """A norm without gain, and a number or a vector after it that is not part of the norm."""
    kit.kind("vector behind a norm")
    bare = kit.part(lambda m, x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6))
    run, size = kit.pick(
        [
            (lambda m, x, env: m[1](m[2] * m[0](x)), 1),
            (lambda m, x, env: m[1](m[2] * (m[0](x) * torch.sigmoid(x))), dim),
            (lambda m, x, env: m[1](m[2] * m[0](x).cumsum(1)), dim),
        ]
    )
    return kit.part(run, bare, kit.weight(dim, dim), kit.vector(size))


# What looks like a norm of ``a``, but does not divide it by the root of a reduction of itself.
QUOTIENTS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda a, b: a / (a.square().sum(-1, keepdim=True) + 1),
    lambda a, b: a / torch.sqrt(a.square() + 1),
    lambda a, b: a * torch.rsqrt(b.square().mean(-1, keepdim=True) + 0.1),
    lambda a, b: (a + b) * torch.rsqrt(b.square().mean(-1, keepdim=True) + 0.1),
    lambda a, b: a * torch.rsqrt(torch.sigmoid(a.square().mean(-1, keepdim=True))),
)


def quotient(kit: Kit, dim: int) -> nn.Module:
    """What is not a norm, so the vector after it is not a gain."""
    kit.kind("quotient that is no norm")
    divide = kit.pick(QUOTIENTS)
    members = [kit.weight(dim, dim), kit.weight(dim, dim), kit.vector(dim), kit.weight(dim, dim)]
    return kit.part(lambda m, x, env: m[3](m[2] * divide(m[0](x), m[1](x))), *members)
