"""Record what a strong regulariser did over a run: small, and on the device until it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SLOTS = 256
"""How many points in time are kept; when all are full, neighbours are merged."""
_ACTED, _COHERENCE, _COUNT = range(3)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Some consecutive decisions.

    Attributes:
        step: The optimizer step of the last of them, counted from 1.
        acted: The share of them in which it acted; with decisions per tensor, the mean share.
        coherence: Mean of cos(g, g + r) of the two steps, all tensors taken as one vector.
    """

    step: int
    acted: float
    coherence: float


@dataclass(frozen=True, kw_only=True)
class StrongRow:
    """One tensor.

    Attributes:
        name: The parameter's name.
        elements: Number of elements.
        zeros: Number of elements that are 0.
        acted: Share of the decisions in which it was shrunk; ``nan`` before the first.
        coherence: Mean of cos(g, g + r) of this tensor alone.
    """

    name: str
    elements: int
    zeros: int
    acted: float
    coherence: float


@dataclass(frozen=True, kw_only=True)
class StrongReport:
    """What a strong regulariser did so far; ``str`` gives a table.

    Attributes:
        rows: One row for each tensor.
        acted: Share of the decisions in which it acted, over all tensors.
        coherence: Mean of cos(g, g + r) of the two steps, all tensors taken as one vector.
        steps: Optimizer steps so far.
    """

    rows: tuple[StrongRow, ...]
    acted: float
    coherence: float
    steps: int

    @property
    def sparsity(self) -> float:
        """The share of zeros among all elements of these tensors."""
        elements = sum(row.elements for row in self.rows)
        return sum(row.zeros for row in self.rows) / max(elements, 1)

    @property
    def compression(self) -> float:
        """The elements of these tensors over those that are not 0."""
        kept = sum(row.elements - row.zeros for row in self.rows)
        return sum(row.elements for row in self.rows) / max(kept, 1)

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [f"{'tensor':<{width}}  {'elements':>10}  {'zeros':>7}  {'acted':>7}  cos(g, g+r)"]
        for row in self.rows:
            lines.append(
                f"{row.name:<{width}}  {row.elements:>10,}  "
                f"{row.zeros / max(row.elements, 1):>7.1%}  {_percent(row.acted):>7}  "
                f"{row.coherence:>11.3f}"
            )
        acted = "no decision yet"
        if self.acted == self.acted:  # no nan
            acted = f"acted {self.acted:.1%}, cos(g, g+r) {self.coherence:.3f}"
        lines.append(
            f"after {self.steps} steps: {self.sparsity:.1%} zeros, compression "
            f"{self.compression:.1f}, {acted}"
        )
        return "\n".join(lines)


class Record:
    """Sums over decisions for each tensor and for all of them, along the run."""

    def __init__(self, names: Sequence[str], every: int) -> None:
        self.names, self.every = list(names), every
        self.span, self.decisions = 1, 0
        self.sums: Tensor | None = None

    @torch.no_grad()
    def add(
        self, live: Sequence[int], acts: Tensor, coherence: Tensor, keep: Tensor | None
    ) -> None:
        """Add one decision on the tensors ``live``; ``keep`` is 0 if gradients overflowed."""
        if self.sums is None:
            self.sums = torch.zeros(SLOTS, len(self.names) + 1, 3, device=acts.device)
        slot = self.decisions // self.span
        if slot == SLOTS:
            self._halve()
            slot = SLOTS // 2
        self.decisions += 1
        self.sums = self.sums.to(acts.device)
        acted = torch.cat([acts.float(), acts.float().mean(0, keepdim=True)])
        row = torch.stack([acted, coherence, torch.ones_like(coherence)], dim=1)
        if keep is not None:  # gradients that overflowed have no cosine
            row = torch.where(keep.to(row.device) != 0, row, torch.zeros_like(row))
        if len(live) == len(self.names):
            self.sums[slot] += row
        else:
            where = torch.tensor([*live, len(self.names)], device=row.device)
            self.sums[slot].index_add_(0, where, row)

    def _halve(self) -> None:
        assert self.sums is not None
        joined = self.sums.unflatten(0, (SLOTS // 2, 2)).sum(1)
        self.sums = torch.cat([joined, torch.zeros_like(joined)])
        self.span *= 2

    def means(self) -> list[tuple[float, float]]:
        """Return (acted, coherence) of each tensor and of all; the device is read once."""
        if self.sums is None:
            return [(float("nan"), float("nan"))] * (len(self.names) + 1)
        total = self.sums.sum(0)
        rows = (total[:, :_COUNT] / total[:, _COUNT:]).tolist()
        return [(acted, coherence) for acted, coherence in rows]

    def totals(self) -> tuple[float, float, float]:
        """Return sums over all tensors: of acted, of coherence, and the number of decisions."""
        if self.sums is None:
            return 0.0, 0.0, 0.0
        acted, coherence, count = self.sums[:, -1].sum(0).tolist()
        return acted, coherence, count

    def history(self) -> list[Span]:
        """Return the run in at most :data:`SLOTS` spans; the device is read once."""
        if self.sums is None:
            return []
        spans = []
        for slot, (acted, coherence, count) in enumerate(self.sums[:, -1].tolist()):
            if count:
                last = min((slot + 1) * self.span, self.decisions) * self.every
                spans.append(Span(step=last, acted=acted / count, coherence=coherence / count))
        return spans

    def state(self) -> dict[str, Any]:
        sums = None if self.sums is None else self.sums.clone()
        return {
            "names": list(self.names),
            "span": self.span,
            "decisions": self.decisions,
            "sums": sums,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state; tensors that it does not know start at zero."""
        self.span, self.decisions = int(state["span"]), int(state["decisions"])
        saved = state["sums"]
        if saved is None:
            self.sums = None
            return
        self.sums = torch.zeros(SLOTS, len(self.names) + 1, 3)
        places = {name: i for i, name in enumerate(state["names"])}
        for i, name in enumerate(self.names):
            if name in places:
                self.sums[:, i] = saved[:, places[name]]
        self.sums[:, -1] = saved[:, -1]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share == share else "-"
