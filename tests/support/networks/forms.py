"""How elements compute what they do: additions, layer scales, moves, and the rows of branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .parts import Part

Env = dict[str, Any]
Run = Callable[..., Tensor]

BRANCHES = (
    "norm body",
    "norm body",
    "body",
    "body norm",
    "norm body norm",
    "norm",
    "body norm act",
    "norm body move",
    "half body",
    "body norm squeeze",
    "linear norm act linear norm act linear norm",
    "body norm similar",
    "body portion",
    "half steered",
)
# Two sums one after the other make their branch a network of its own under an outer skip.
NETWORKS = (
    "norm residual residual act",
    "residual norm residual norm",
    "down residual residual up",
    "down residual norm residual norm up norm",
    "norm carried norm",
    "linear residual norm project linear",
)
NESTED = (
    "norm residual norm",
    "norm long norm",
    "norm parallel norm",
    "norm linear residual",
    "norm linear residual norm",
    "linear residual norm linear",
    "norm parallel linear",
    "norm project",
    "norm project linear",
    "norm wide norm",
    "norm concat",
)
NAMED = {
    "norm body": "pre-norm",
    "norm body norm": "sandwich",
    "body norm": "norm at the end of a branch",
    "norm": "branch of a norm alone",
    "norm residual norm": "nested branch",
    "residual norm residual norm": "long skip over post-norm blocks",
    "norm linear residual norm": "adapter in a branch",
    "down residual residual up": "U-shaped skip",
    "down residual norm residual norm up norm": "U-shaped skip",
    "norm project": "projection in a branch",
    "norm project linear": "projection in a branch",
    "body norm squeeze": "squeeze and excite",
}


def _slices(m: Part, x: Tensor, env: Env) -> Tensor:
    total, update = x.clone(), m[0](x, env)
    middle = x.shape[-1] // 2
    total[..., :middle] += update[..., :middle]
    total[..., middle:].add_(update[..., middle:])
    return total


def _in_place(m: Part, x: Tensor, env: Env) -> Tensor:
    total = x.clone()
    total += m[0](x, env)
    return total


def _into_branch(m: Part, x: Tensor, env: Env) -> Tensor:
    update = m[0](x, env)
    update += x
    return update


def _highway(m: Part, x: Tensor, env: Env) -> Tensor:
    gate = torch.sigmoid(m[1](x))
    return gate * m[0](x, env) + (1 - gate) * x


ADDS: dict[str, Run] = {
    "x + y": lambda m, x, env: x + m[0](x, env),
    "y + x": lambda m, x, env: m[0](x, env) + x,
    "weighted": lambda m, x, env: torch.add(x * 1.5, m[0](x, env), alpha=0.8),
    "halved": lambda m, x, env: (x + m[0](x, env)) / 1.5,
    "x - y": lambda m, x, env: x - m[0](x, env),
    "rsub": lambda m, x, env: torch.rsub(m[0](x, env), x),
    "sum()": lambda m, x, env: sum([x, m[0](x, env)]),
    "in place": _in_place,
    "into the branch": _into_branch,
    "by slices": _slices,
}
# Additions whose skip is gated by a weight or scaled by a vector, which stays a skip, or whose
# branch is divided by a vector, which is not a gain.
GATED: dict[str, Run] = {
    "highway": _highway,
    "scaled skip": lambda m, x, env: m[1] * x + m[0](x, env),
    "divided branch": lambda m, x, env: x + m[0](x, env) / m[1],
}
SCALES: dict[str, tuple[Run, int]] = {
    "s * y": (lambda m, x, env: x + m[1] * m[0](x, env), 0),
    "y * s / c": (lambda m, x, env: x + (m[0](x, env) * m[1]).clone() / 1.2, 0),
    "running sum": (lambda m, x, env: x + (m[1] * m[0](x, env)).cumsum(1) / x.shape[1], 0),
    "addcmul": (lambda m, x, env: torch.addcmul(x, m[0](x, env), m[1]), 0),
    "in place": (lambda m, x, env: m[0](x, env).mul_(m[1]) + x, 0),
    "1 + s": (lambda m, x, env: m[0](x, env) * (1 + m[1]) + x, 1),
}


def add_fused(m: Part, x: Tensor, env: Env) -> Tensor:
    y = m[0](x, env)
    return torch.addmm(x.flatten(0, 1), y.flatten(0, 1), m[1]).view_as(x)


def _shared(m: Part, x: Tensor) -> Tensor:
    return m[2](x) if len(m) > 2 else x


def _parallel_in_turn(m: Part, x: Tensor, env: Env) -> Tensor:
    h = _shared(m, x)
    return x + m[0](h, env) + m[1](h, env)


def _parallel_first(m: Part, x: Tensor, env: Env) -> Tensor:
    h = _shared(m, x)
    return (m[0](h, env) + m[1](h, env)) + x


PARALLELS = {"in turn": _parallel_in_turn, "branches first": _parallel_first}
MOVES: dict[str, Run] = {
    "dropout": lambda m, x, env: m[0](x),
    "constant": lambda m, x, env: 1.3 * x,
    "permuted": lambda m, x, env: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "reshaped": lambda m, x, env: x.reshape(-1, 2, x.shape[-1]).reshape(x.shape),
    "cut and joined": lambda m, x, env: torch.cat(x.chunk(2, dim=-1), dim=-1),
    "rolled": lambda m, x, env: x.roll(1, dims=1),
    "running mean": lambda m, x, env: x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None],
    "half and back": lambda m, x, env: x.double().to(x.dtype),
}
# No operand has a path without a weight; where every path of one crosses a single weight, the
# other has no nonlinearity between two.
WIDE = (
    ("simple", "simple simple"),
    ("simple", "simple act"),
    ("simple", "act simple simple"),
    ("simple simple", "simple act simple"),
    ("simple act simple", "simple act simple"),
    ("adapted", "simple act simple"),
    ("simple", "simple move simple"),
)
# A skip of one weight, and a branch of two with a nonlinearity between them.
PROJECTIONS = ("simple", "simple norm", "norm simple", "move simple", "steered", "steered norm")
BENT = (
    "linear norm act linear norm",
    "linear act linear",
    "norm linear act linear",
    "linear soft linear",
    "linear similar linear norm",
)


def sum_of_members(m: Part, x: Tensor, env: Env) -> Tensor:
    return m[0](x, env) + m[1](x, env)


def half(m: Part, x: Tensor, env: Env) -> Tensor:
    """A norm on half of the channels."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((m[0](first), second), dim=-1)


def portion(m: Part, x: Tensor, env: Env) -> Tensor:
    """A vector times a quarter of the channels."""
    first, second = x.split([x.shape[-1] // 4, x.shape[-1] - x.shape[-1] // 4], dim=-1)
    return torch.cat((m[0] * first, second), dim=-1)


def similar(m: Part, x: Tensor, env: Env) -> Tensor:
    return x @ x.transpose(1, 2) @ x / (x.shape[1] * x.shape[2])


def _masked(m: Part, x: Tensor, env: Env) -> Tensor:
    level = x.mean(-1, keepdim=True)
    return m[0](x).masked_fill(level > level.mean(1, keepdim=True), 0.0)  # some tokens, never all


def _ordered(m: Part, x: Tensor, env: Env) -> Tensor:
    first, second = m[0](x).chunk(2, dim=-1)
    order = x.mean(-1, keepdim=True).argsort(1)
    return torch.cat((first.gather(1, order.expand_as(first)), second), dim=-1)


STEERS: dict[str, Run] = {"masked": _masked, "ordered": _ordered}


def scored(m: Part, x: Tensor, env: Env) -> Tensor:
    """What enters the softmax is a sum like that of a projection shortcut."""
    return m[2](((m[0](x, env) + m[1](x, env)) / 1.5).softmax(-1))


def aside(m: Part, x: Tensor, env: Env) -> Tensor:
    """The signal as it is; what the members make of it is one more output."""
    env["aside"].append(m[1](m[0](x)))
    return x


def carried(m: Part, x: Tensor, env: Env) -> Tensor:
    """Pre-norm blocks that pass sum and update on separately, and add before they normalise."""
    trunk, update = x, None
    for i in range(0, len(m), 2):
        trunk = trunk if update is None else update + trunk
        update = m[i + 1](m[i](trunk), env)
    assert update is not None
    return trunk + update


def checkpointed(m: Part, x: Tensor, env: Env) -> Tensor:
    return checkpoint(m[0], x, env, use_reentrant=False)


def without_gradients(m: Part, x: Tensor, env: Env) -> Tensor:
    with torch.no_grad():
        return m[0](x, env)


WRAPS: dict[str, Run] = {"checkpoint": checkpointed, "no_grad": without_gradients}


def repeat(m: Part, x: Tensor, env: Env) -> Tensor:
    for _ in range(m.options["turns"]):
        x = m[0](x, env)
    return x


def exchange(m: Part, own: Tensor, other: Tensor, env: Env) -> Tensor:
    both = torch.cat((m[2](own), m[3](other)), dim=-1)
    own = own + m[0](m[1](both), env)
    return m[4](own) if len(m) > 4 else own


def two_streams(m: Part, x: Tensor, env: Env) -> Tensor:
    one, two = x.chunk(2, dim=-1) if m.options["cut"] else (x, x)
    for i in range(0, len(m) - 1, 2):
        one, two = m[i](one, two, env), m[i + 1](two, one, env)
    return m[len(m) - 1](torch.cat((one, two), dim=-1))
