"""Bodies of branches: every path through one crosses a weight, and every norm in one precedes it.

So whatever a body ends up in, its own gains and those before it are all on the near side of a
weight. A :class:`~networks.kit.Kit` makes the members; labels are not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kit import Kit
from .lookalikes import quotient, routed, similarity, topics, weighed
from .parts import Part, channels_first, heads, rotate, scores


def linear(kit: Kit, dim: int) -> nn.Module:
    return kit.part(lambda m, x, env: m[0](x), kit.weight(dim, dim))


def mlp(kit: Kit, dim: int) -> nn.Module:
    """Two weights and a nonlinearity, with a norm or a plain vector here and there."""
    steps = [kit.weight(dim, 12)]
    if kit.flag(0.3):
        steps.append(kit.inner_norm(12, "norm inside a branch", last=False))
    steps.append(kit.act())
    extra = kit.part(lambda m, x: x)
    if kit.flag(0.3):
        kit.kind("vector before a weight")
        extra = kit.part(lambda m, x: m[0] * x, kit.vector(12))
    elif kit.flag(0.2):
        kit.kind("vector before a weight")
        extra = kit.part(_prelu, kit.vector(12))
    elif kit.flag(0.3):
        extra = kit.inner_norm(12, "norm inside a branch")
    return kit.part(_chain, *steps, extra, kit.weight(12, dim))


def _prelu(m: Part, x: Tensor) -> Tensor:
    return F.prelu(x.transpose(1, 2), m[0]).transpose(1, 2)


def _chain(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
    for i in range(len(m)):
        x = m[i](x)
    return x


def gated(kit: Kit, dim: int) -> nn.Module:
    """A gated unit: one weight, cut in two, one half gating the other."""
    kit.kind("gate")
    if kit.flag(0.4):
        norm = kit.inner_norm(dim, "norm on a gate")
        weights = [kit.weight(dim, dim) for _ in range(3)]
        return kit.part(
            lambda m, x, env: m[3](m[1](x) * torch.sigmoid(m[0](m[2](x)))), norm, *weights
        )

    def run(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
        gate, value = m[0](x).chunk(2, dim=-1)
        return m[2](m[1](gate) * value)

    return kit.part(run, kit.weight(dim, 2 * dim), kit.act(), kit.weight(dim, dim))


def convolution(kit: Kit, dim: int) -> nn.Module:
    """A depthwise and a pointwise convolution over tokens, with a channels-first norm between."""
    kit.kind("convolution")
    depthwise = kit.part(channels_first, nn.Conv1d(dim, dim, 3, padding=1, groups=dim))
    norm = kit.inner_norm(dim, "norm inside a branch", last=False)
    return kit.part(_chain, depthwise, norm, kit.act(), kit.weight(dim, dim))


def mix(kit: Kit, dim: int) -> nn.Module:
    """Each token mixed with its predecessor by a vector, then a weight."""
    kit.kind("vector before a weight")

    def run(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
        return m[1](m[0] * x + (1 - m[0]) * x.roll(1, dims=1))

    return kit.part(run, kit.vector(dim, 0.2, 0.8), kit.weight(dim, dim))


def experts(kit: Kit, dim: int) -> nn.Module:
    """A mixture of experts, as a loop or as stacked matrices, with or without a shared expert."""
    kit.kind("experts")
    router = kit.weight(dim, 3)
    shared = kit.part(_chain, kit.weight(dim, dim), kit.act(), kit.weight(dim, dim))
    if kit.flag():
        up = nn.Parameter(torch.randn(3, dim, 8) / dim**0.5)
        down = nn.Parameter(torch.randn(3, 8, dim) / 8**0.5)

        def stacked(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
            gates = m[0](x).softmax(-1)
            hidden = torch.relu(torch.einsum("btd,edh->bteh", x, m[1]))
            mixed = torch.einsum("bteh,ehd,bte->btd", hidden, m[2], gates)
            return mixed + m[3](x, env)

        return kit.part(stacked, router, up, down, shared)

    def loop(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
        gates = m[0](x).softmax(-1)
        total = torch.zeros_like(x)
        for i in range(1, len(m)):
            total += gates[..., i - 1 : i] * m[i](x, env)
        return total

    others = [kit.part(_chain, kit.weight(dim, 8), kit.act(), kit.weight(8, dim)) for _ in range(2)]
    return kit.part(loop, router, shared, *others)


def attention(kit: Kit, dim: int, cross: bool = False) -> nn.Module:
    """Attention over the stream, or over the memory, with norms wherever people put them."""
    options = ("bias", "carry", "causal", "rotary", "eager", "masked")
    how = {name for name in options if kit.flag(0.4)}
    how &= {"eager", "causal"} if cross else how
    if "eager" not in how:
        how -= {"carry", "masked"}
    members: dict[str, Any] = {"out": kit.weight(dim, dim)}
    memory = kit.part(lambda m, x: x)
    if cross:
        kit.kind("cross-attention")
        members |= {"q": kit.weight(dim, dim), "kv": kit.weight(kit.memory_dim, 2 * dim)}
        if kit.flag(0.3):
            memory = kit.inner_norm(kit.memory_dim, "norm of the memory")
    else:
        kit.kind("attention")
        members["qkv"] = kit.weight(dim, 3 * dim)
    for name, size in (("qn", dim // 2), ("kn", dim // 2), ("vn", dim // 2), ("sub", dim)):
        if kit.flag(0.3):
            kind = {"vn": "value norm", "sub": "norm inside a branch"}.get(name, "q/k norm")
            members[name] = kit.inner_norm(size, kind, query=name in ("qn", "kn"))
    if "bias" in how:
        kit.kind("score bias")
    if "carry" in how:
        kit.kind("scores carried on")
    if "masked" in how:
        kit.kind("mask made from the signal")
    if kit.flag(0.2):
        kit.kind("gate")
        members["gate"] = kit.weight(dim, dim)
    at = {name: i + 1 for i, name in enumerate(members)}
    return kit.part(_attend, memory, *members.values(), at=at, how=frozenset(how))


def _attend(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
    at, how = m.options["at"], m.options["how"]
    if "qkv" in at:
        query, key, value = m[at["qkv"]](x).chunk(3, dim=-1)
    else:
        query = m[at["q"]](x)
        key, value = m[at["kv"]](m[0](env["memory"])).chunk(2, dim=-1)
    query, key, value = heads(query), heads(key), heads(value)
    query, key, value = (
        m[at[name]](t) if name in at else t
        for name, t in (("qn", query), ("kn", key), ("vn", value))
    )
    if "rotary" in how:
        query, key = rotate(query), rotate(key)
    if "eager" in how:
        hidden = x.mean(-1) > x.mean() if "masked" in how else None
        mixed = scores(query, key, env, how, hidden) @ value
    else:
        bias = env.get("bias") if "bias" in how else None
        if bias is not None:
            bias = bias[None, :, : query.shape[-2], : key.shape[-2]]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    mixed = mixed.transpose(1, 2).flatten(-2)
    if "sub" in at:
        mixed = m[at["sub"]](mixed)
    if "gate" in at:
        mixed = mixed * torch.sigmoid(m[at["gate"]](x))
    return m[at["out"]](mixed)


def linear_attention(kit: Kit, dim: int) -> nn.Module:
    """Attention without softmax; its quotient is not a norm."""
    kit.kind("linear attention")

    def run(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
        query, key, value = (heads(t) for t in m[0](x).chunk(3, dim=-1))
        query, key = F.elu(m[2](query)) + 1, F.elu(key) + 1
        total = (query * key.sum(-2, keepdim=True)).sum(-1, keepdim=True)
        mixed = query @ (key.transpose(-2, -1) @ value) / total
        return m[1](mixed.transpose(1, 2).flatten(-2))

    members = [kit.weight(dim, 3 * dim), kit.weight(dim, dim)]
    return kit.part(run, *members, kit.inner_norm(dim // 2, "q/k norm"))


def recurrent(kit: Kit, dim: int) -> nn.Module:
    kit.kind("recurrent")
    layer = nn.GRU if kit.flag() else nn.LSTM
    return kit.part(
        lambda m, x, env: m[1](m[0](x)[0]), layer(dim, 6, batch_first=True), kit.weight(6, dim)
    )


BODIES: dict[str, Callable[[Any, int], nn.Module]] = {
    "linear": linear,
    "mlp": mlp,
    "gated": gated,
    "convolution": convolution,
    "mix": mix,
    "experts": experts,
    "attention": attention,
    "linear attention": linear_attention,
    "recurrent": recurrent,
    "similarity": similarity,
    "topics": topics,
    "routed": routed,
    "weighed": weighed,
    "quotient": quotient,
}
QUERIES = {"similarity"}  # bodies that contract what they read before a softmax
