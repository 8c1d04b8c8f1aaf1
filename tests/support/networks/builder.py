"""Build streams of random parts, and label each gain on the way.

A stream is a row of elements, built from its end to its start. :class:`Exit` says what becomes of
a gain whose output leaves an element: each element turns the exit behind it into the exit before
it, by what it is known to be, and labels the gains that it makes. No graph is ever searched.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import nn

from gamma_nlp.gains.category import Category

from .norms import Norm, make_norm, norm_kinds
from .parts import ACTIVATIONS, WEIGHTS, Part, in_turn, make_weight, part

SHORTCUT, HEAD = Category.SHORTCUT, Category.HEAD
LAST, INNER = Category.BRANCH_LAST, Category.BRANCH_INNER

RESIZES = {"linear", "simple", "steered", "project"}  # elements that may change the width


@dataclass(frozen=True)
class Exit:
    """What a gain is whose output leaves a stream here.

    Attributes:
        free: Its category if no weight follows it in the stream; ``None`` where the rule leaves
            that open, so that no gain may be put there.
        weighted: Its category if one does.
        clear: A gain at zero makes the whole branch zero, and each channel of it moves that
            channel of the branch alone: nothing else is added, no norm follows.
        query: What leaves the stream here is a query or a key, contracted before a softmax.
    """

    free: Category | None
    weighted: Category
    clear: bool = True
    query: bool = False

    def join(self, other: Exit) -> Exit:
        """Both lie ahead: any skip decides, then any branch, and the nearest end of it."""
        order = (SHORTCUT, LAST, INNER, HEAD)
        free = min((c for c in (self.free, other.free) if c), key=order.index)
        weighted = min(self.weighted, other.weighted, key=order.index)
        query = self.query or other.query
        return Exit(free, weighted, clear=self.clear and other.clear, query=query)

    def behind_weight(self) -> Exit:
        return Exit(self.weighted, self.weighted)

    def renewed(self) -> Exit:
        """Before a norm, or a contraction without a softmax."""
        return replace(self, clear=False, query=False)

    def blurred(self) -> Exit:
        return replace(self, clear=False)


AT_END = Exit(HEAD, HEAD)
IN_BRANCH = Exit(LAST, INNER)
ON_SKIP = Exit(SHORTCUT, SHORTCUT)


class Sums(Enum):
    """Whether sums made here count."""

    TOP = "inside no branch"
    SPAN = "inside branches, with no weight between their ends and here"
    NONE = "inside a branch, behind or before a weight"


class Built(NamedTuple):
    module: nn.Module
    before: Exit
    text: str


@dataclass(frozen=True, kw_only=True)
class Use:
    gain: nn.Parameter
    category: Category
    offset: int
    clear: bool
    query: bool


# Elements that some path crosses without a weight.
PASSES = {
    "norm",
    "token",
    "half",
    "act",
    "move",
    "squeeze",
    "aside",
    "similar",
    "portion",
}
PASSES |= {"residual", "parallel", "carried", "long"}


@dataclass
class Builder:
    """Makes elements; every random choice of structure comes from ``rng``."""

    rng: random.Random
    plain: bool = False  # no residual addition in the whole network
    reuse: float = 0.05  # how often a norm or a weight that exists already is taken again
    budget: int = 8  # bodies left to make
    memory_dim: int = 0
    wish: str = ""  # the row of elements that the first residual branch is made of
    uses: list[Use] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.names = random.Random(self.rng.random())
        self.depth = 0
        self.networks = 0  # how many outer skips are around
        self._inner: Category | None = None
        self._norms: list[Norm] = []
        self._weights: dict[tuple[int, int, bool], list[nn.Module]] = {}
        self._tape: list[Any] | None = None
        self._replay: list[Any] = []

    # What parts are made of ---------------------------------------------------------------------

    def kind(self, name: str) -> None:
        self.kinds.add(name)

    def flag(self, chance: float = 0.5) -> bool:
        return self.rng.random() < chance

    def pick(self, options: Any) -> Any:
        return self.rng.choice(list(options))

    def part(self, run: Callable[..., Any], *members: Any, **options: Any) -> Part:
        return part(self.names, run, *members, **options)

    def act(self) -> nn.Module:
        return self.part(lambda m, x: m.options["act"](x), act=self.pick(ACTIVATIONS.values()))

    def _once(self, make: Callable[[random.Random], Any]) -> Any:
        """Make something, or, where a loop runs again, take what the first time made."""
        rng = random.Random(self.rng.random())
        if self._replay:
            return self._replay.pop(0)
        made = make(rng)
        if self._tape is not None:
            self._tape.append(made)
        return made

    def vector(self, dim: int, low: float = 0.5, high: float = 1.5) -> nn.Parameter:
        return self._once(lambda rng: nn.Parameter(torch.empty(dim).uniform_(low, high)))

    def weight(self, dim: int, out: int, simple: bool = False) -> nn.Module:
        def make(rng: random.Random) -> nn.Module:
            pool = self._weights.setdefault((dim, out, simple), [])
            if pool and rng.random() < self.reuse:
                self.kind("tied weight")
                return rng.choice(pool)
            kind = rng.choice(WEIGHTS[:-1] if simple else WEIGHTS)
            self.kind(f"weight: {kind}")
            pool.append(make_weight(kind, dim, out, self.names))
            return pool[-1]

        return self._once(make)

    def norm(self, dim: int, exit: Exit, last: bool = False, only: str = "") -> nn.Module:
        """A norm whose gain leaves by ``exit``; of the kind ``only``, if any."""
        assert exit.free is not None, "no gain may be put here"

        def make(rng: random.Random) -> Norm:
            pool = [n for n in self._norms if n.dim == dim and (n.last or not last)]
            if pool and not only and rng.random() < self.reuse:
                self.kind("shared norm")
                return rng.choice(pool)
            kind = only or rng.choice(norm_kinds(last))
            self.kind(f"norm: {kind}")
            self._norms.append(make_norm(kind, dim, self.names))
            return self._norms[-1]

        norm = self._once(make)
        self.use(norm.gain, exit, norm.offset)
        return norm.module

    def inner_norm(self, dim: int, kind: str, last: bool = True, query: bool = False) -> nn.Module:
        """A norm inside a body, where the rule settles what it is."""
        if self._inner is None:
            return self.part(lambda m, x: x)
        self.kind(kind)
        return self.norm(dim, Exit(self._inner, self._inner, query=query), last)

    def use(self, gain: nn.Parameter, exit: Exit, offset: int) -> None:
        assert exit.free is not None
        use = Use(gain=gain, category=exit.free, offset=offset, clear=exit.clear, query=exit.query)
        self.uses.append(use)

    # Streams ------------------------------------------------------------------------------------

    def stream(self, kinds: str, dim: int, exit: Exit, sums: Sums, out: int | None = None) -> Built:
        """The elements named in ``kinds``; the last weight or projection leads to ``out``."""
        names = kinds.split()
        resizes = [i for i, name in enumerate(names) if name in RESIZES]
        assert out in (None, dim) or resizes
        modules, texts = [], []
        for i in reversed(range(len(names))):
            dims = (dim, dim)
            if out is not None and resizes:
                dims = (out if i > resizes[-1] else dim, out if i >= resizes[-1] else dim)
            rest = names[:i] + names[i + 1 :]
            here = sums if sums is Sums.TOP or all(n in PASSES for n in rest) else Sums.NONE
            built = getattr(self, f"add_{names[i]}")(*dims, exit, here)
            exit = built.before
            modules.insert(0, built.module)
            texts.insert(0, built.text)
        return Built(self.part(in_turn, *modules), exit, " ".join(texts))
