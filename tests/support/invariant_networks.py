"""Random networks whose scale-invariant tensors are known by construction.

A network is a chain of stages on a signal [batch, tokens, width]. A stage records what is true of
its own tensors whatever surrounds it. Only its tail depends on the neighbour: the tensors that
scale all of its output. They can be rescaled exactly if the next stage ignores the scale of its
input.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, TOKENS, BATCH = 12, 3, 4
Units = Sequence[tuple[int, int]]


class Rms(nn.Module):
    """The RMS norm of Llama: computed in float32, epsilon inside the root."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.tiny = eps

    def forward(self, x: Tensor) -> Tensor:
        z = x.to(torch.float32)
        z = z * torch.rsqrt(z.pow(2).mean(-1, keepdim=True) + self.tiny)
        return self.scale * z.to(x.dtype)


class StdNorm(nn.Module):
    """A norm that adds epsilon to the standard deviation, outside the root."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(width))
        self.b = nn.Parameter(torch.zeros(width))
        self.e = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.a * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + self.e) + self.b


class OverTokens(nn.Module):
    """Apply a norm over channels (batch or group norm) to flattened tokens."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(0, -2)).view(x.shape)


class Stage(nn.Module):
    """One link of the chain, with what is true of its tensors, by their names within it.

    ``truth`` holds ``"alone"``, ``"none"`` (no gradient) or the units that can each be rescaled;
    tensors without an entry are sensitive. ``ignores_scale``: the scale of its input has no effect.
    ``tail`` lists the tensors that scale all of its output, ``shift`` those that add the same to
    every token of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.truth: dict[str, Any] = {}
        self.together: list[tuple[str, ...]] = []
        self.tail: tuple[str, ...] = ()
        self.shift: tuple[str, ...] = ()
        self.ignores_scale = self.ignores_shift = False
        self.run: Callable[[Any, Tensor], Tensor]  # takes the stage, so that a copy runs itself

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def linear(rng: random.Random, bias: bool, out: int = WIDTH) -> nn.Linear:
    made = nn.Linear(WIDTH, out, bias=bias)
    with torch.no_grad():
        made.weight.mul_(rng.choice([0.1, 1.0, 10.0]))
    return made


def token_norm(rng: random.Random) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a norm within each token, and the names of its tensors."""
    eps = rng.choice([1e-12, 1e-6, 1e-5])
    kind = rng.choice(["layer", "no bias", "bare", "rms", "torch rms", "std"])
    if kind == "rms":
        return Rms(WIDTH, eps), ("scale",)
    if kind == "torch rms":
        return nn.RMSNorm(WIDTH, eps=eps), ("weight",)
    if kind == "std":
        return StdNorm(WIDTH, eps), ("a", "b")
    if kind == "bare":
        return nn.LayerNorm(WIDTH, eps=eps, elementwise_affine=False), ()
    made = nn.LayerNorm(WIDTH, eps=eps, bias=kind == "layer")
    return made, tuple(name for name, _ in made.named_parameters())


def blocks(size: int, count: int, start: int = 0) -> Units:
    return tuple((start + i * size, start + (i + 1) * size) for i in range(count))


def weight_then_norm(rng: random.Random) -> Stage:
    stage, bias = Stage(), rng.random() < 0.5
    stage.first = linear(rng, bias)
    stage.norm, names = token_norm(rng)
    act = rng.choice([F.relu, lambda x: x])
    stage.run = lambda s, x: s.norm(s.first(act(x)))
    if bias:
        stage.together = [("first.weight", "first.bias")]
    else:
        stage.truth["first.weight"] = "alone"
        stage.ignores_scale = True
    stage.tail = tuple(f"norm.{name}" for name in names)
    stage.shift = stage.tail[1:]
    return stage


def weight_then_channel_norm(rng: random.Random) -> Stage:
    stage, bias, groups = Stage(), rng.random() < 0.5, rng.choice([0, 2, 3, 4])
    stage.first = linear(rng, bias)
    norm = nn.GroupNorm(groups, WIDTH) if groups else nn.BatchNorm1d(WIDTH)
    stage.norm = OverTokens(norm)
    stage.run = lambda s, x: s.norm(s.first(x))
    units = blocks(WIDTH // groups, groups) if groups else blocks(1, WIDTH)
    if not groups and bias:
        stage.truth["first.bias"] = "none"
    if groups and bias:
        stage.together = [("first.weight", "first.bias")]
    else:
        stage.truth["first.weight"] = units
        stage.ignores_scale = True
    stage.ignores_shift = not groups
    stage.tail, stage.shift = ("norm.norm.weight", "norm.norm.bias"), ("norm.norm.bias",)
    return stage


def two_weights_then_norm(rng: random.Random) -> Stage:
    stage, curved = Stage(), rng.random() < 0.5
    stage.first, stage.second = linear(rng, False), linear(rng, False)
    stage.norm, names = token_norm(rng)
    act = torch.tanh if curved else F.relu
    stage.run = lambda s, x: s.norm(s.second(act(s.first(x))))
    stage.truth["second.weight"] = "alone"
    if not curved:
        stage.truth["first.weight"] = "alone"
        stage.ignores_scale = True
    stage.tail = tuple(f"norm.{name}" for name in names)
    stage.shift = stage.tail[1:]
    return stage


def plain(rng: random.Random) -> Stage:
    stage = Stage()
    stage.first = linear(rng, True)
    act = rng.choice([torch.tanh, F.gelu, F.softplus])
    stage.run = lambda s, x: act(s.first(x))
    return stage


def scaled(rng: random.Random) -> Stage:
    stage = Stage()
    stage.first = linear(rng, False)
    stage.run = lambda s, x: s.first(torch.tanh(x))
    stage.tail = ("first.weight",)
    return stage


def normalised_weight(rng: random.Random) -> Stage:
    stage, rows = Stage(), rng.random() < 0.5
    stage.v = nn.Parameter(torch.randn(WIDTH, WIDTH))
    stage.g = nn.Parameter(torch.rand(WIDTH, 1) + 0.5)
    over = {"dim": 1, "keepdim": True} if rows else {}
    stage.run = lambda s, x: torch.tanh(F.linear(x, s.g * s.v / s.v.norm(**over)))
    stage.truth["v"] = blocks(1, WIDTH) if rows else "alone"
    return stage


def attention(rng: random.Random) -> Stage:
    """Residual attention, with or without q/k norms, fused or not, with or without biases."""
    stage, normed, bias = Stage(), rng.random() < 0.7, rng.random() < 0.5
    fused, heads = rng.random() < 0.4, rng.choice([2, 3])
    size = WIDTH // heads
    if fused:
        stage.qkv = linear(rng, bias, 3 * WIDTH)
    else:
        stage.q, stage.k, stage.v = (linear(rng, bias) for _ in range(3))
    if normed:
        stage.nq, stage.nk = Rms(size, 1e-6), Rms(size, 1e-6)
    stage.out = linear(rng, True)

    def run(s: Any, x: Tensor) -> Tensor:
        qkv = s.qkv(x).chunk(3, -1) if fused else (s.q(x), s.k(x), s.v(x))
        q, k, v = (t.unflatten(-1, (heads, size)).transpose(1, 2) for t in qkv)
        if normed:
            q, k = s.nq(q), s.nk(k)
        scores = (q @ k.transpose(-1, -2) / size**0.5).softmax(-1)
        return torch.tanh(x) + s.out((scores @ v).transpose(1, 2).flatten(-2))

    stage.run, stage.shift = run, ("out.bias",)
    if normed and not bias:
        if fused:
            stage.truth["qkv.weight"] = blocks(size, 2 * heads)
        else:
            stage.truth |= {"q.weight": blocks(size, heads), "k.weight": blocks(size, heads)}
    if normed and bias and not fused:
        stage.together = [("q.weight", "q.bias"), ("k.weight", "k.bias")]
    if not normed and bias and not fused:
        stage.truth["k.bias"] = "none"
    return stage


def sandwich(rng: random.Random) -> Stage:
    """A residual branch between two norms, as in Gemma."""
    stage, curved = Stage(), rng.random() < 0.5
    stage.pre, stage.post = Rms(WIDTH, 1e-6), Rms(WIDTH, 1e-6)
    stage.up, stage.down = linear(rng, False), linear(rng, False)
    act = F.gelu if curved else F.relu
    stage.run = lambda s, x: torch.tanh(x) + s.post(s.down(act(s.up(s.pre(x)))))
    stage.truth["down.weight"] = "alone"
    if not curved:
        stage.truth |= {"up.weight": "alone", "pre.scale": "alone"}
    return stage


def convolution(rng: random.Random) -> Stage:
    stage = Stage()
    stage.conv = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, bias=rng.random() < 0.5)
    stage.norm = nn.BatchNorm1d(WIDTH, eps=1e-3)
    stage.run = lambda s, x: torch.tanh(s.norm(s.conv(x.transpose(1, 2))).transpose(1, 2))
    stage.truth["conv.weight"] = blocks(1, WIDTH)
    stage.truth["conv.bias"] = "none"
    stage.ignores_scale = True
    return stage


def embeddings(rng: random.Random) -> Stage:
    """A stage that may come first: token ids [batch, tokens] to a signal."""
    stage, count = Stage(), rng.choice([1, 2, 3])
    stage.tables = nn.ModuleList(nn.Embedding(7, WIDTH) for _ in range(count))
    stage.norm = nn.LayerNorm(WIDTH, eps=1e-12)
    stage.run = lambda s, ids: s.norm(
        sum(table((ids * (i + 1)) % 7) for i, table in enumerate(s.tables))
    )
    names = tuple(f"tables.{i}.weight" for i in range(count))
    if count == 1:
        stage.truth[names[0]] = blocks(1, 7)
    else:
        stage.together = [names]
    stage.tail, stage.shift = ("norm.weight", "norm.bias"), ("norm.bias",)
    return stage


STAGES = [
    weight_then_norm, weight_then_channel_norm, two_weights_then_norm, plain, scaled,
    normalised_weight, attention, sandwich, convolution,
]  # fmt: skip


class Chain(nn.Module):
    """A random network.

    Attributes:
        truth: What is true of each tensor: ``"alone"``, ``"none"``, ``"sensitive"`` or units.
        together: Groups that can only be rescaled together.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        rng = random.Random(seed)
        made = [embeddings(rng)] if rng.random() < 0.5 else []
        self.tokens = bool(made)
        made += [rng.choice(STAGES)(rng) for _ in range(rng.randint(1, 4))]
        self.stages = nn.ModuleList(made)
        self.head = nn.Linear(WIDTH, 5, bias=rng.random() < 0.5)
        self.unused = nn.Parameter(torch.ones(2))
        self.truth: dict[str, Any] = dict.fromkeys(dict(self.named_parameters()), "sensitive")
        self.truth["unused"] = "none"
        self.together: set[tuple[str, ...]] = set()
        for i, stage in enumerate(made):
            for name, what in stage.truth.items():
                if f"stages.{i}.{name}" in self.truth:
                    self.truth[f"stages.{i}.{name}"] = what
            groups = list(stage.together)
            after = made[i + 1] if i + 1 < len(made) else Stage()
            mute = stage.shift if after.ignores_shift else ()
            self.truth |= {f"stages.{i}.{name}": "none" for name in mute}
            tail = tuple(name for name in stage.tail if name not in mute)
            if after.ignores_scale and len(tail) == 1:
                self.truth[f"stages.{i}.{tail[0]}"] = "alone"
            elif after.ignores_scale and tail:
                groups.append(tail)
            self.together |= {tuple(f"stages.{i}.{n}" for n in group) for group in groups}

    def inputs(self) -> Tensor:
        shape = (BATCH, TOKENS)
        return torch.randint(7, shape) if self.tokens else torch.randn(*shape, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return self.head(torch.tanh(x))
