"""Fresh noise at each step of a play.

Whatever a step moves gets fresh noise of the size of its values. So noise neither fades on its way
through small weights nor cancels, as it does in the deviation of a signal to which the same number
is added everywhere; and what it does not move stays still to the last bit.
"""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor

from gamma_nlp.check.probe.blocks import noisy
from gamma_nlp.check.probe.tape import HUGE, Ref


class Renewal:
    """What to put in place of the results of a play.

    Args:
        picks: The steps that might pick other elements; see :mod:`gamma_nlp.check.probe.picks`.
    """

    def __init__(self, picks: Container[int]) -> None:
        self.picks = picks
        self._fresh: dict[Ref, tuple[Tensor, Tensor]] = {}

    def __call__(self, ref: Ref, before: Tensor, after: Tensor) -> Tensor | None:
        """Return fresh noise where a result has moved; ``None`` where it has not.

        Args:
            ref: The window of the result.
            before: What was recorded.
            after: What came out, nan where it might have been something else.
        """
        if ref not in self._fresh:
            fresh = noisy(before, 1 + ref.key[0] * 1_000 + ref.key[1])
            self._fresh[ref] = fresh, 16 * torch.finfo(before.dtype).eps * _scale(before)
        fresh, rounding = self._fresh[ref]
        moved = ~((after - before).abs() <= rounding)
        if not bool(moved.any()):
            return None
        return torch.where(moved, fresh, before)


def _scale(values: Tensor) -> Tensor:
    """Return the size of the values around each value, where masks do not count for others."""
    size = values.abs().nan_to_num_(0.0, 0.0, 0.0)
    usual = torch.where(size < HUGE, size, 0)
    return torch.maximum(size, usual.max()) if size.numel() else size
