"""Cut pairs into batches by a budget: what counts, how pairs are sorted, where batches end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gamma_nlp.errors import GammaError

Lengths = Sequence[int] | np.ndarray


@dataclass(frozen=True, kw_only=True)
class TokenBudget:
    """How large a batch may be.

    Attributes:
        max_tokens: The most tokens in a batch, padding included: pairs times widest sequence.
        sides: ``both`` counts source and target and takes the larger count; ``target`` ignores
            the source.
        max_sentences: The most pairs in a batch; None for no limit.
        multiple_of: Make the number of pairs a multiple of this, except in the last batch and in
            batches with fewer pairs than this.
        width_multiple: Pad widths to a multiple of this; give the collator the same.
        skip_long: Leave out pairs that are wider than the budget instead of refusing them.
        max_shapes: The most shapes that batches may have, chosen for little padding; rows that
            are left over are filled with what counts nothing. None for as many as come.

    Raises:
        GammaError: A number below one, or an unknown ``sides``.
    """

    max_tokens: int
    sides: Literal["both", "target"] = "both"
    max_sentences: int | None = None
    multiple_of: int = 1
    width_multiple: int = 1
    skip_long: bool = False
    max_shapes: int | None = None

    def __post_init__(self) -> None:
        for name in (
            *("max_tokens", "max_sentences", "multiple_of", "width_multiple", "max_shapes"),
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise GammaError(f"{name} must be at least 1, not {value}")
        if self.sides not in ("both", "target"):
            raise GammaError(f"sides must be 'both' or 'target', not {self.sides!r}")


def pair_lengths(data: Any) -> tuple[list[int], list[int]]:
    """Return the tokens of each source and each target of a dataset; reads every example once.

    Raises:
        GammaError: An example has no ``input_ids`` or no ``labels``.
    """
    source, target = [], []
    for index in range(len(data)):
        example = data[index]
        if "input_ids" not in example or "labels" not in example:
            raise GammaError(
                f"example {index} of train_dataset has no input_ids and labels, but "
                f"{', '.join(map(str, example))}"
            )
        source.append(len(example["input_ids"]))
        target.append(len(example["labels"]))
    return source, target


def waste(batches: Iterable[Sequence[int]], lengths: Lengths, *, width_multiple: int = 1) -> float:
    """Return the share of padding among all tokens of ``batches``, for one side's ``lengths``."""
    sizes = np.asarray(lengths)
    real = padded = 0
    for batch in batches:
        part = sizes[np.asarray(batch)]
        real += int(part.sum())
        padded += len(part) * -(-int(part.max()) // width_multiple) * width_multiple
    return 1.0 - real / padded if padded else 0.0


def checked_pairs(source: Lengths, target: Lengths) -> np.ndarray:
    """Return lengths as an array of shape (pairs, 2), source first.

    Raises:
        GammaError: The two counts differ, or a side is empty.
    """
    if len(source) != len(target):
        raise GammaError(f"{len(source)} source lengths, but {len(target)} target lengths")
    lengths = np.stack((np.asarray(source, np.int64), np.asarray(target, np.int64)), axis=1)
    empty = np.flatnonzero((lengths < 1).any(axis=1))
    if len(empty):
        raise GammaError(
            f"pair {empty[0]} has {lengths[empty[0], 0]} source and {lengths[empty[0], 1]} target "
            "tokens; leave pairs with an empty side out"
        )
    return lengths


def fitting(
    lengths: np.ndarray, widths: np.ndarray, budget: TokenBudget
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of pairs within the budget and of those left out; both ascending.

    Args:
        lengths: Of shape (pairs, 2), without padding.
        widths: Of the same shape, with padding.
        budget: Says what counts, and whether long pairs are left out.

    Raises:
        GammaError: A pair is above the budget and may not be left out, or none is within it.
    """
    counted = widths[:, 1] if budget.sides == "target" else widths.max(axis=1)
    long = np.flatnonzero(counted > budget.max_tokens)
    if len(long) and not budget.skip_long:
        raise GammaError(
            f"pair {long[0]} has {lengths[long[0], 0]} source and {lengths[long[0], 1]} target "
            f"tokens, more than max_tokens={budget.max_tokens} (so have {len(long)} pairs); raise "
            "max_tokens, or set skip_long=True to leave them out"
        )
    if len(long) == len(lengths):
        raise GammaError(f"no pair is left within max_tokens={budget.max_tokens}")
    return np.flatnonzero(counted <= budget.max_tokens), long


def cut(widths: np.ndarray, budget: TokenBudget) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut pairs into batches, of as many shapes as come.

    Args:
        widths: Of shape (pairs, 2), each within the budget.
        budget: Says what counts.

    Returns:
        Each pair's sort key; where batches begin and end among sorted pairs; the shape of each
        batch, (batches, 3).
    """
    keys = places(widths)
    ordered = widths[np.argsort(keys, kind="stable")]
    ends = cuts(ordered.tolist(), budget)
    return keys, ends, np.c_[np.diff(ends), np.maximum.reduceat(ordered, ends[:-1])]


def places(widths: np.ndarray) -> np.ndarray:
    """Return each pair's sort key, from ``widths`` of shape (pairs, 2); equal widths, equal key."""
    # Two neighbouring target widths make one turn, within which pairs go by source width: with one
    # alone a large batch would span too many source widths. Turns go up and down alternately, or
    # a batch across two of them would mix the widest sources of one with the narrowest of the next.
    source, target = widths.T
    turn = np.unique(target, return_inverse=True)[1].reshape(-1) // 2
    climb = np.where(turn % 2, -source, source)
    within = np.where(climb % 2, -target, target)
    return (turn * (2 * source.max() + 1) + climb) * (2 * target.max() + 1) + within


def cuts(widths: Sequence[Sequence[int]], budget: TokenBudget) -> np.ndarray:
    """Return where batches begin and end among pairs sorted by :func:`places`."""
    most = budget.max_sentences or len(widths)
    ends, widest, here = [0], 0, 0
    while here < len(widths):
        source, target = widths[here]
        wide = max(widest, target if budget.sides == "target" else max(source, target))
        size = here - ends[-1] + 1
        if size <= most and size * wide <= budget.max_tokens:
            widest, here = wide, here + 1
            continue
        size -= 1
        if size > budget.multiple_of:
            here -= size % budget.multiple_of
        ends.append(here)
        widest = 0
    return np.asarray([*ends, len(widths)])
