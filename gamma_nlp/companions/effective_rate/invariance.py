"""Find the tensors that can be rescaled without any effect, from gradients and not from names.

[S] For weights w followed by a norm, y(X; aw) = y(X; w): L2 does not regularise them, it sets their
norm and with it their effective learning rate (van Laarhoven, arXiv:1706.05350).
[D] Where L(aw) = L(w) for every a > 0, the gradient is orthogonal to w: <w, grad> = 0. So one
backward pass names the candidates, for a tensor as a whole and for runs of its rows; rescaling
them, with all else unchanged, confirms them. Where the sum of <w, grad> over several tensors
vanishes, they can be rescaled together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.companions.effective_rate.perturb import Reaction, Run
from gamma_nlp.companions.effective_rate.report import Invariance, ScaleInvariance
from gamma_nlp.companions.effective_rate.zero_sums import Range, null_groups, row_ranges
from gamma_nlp.wrappers import unwrap

DRAWS = 3
"""At how many random weights <w, grad> must vanish."""
CANDIDATE = 1e-7
"""The largest cosine between a candidate and its gradient."""
STILL = 1e-7
"""Outputs stand still if they move less than this fraction of what noise moves them."""
FAINT = 1e-6
"""A gradient below this fraction of the largest may be nothing but rounding."""
SILENT = 1e-10
"""Tensors have no effect if noise on them moves the outputs by less than this fraction of them."""


@torch.inference_mode(False)
@torch.enable_grad()
def scale_invariant(
    model: nn.Module,
    inputs: Any = None,
    *,
    loss_fn: Run | None = None,
    joint: bool = True,
    seed: int = 0,
) -> ScaleInvariance:
    """Find the tensors that leave a model's function unchanged under rescaling.

    It examines a copy of the model, in float64, without dropout and without the epsilons of its
    norms, at random weights near the model's own. So the result is exact up to those epsilons.

    Args:
        model: Any module with values. Frozen parameters are examined like the others.
        inputs: What to call it with: a tensor, a tuple of positional or a dict of keyword
            arguments; models of transformers need none. Random numbers will do.
        loss_fn: Takes the copy of the model, calls it and returns a loss or outputs; replaces
            ``inputs``. Only what it returns counts. The copy casts its inputs to float64.
        joint: Look for groups of tensors too, which takes about as many backward passes as there
            are tensors; the rest takes a few.
        seed: Seed of the random weights.

    Raises:
        GammaError: The model cannot be copied or called, returns nothing finite that depends on its
            parameters, or got both ``inputs`` and ``loss_fn``.

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
    trial = _Trial(reaction)
    faint = {name for name, size in sizes.items() if size <= FAINT * max(sizes.values())}
    silent = {n for n in faint if trial.reach(n) <= SILENT * float(trial.base.norm())}
    live = [name for name in sizes if name not in silent]
    found = {n: _alone(trial, n, [one[n] for one in products], sizes[n]) for n in live}
    alone = tuple(one for one in found.values() if one is not None)
    rest = [n for n in live if (one := found[n]) is None or not one.whole]
    return ScaleInvariance(
        model=type(unwrap(model)).__name__,
        alone=alone,
        joint=_joint(reaction, rest, products) if joint else (),
        no_gradient=tuple(name for name in reaction.weights if name not in live),
        sensitive=tuple(name for name in live if found[name] is None),
        not_examined=reaction.others,
    )


class _Trial:
    """Confirms candidates by rescaling them."""

    def __init__(self, reaction: Reaction) -> None:
        self.reaction = reaction
        with torch.no_grad():
            self.base = reaction.outputs()
        self._reach: dict[str, float] = {}

    def reach(self, name: str) -> float:
        """Return how far noise on a tensor moves the outputs."""
        if name not in self._reach:
            w = self.reaction.weights[name].detach()
            noisy = w + self.reaction.noise(w) * w.square().mean().sqrt()
            self._reach[name] = self.reaction.moved({name: noisy}, self.base)
        return self._reach[name]

    def still(self, names: Sequence[str], dim: int = 0, units: Sequence[Range] = ()) -> bool:
        """Return whether one factor for all, or one for each unit, leaves the outputs alone."""
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
        """Return the units that really can be rescaled, by halving where not all can."""
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


def _alone(trial: _Trial, name: str, products: Sequence[Tensor], size: float) -> Invariance | None:
    dim, units = _units(trial, [name], [[product] for product in products])
    covered = sum(stop - start for start, stop in units)
    candidate = all(abs(float(product.sum())) <= CANDIDATE * size for product in products)
    rows = products[0].shape[dim] if units else -1
    whole = covered == rows or (candidate and trial.still([name]))
    return Invariance(names=(name,), whole=whole, dim=dim, units=units) if whole or units else None


def _units(
    trial: _Trial, names: Sequence[str], products: Sequence[Sequence[Tensor]]
) -> tuple[int, tuple[Range, ...]]:
    """Return the finest runs of rows, else of columns, that can each be rescaled alone.

    ``products`` holds w * grad for each observation and tensor; all tensors have as many rows.
    """
    best: tuple[int, tuple[Range, ...]] = (0, ())
    for dim in range(min(2, *(product.dim() for product in products[0]), 2)):
        sums = torch.stack([_sum_rows(one, dim) for one in products]).cpu()
        sizes = torch.stack([_sum_rows([p.abs() for p in one], dim) for one in products]).cpu()
        ranges = row_ranges(sums, sizes)
        if len(ranges) > len(best[1]):
            found = trial.confirmed(names, dim, ranges)
            best = (dim, found) if len(found) > len(best[1]) else best
    return best


def _sum_rows(tensors: Sequence[Tensor], dim: int) -> Tensor:
    rows = [t.movedim(dim, 0).flatten(1).sum(1) if t.dim() > 1 else t for t in tensors]
    return torch.stack(rows).sum(0)


def _joint(
    reaction: Reaction, names: Sequence[str], products: Sequence[Mapping[str, Tensor]]
) -> tuple[Invariance, ...]:
    """Return the groups among ``names`` that can be rescaled by a common factor."""
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
    trial = _Trial(reaction)
    groups: list[Invariance] = []
    for group in sorted(null_groups(torch.stack(slopes)) if names else [], key=len):
        members = tuple(names[i] for i in group)
        if not trial.still(members):
            continue
        dim: int = 0
        units: tuple[Range, ...] = ()
        if len({reaction.weights[name].shape[:1] for name in members}) == 1:
            of_group = [[one[name] for name in members] for one in products]
            dim, units = _units(trial, members, of_group)
        groups.append(Invariance(names=members, whole=True, dim=dim, units=units))
    return tuple(groups)
