"""Batch sequence pairs by a budget of tokens: short pairs in large batches, long ones in small.

Pairs are sorted by the widths they are padded to and cut into batches within the budget. Each
epoch swaps pairs of equal widths at random (or of the same shape, where shapes are few) and
shuffles the batches. The cuts depend on the widths alone, so every epoch has the same number of
batches of the same shapes: a scheduler can be planned, and a run can be resumed by counting.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Sampler

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.batches.budget import Lengths, TokenBudget, checked_pairs, cut, fitting
from gamma_nlp.hf.batches.shapes import (
    Padding,
    Shape,
    alike_by_step,
    cut_to_few,
    fitting_shape,
    padded,
)


class TokenBatches(Sampler[list[int]]):
    """Batch sampler: lists of indices, each pair once an epoch, no batch above the budget.

    The order follows from seed and epoch alone. Process ``rank`` of ``world_size`` takes batch
    ``k * world_size + rank`` at step ``k``, so the batches of all processes together are those of
    a single one. Give it to ``DataLoader(batch_sampler=...)``; nothing else may shard it again.

    With ``budget.max_shapes`` give the collator the shapes: ``collator.shaped(batches.shapes)``.
    The order then follows from the number of processes too: at a step all of them have a batch of
    the same shape, but for the few steps that take what is left of several shapes.

    To resume, call ``load_state_dict(state)``, then ``set_epoch(sampler.epoch)`` or nothing. The
    next iteration, and only that one, begins after the batches that were done.

    Args:
        source: Tokens of each source sequence.
        target: Tokens of each target sequence.
        budget: The size of a batch.
        seed: Decides the order, together with the epoch; not negative.
        rank: This process.
        world_size: Number of processes.
        remainder: What to do if the batches do not divide evenly among processes: ``fill``
            repeats batches from the start of the epoch, ``drop`` leaves the last ones out.

    Attributes:
        epoch: From :meth:`set_epoch` or :meth:`load_state_dict`.
        skipped: Indices of the pairs that ``skip_long`` left out.
        shapes: Every shape that a batch has: pairs, and the widths of source and target; those
            of ``max_shapes`` from narrow to wide.
        padding: The share of padding in an epoch.

    Raises:
        GammaError: Lengths that do not pair up, a pair above the budget, nothing to train on.
    """

    def __init__(
        self,
        source: Lengths,
        target: Lengths,
        budget: TokenBudget,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        remainder: Literal["fill", "drop"] = "fill",
    ) -> None:
        if seed < 0:
            raise GammaError(f"seed must not be negative, but is {seed}")
        if not 0 <= rank < world_size:
            raise GammaError(
                f"rank must be from 0 to world_size - 1, but is {rank} of {world_size}"
            )
        if remainder not in ("fill", "drop"):
            raise GammaError(f"remainder must be 'fill' or 'drop', not {remainder!r}")
        self.budget, self.seed, self.epoch = budget, seed, 0
        self.rank, self.world_size, self.remainder = rank, world_size, remainder
        lengths = checked_pairs(source, target)
        widths = -(-lengths // budget.width_multiple) * budget.width_multiple
        self._indices, self.skipped = fitting(lengths, widths, budget)
        few = budget.max_shapes is not None
        made = (cut_to_few if few else cut)(widths[self._indices], budget)
        self._places, self._cuts, self._shapes = made
        what = [self._indices, self._places, self._cuts]
        if few:
            what += [self._shapes.ravel(), np.array([world_size])]
        self._identity = zlib.crc32(np.concatenate(what).tobytes())
        real = lengths[self._indices].sum(axis=0)
        filled = (self._shapes[:, :1] * self._shapes[:, 1:]).sum(axis=0)
        sides = 1 - real / filled
        together = 1 - real.sum() / filled.sum()
        self.padding = Padding(float(sides[0]), float(sides[1]), float(together))
        self.shapes: tuple[Shape, ...] = tuple(dict.fromkeys(map(tuple, self._shapes.tolist())))
        self._start = self._began = self._position = 0
        if len(self) == 0:
            raise GammaError(
                f"{self.batches} batches cannot be shared by {world_size} processes without a "
                "remainder; set remainder='fill', or a smaller max_tokens"
            )

    @property
    def batches(self) -> int:
        """Number of batches of an epoch, over all processes."""
        return len(self._cuts) - 1

    def __len__(self) -> int:
        """Return the batches of a whole epoch on this process, whatever was resumed."""
        return self._steps(self.batches)

    def _steps(self, batches: int) -> int:
        if self.remainder == "drop":
            return batches // self.world_size
        return -(-batches // self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration; a new epoch starts at its beginning."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._start = self._began = self._position = 0

    def order(self) -> list[list[int]]:
        """Return all batches of the epoch; the first step takes as many as there are processes."""
        rng = np.random.default_rng((self.seed, self.epoch))
        chance = rng.random(len(self._places))
        pairs = self._indices[np.lexsort((chance, self._places))]
        parts = np.split(pairs, self._cuts[1:-1])
        turns = rng.permutation(len(parts))
        if self.budget.max_shapes is not None and self.world_size > 1:
            turns = alike_by_step(turns, self._shapes, self.world_size, rng)
        return [parts[i].tolist() for i in turns]

    def __iter__(self) -> Iterator[list[int]]:
        start, self._start = self._start, 0
        self._began = start
        order = self.order()
        for step in range(self._steps(self.batches - start)):
            first = start + step * self.world_size
            self._position = min(first + self.world_size, self.batches)
            yield order[(first + self.rank) % self.batches]

    def state_dict(self, steps: int | None = None) -> dict[str, int]:
        """Return the position in the epoch, the same on every process, however many there are.

        Args:
            steps: Batches that this process has finished since the current iteration began.
                Without it, those handed out count, which are more than were trained on if the
                DataLoader has workers.
        """
        position = self._position
        if steps is not None:
            position = min(self._began + steps * self.world_size, self.batches)
        return {
            "epoch": self.epoch,
            "position": position,
            "seed": self.seed,
            "identity": self._identity,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where :meth:`state_dict` was taken.

        Raises:
            GammaError: The state belongs to other data, another budget or another seed.
        """
        self.check(state)
        self.epoch = state["epoch"]
        self._start = self._began = self._position = state["position"]

    def check(self, state: Mapping[str, Any]) -> None:
        """Refuse a state that was saved with another order of batches.

        Raises:
            GammaError: It belongs to other data, another budget or another seed.
        """
        if state["seed"] != self.seed:
            raise GammaError(
                f"the saved batches have seed {state['seed']}, these {self.seed}; resume with the "
                "same seed"
            )
        if state["identity"] != self._identity:
            raise GammaError(
                "the saved batches were cut from other lengths or with another token budget; "
                "resume with the same data and the same max_tokens, sides, max_sentences, "
                "multiple_of, width_multiple, skip_long and max_shapes (and, with max_shapes, the "
                "same number of processes)"
            )


class PairCollator:
    """Pad pairs into the tensors that encoder-decoder models of transformers take.

    Gives ``input_ids`` and ``attention_mask`` of shape (pairs, widest source), and ``labels`` of
    shape (pairs, widest target), padded with -100, which no loss counts.

    Args:
        pad_id: Token that pads ``input_ids``.
        width_multiple: Round widths up to a multiple of this (8 suits tensor cores).
        shapes: Pad each batch to the first of these that holds it. A row without a pair has no
            label that counts, and one source token, so that its attention is a number.
    """

    def __init__(
        self, pad_id: int, *, width_multiple: int = 1, shapes: Sequence[Shape] | None = None
    ) -> None:
        self.pad_id = pad_id
        self.width_multiple = width_multiple
        self.shapes = shapes

    def shaped(self, shapes: Sequence[Shape]) -> PairCollator:
        """Return a collator that pads to ``shapes``."""
        return PairCollator(self.pad_id, width_multiple=self.width_multiple, shapes=shapes)

    def __call__(self, pairs: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        source, target = ([pair[name] for pair in pairs] for name in ("input_ids", "labels"))
        rows, wide, long = self._shape(source, target)
        ids = padded(source, (rows, wide), self.pad_id)
        mask = padded([np.ones(len(row), np.int64) for row in source], (rows, wide), 0)
        labels = padded(target, (rows, long), -100)
        ids[len(pairs) :, 0] = ids[0, 0]
        mask[len(pairs) :, 0] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def _shape(self, source: Sequence[Any], target: Sequence[Any]) -> Shape:
        longest = [max(map(len, side)) for side in (source, target)]
        if self.shapes is not None:
            return fitting_shape(self.shapes, len(source), *longest)
        multiple = self.width_multiple
        return len(source), *(-(-one // multiple) * multiple for one in longest)
