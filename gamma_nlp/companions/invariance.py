"""Which tensors can be rescaled without any effect, found from gradients and not from names.

[S] For weights w followed by a norm, y(X; aw) = y(X; w): L2 does not regularise them, it sets their
norm and with it their effective learning rate (van Laarhoven, arXiv:1706.05350).
[D] Where L(aw) = L(w) for every a > 0, the gradient is orthogonal to w: <w, grad> = 0. So one
backward pass names the candidates, for a tensor as a whole and for runs of its rows; rescaling
them, with everything else as it is, confirms them. A sum of <w, grad> over several tensors that
vanishes means that they can be rescaled together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.call import unwrap
from gamma_nlp.companions.null_groups import null_groups
from gamma_nlp.companions.reaction import Reaction, Run
from gamma_nlp.companions.row_ranges import Range, row_ranges
from gamma_nlp.groups import listed

DRAWS = 3
"""Random weights that a vanishing <w, grad> must hold for."""
CANDIDATE = 1e-7
"""The largest cosine between a candidate and its gradient."""
STILL = 1e-7
"""Outputs that move less than this, as a part of what noise on the tensor does, stand still."""
FAINT = 1e-6
"""Tensors with less gradient than this, as a part of the largest, may have none but rounding."""
SILENT = 1e-10
"""Tensors that noise moves the outputs less than this for, as a part of the outputs, are mute."""


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """Tensors, or slices of them, whose scale the function does not depend on.

    Attributes:
        names: One tensor, or a group that is rescaled by a common factor.
        whole: One factor for all elements changes nothing.
        dim: The dimension that ``units`` count along; of a group, that of each of its tensors.
        units: Half-open ranges of rows (or columns) along ``dim``, each of which can be rescaled
            by a factor of its own: rows before a batch norm, heads before a q/k norm. Empty where
            only the whole can.
    """

    names: tuple[str, ...]
    whole: bool
    dim: int = 0
    units: tuple[Range, ...] = ()

    def __str__(self) -> str:
        text = " + ".join(self.names)
        if not self.units:
            return text
        sizes = {stop - start for start, stop in self.units}
        what = ("rows", "columns")[self.dim]
        size = f"{min(sizes)} {what}" if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)} {what}"
        return f"{text}: {len(self.units)} x {size}" + ("" if self.whole else ", not the rest")


@dataclass(frozen=True, kw_only=True)
class ScaleInvariance:
    """What :func:`scale_invariant` found; iterating yields the tensors that are invariant alone.

    Attributes:
        model: The model's class.
        alone: One :class:`Invariance` for each tensor that can be rescaled alone, or some rows of
            which can.
        joint: Groups of tensors none of which can be rescaled alone, small ones first. Not
            every one, but each tensor that is in such a group is in one of these. They overlap
            where tensors can replace one another, as the weights of a branch do.
        no_gradient: Tensors that the outputs do not depend on at all, such as the biases of keys.
        sensitive: All others; members of joint groups are among them.
    """

    model: str
    alone: tuple[Invariance, ...]
    joint: tuple[Invariance, ...]
    no_gradient: tuple[str, ...]
    sensitive: tuple[str, ...]

    def __iter__(self) -> Iterator[Invariance]:
        return iter(self.alone)

    def __len__(self) -> int:
        return len(self.alone)

    def of(self, name: str) -> Invariance | None:
        """The invariance of one tensor alone, ``None`` where it has none."""
        return next((one for one in self.alone if one.names == (name,)), None)

    def __str__(self) -> str:
        lines = [f"{self.model}: {len(self.alone)} scale-invariant tensors"]
        lines += [f"  {one}" for one in self.alone]
        shown: list[Invariance] = []
        for one in self.joint:
            if all(set(one.names).isdisjoint(other.names) for other in shown):
                shown.append(one)
        lines += [f"together only: {len(self.joint)}"] if shown else []
        lines += [f"  {one}" for one in shown]
        if len(shown) < len(self.joint):
            lines.append(f"  and {len(self.joint) - len(shown)} that overlap with these")
        if self.no_gradient:
            lines.append(f"no gradient: {listed(self.no_gradient)}")
        return "\n".join(lines)


def scale_invariant(
    model: nn.Module,
    inputs: Any = None,
    *,
    loss_fn: Run | None = None,
    joint: bool = True,
    seed: int = 0,
) -> ScaleInvariance:
    """Find the tensors that leave a model's function unchanged under rescaling.

    A copy of the model is examined, in float64, without dropout and without the epsilons of its
    norms, at random weights near its own. So what is found is exact up to those epsilons.

    Args:
        model: Any module with values. Frozen parameters are examined like the others.
        inputs: What it is called with: a tensor, a tuple of positional or a dict of keyword
            arguments; models of transformers need none. Random numbers will do.
        loss_fn: Instead of ``inputs``: takes the copy of the model, calls it and returns a loss or
            outputs. What matters is then what this returns.
        joint: Look for groups of tensors too. It takes about as many backward passes as there
            are tensors, the rest takes a few.
        seed: Of the random weights.

    Raises:
        GammaError: The model cannot be copied or called, or nothing it returns depends on its
            parameters.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.LayerNorm(6), nn.Linear(6, 2))
        >>> print(scale_invariant(net, torch.randn(5, 4)))
        Sequential: 1 scale-invariant tensors
          0.weight
    """
    reaction = Reaction(model, inputs, loss_fn, seed)
    products: list[dict[str, Tensor]] = []
    sizes: dict[str, float] = {}
    for _ in range(DRAWS):
        reaction.redraw()
        (gradients,) = reaction.slopes(1)
        for name, gradient in gradients.items():
            size = float(reaction.weights[name].detach().norm() * gradient.norm())
            sizes[name] = max(size, sizes.get(name, 0.0))
        products.append({n: reaction.weights[n].detach() * g for n, g in gradients.items()})
    judge = _Judge(reaction)
    faint = {name for name, size in sizes.items() if size <= FAINT * max(sizes.values())}
    mute = {n for n in faint if judge.reach(n) <= SILENT * float(judge.base.norm())}
    live = [name for name in sizes if name not in mute]
    found = {n: _alone(judge, n, [one[n] for one in products], sizes[n]) for n in live}
    alone = tuple(one for one in found.values() if one is not None)
    rest = [n for n in live if (one := found[n]) is None or not one.whole]
    return ScaleInvariance(
        model=type(unwrap(model)).__name__,
        alone=alone,
        joint=_joint(reaction, rest, products) if joint else (),
        no_gradient=tuple(name for name in reaction.weights if name not in live),
        sensitive=tuple(name for name in live if found[name] is None),
    )


class _Judge:
    """Confirms candidates by rescaling them."""

    def __init__(self, reaction: Reaction) -> None:
        self.reaction = reaction
        with torch.no_grad():
            self.base = reaction.outputs()
        self._reach: dict[str, float] = {}

    def reach(self, name: str) -> float:
        """How far noise on a tensor moves the outputs."""
        if name not in self._reach:
            w = self.reaction.weights[name].detach()
            noisy = w + self.reaction.noise(w) * w.square().mean().sqrt()
            self._reach[name] = self.reaction.moved({name: noisy}, self.base)
        return self._reach[name]

    def still(self, names: Sequence[str], dim: int = 0, units: Sequence[Range] = ()) -> bool:
        """Whether a factor for all, or one for each unit, leaves the outputs where they are."""
        weights = {name: self.reaction.weights[name].detach() for name in names}
        limit = STILL * min(self.reach(name) for name in names)
        first = weights[names[0]]
        factors = torch.full((first.shape[dim] if units else 1,), 1.0 if units else 2.5)
        for number, (start, stop) in enumerate(units):
            factors[start:stop] = 0.4 + 2.0 * (number * 0.618 % 1)  # all unequal
        factors = factors.to(first)
        changed = {n: w * _along(factors, w, dim) for n, w in weights.items()}
        return self.reaction.moved(changed, self.base) <= limit

    def confirmed(
        self, names: Sequence[str], dim: int, units: Sequence[Range]
    ) -> tuple[Range, ...]:
        """The units that really can be rescaled; halves are looked at where not all can."""
        if not units or self.still(names, dim, units):
            return tuple(units)
        if len(units) == 1:
            return ()
        half = len(units) // 2
        return (
            *self.confirmed(names, dim, units[:half]),
            *self.confirmed(names, dim, units[half:]),
        )


def _along(factors: Tensor, w: Tensor, dim: int) -> Tensor:
    shape = [1] * w.dim()
    if w.dim():
        shape[dim] = -1
    return factors.view(shape)


def _alone(judge: _Judge, name: str, products: Sequence[Tensor], size: float) -> Invariance | None:
    dim, units = _units(judge, [name], [[product] for product in products])
    covered = sum(stop - start for start, stop in units)
    candidate = all(abs(float(product.sum())) <= CANDIDATE * size for product in products)
    rows = products[0].shape[dim] if units else -1
    whole = covered == rows or (candidate and judge.still([name]))
    return Invariance(names=(name,), whole=whole, dim=dim, units=units) if whole or units else None


def _units(
    judge: _Judge, names: Sequence[str], products: Sequence[Sequence[Tensor]]
) -> tuple[int, tuple[Range, ...]]:
    """The finest runs of rows, else of columns, that can be rescaled each by its own factor.

    ``products`` holds w * grad per observation and tensor; the tensors have as many rows.
    """
    best: tuple[int, tuple[Range, ...]] = (0, ())
    for dim in range(min(2, *(product.dim() for product in products[0]), 2)):
        sums = torch.stack([_sum_rows(one, dim) for one in products]).cpu()
        sizes = torch.stack([_sum_rows([p.abs() for p in one], dim) for one in products]).cpu()
        ranges = row_ranges(sums, sizes)
        if len(ranges) > len(best[1]):
            found = judge.confirmed(names, dim, ranges)
            best = (dim, found) if len(found) > len(best[1]) else best
    return best


def _sum_rows(tensors: Sequence[Tensor], dim: int) -> Tensor:
    rows = [t.movedim(dim, 0).flatten(1).sum(1) if t.dim() > 1 else t for t in tensors]
    return torch.stack(rows).sum(0)


def _joint(
    reaction: Reaction, names: Sequence[str], products: Sequence[Mapping[str, Tensor]]
) -> tuple[Invariance, ...]:
    """Groups among ``names`` that can be rescaled by a common factor."""
    with torch.no_grad():
        outputs = reaction.outputs().numel()
    needed = len(names) + 8
    slopes: list[Tensor] = []
    while len(slopes) < needed:
        reaction.redraw()
        for gradients in reaction.slopes(max(1, min(outputs, -(-needed // DRAWS)))):
            sums = [
                float((reaction.weights[name].detach() * gradients[name]).sum()) for name in names
            ]
            slopes.append(torch.tensor(sums, dtype=torch.float64))
    judge = _Judge(reaction)
    groups: list[Invariance] = []
    for group in sorted(null_groups(torch.stack(slopes)) if names else [], key=len):
        members = tuple(names[i] for i in group)
        if not judge.still(members):
            continue
        dim: int = 0
        units: tuple[Range, ...] = ()
        if len({reaction.weights[name].shape[:1] for name in members}) == 1:
            of_group = [[one[name] for name in members] for one in products]
            dim, units = _units(judge, members, of_group)
        groups.append(Invariance(names=members, whole=True, dim=dim, units=units))
    return tuple(groups)
