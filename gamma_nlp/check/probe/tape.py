"""A recorded forward pass that can be played again with something changed.

Memory is kept in versions. An operation in place makes a new version of the block that it writes,
so every value that ever existed can still be read, changed and followed. A :class:`Ref` is a window
on one version; a view is another window on it and costs nothing::

    x = torch.zeros(2, 3)      block 0   version 0   0 0 0 0 0 0
    y = x[1]                             window      . . . y y y
    y += 1                               version 1   0 0 0 1 1 1
    z = x * 2                  block 1   version 0   reads (0, 1), so it depends on the ``+=``

A step names the versions that it reads and writes. :meth:`Tape.play` puts new contents into some
versions and runs only the steps that the change reaches, in order; everything else is read from the
recording. A step that is *held* does not run: what it made stays as recorded, and a change ends
there. To hold all weights and norms is to ask what still gets through without them::

    x ──┬── norm ── weight ──┐         change x, hold nothing:          both operands of + move
        └────────────────────+         change x, hold norm and weight:  only the skip moves
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from gamma_nlp.check.probe.picks import argument, might_move

Key = tuple[int, int]
"""The number of a memory block, and its version."""


class Renew(Protocol):
    """What to put in place of the new results of a play."""

    picks: Container[int]
    """The steps that might pick other elements of their first operand."""

    def __call__(self, ref: Ref, before: Tensor, after: Tensor) -> Tensor | None:
        """Return what to put in place of a result, given its window, what was recorded and what
        came out, nan where it might have been another; ``None`` to leave it as recorded.
        """


class Ref(NamedTuple):
    """A tensor as one operation saw it: a window on one version of a memory block."""

    key: Key
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @property
    def is_float(self) -> bool:
        return self.dtype.is_floating_point or self.dtype.is_complex

    @property
    def is_whole(self) -> bool:
        """Whether every element has memory of its own."""
        return all(
            stride != 0 or size <= 1 for size, stride in zip(self.size, self.stride, strict=True)
        )

    @property
    def numel(self) -> int:
        """Number of distinct elements: expanded dimensions count once."""
        count = 1
        for size, stride in zip(self.size, self.stride, strict=True):
            count *= 1 if stride == 0 else size
        return count


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation, with what it read and what it made or overwrote.

    Attributes:
        index: Its position on the tape.
        name: Its name in the dispatcher, without namespace, overload and trailing underscore.
        foreign: Whether it comes from outside PyTorch.
        reads: Its tensor arguments, in order.
        writes: The windows that it overwrote, then its results in new memory.
        replaces: The versions that it overwrote.
        module: The module that was running.
        func: The operation itself.
        leaves: All its arguments, flat, with tensors as windows; constants without memory of
            their own, such as sparse matrices, as they are.
        spec: How to put the leaves back together; ``None`` if they are all positional.
        results: For each of ``writes``, its position in the output; ``None`` if overwritten.
        random: Whether it draws random numbers. Such a step is never played again.
    """

    index: int
    name: str
    foreign: bool
    reads: tuple[Ref, ...]
    writes: tuple[Ref, ...]
    replaces: tuple[Key, ...]
    module: str
    func: Any = field(repr=False)
    leaves: tuple[Any, ...] = field(repr=False)
    spec: TreeSpec | None = field(repr=False)
    results: tuple[int | None, ...] = field(repr=False)
    random: bool = field(repr=False)


class Tape:
    """The steps of one forward pass, the memory that they used, and its outputs."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.outputs: tuple[Ref, ...] = ()
        self.memory: list[list[torch.UntypedStorage]] = []
        self._readers: dict[Key, list[int]] = {}
        self.blocks: dict[int, int] = {}

    def add(self, step: Step) -> None:
        """Append a step."""
        self.steps.append(step)
        for key in dict.fromkeys(ref.key for ref in step.reads):
            self._readers.setdefault(key, []).append(step.index)

    def readers(self, key: Key) -> list[int]:
        """Return the steps that read this version of a block, in order."""
        return self._readers.get(key, [])

    def value(self, ref: Ref) -> Tensor:
        """Return the recorded value. Do not write to it."""
        return _window(self.memory[ref.key[0]][ref.key[1]], ref)

    def key_of(self, storage: torch.UntypedStorage) -> Key | None:
        """Return the first version of a block of memory; ``None`` if the model did not use it."""
        block = self.blocks.get(storage._cdata)
        return None if block is None else (block, 0)

    def overwritten(self, key: Key) -> bool:
        """Return whether the pass wrote to a block of memory."""
        return len(self.memory[key[0]]) > 1

    def whole(self, key: Key, dtype: torch.dtype) -> Tensor:
        """Return all of one version of a block as a row. Do not write to it."""
        return _row(self.memory[key[0]][key[1]], dtype)

    def play(
        self,
        values: Mapping[Key, torch.UntypedStorage] | None = None,
        operands: Mapping[tuple[int, int], Tensor] | None = None,
        *,
        hold: Container[int] = (),
        renew: Renew | None = None,
        until: int | None = None,
        choices: bool = False,
        keep: Set[Key] | None = None,
    ) -> Play:
        """Play the pass again with a change.

        Args:
            values: New contents of versions of memory blocks.
            operands: New tensor arguments, by step and position in its reads: they change one use
                of a value, where ``values`` changes all its uses.
            hold: Steps whose results stay as recorded.
            renew: What to put in place of each result; as it came out by default.
            until: The last step to run.
            choices: Whether indices and masks follow the change too. By default they stay as
                recorded: a change must not be able to send tokens to other experts.
            keep: The versions to keep of the result, so that long loops do not fill the memory;
                all by default.
        """
        live: dict[Key, torch.UntypedStorage] = dict(values or {})
        operands = operands or {}
        queue = [index for index, _ in operands]
        for key in live:
            queue += self.readers(key)
        queue = sorted(set(queue))
        queued = set(queue)
        while queue:
            step = self.steps[heapq.heappop(queue)]
            if until is not None and step.index > until:
                break
            if step.index in hold or step.random:
                continue
            made = self._run(step, live, operands, choices, keep, renew)
            for key in made:
                for reader in self.readers(key):
                    if reader not in queued:
                        queued.add(reader)
                        heapq.heappush(queue, reader)
        if keep is not None:
            live = {key: storage for key, storage in live.items() if key in keep}
        return Play(self, live)

    def _run(
        self,
        step: Step,
        live: dict[Key, torch.UntypedStorage],
        operands: Mapping[tuple[int, int], Tensor],
        choices: bool,
        keep: Set[Key] | None,
        renew: Renew | None,
    ) -> list[Key]:
        # What the step overwrites must not change in the recording, nor for other readers of the
        # same version: it gets a copy to write to, unless this is the version's last use.
        overwritten: dict[int, torch.UntypedStorage] = {}
        carried = {key[0] for key in step.replaces if key in live}
        for key in step.replaces:
            block, version = key
            last = keep is not None and key not in keep and self._readers[key][-1] <= step.index
            if last and key in live:
                overwritten[block] = live.pop(key)
            else:
                overwritten[block] = live.get(key, self.memory[block][version]).clone()
        leaves = list(step.leaves)
        position = 0
        for i, leaf in enumerate(leaves):
            if not isinstance(leaf, Ref):
                continue
            new = operands.get((step.index, position))
            position += 1
            block = leaf.key[0]
            if block in overwritten:
                leaves[i] = _window(overwritten[block], leaf)
                if new is not None:
                    leaves[i].copy_(new)
            elif new is not None:
                leaves[i] = new
            elif leaf.key in live and (choices or position - 1 != steering(step.name)):
                leaves[i] = _window(live[leaf.key], leaf)
            else:
                leaves[i] = self.value(leaf)
        args, kwargs = (leaves, {}) if step.spec is None else tree_unflatten(leaves, step.spec)
        result = step.func(*args, **kwargs)
        outputs = [result] if isinstance(result, Tensor) else tree_flatten(result)[0]
        if not choices:
            outputs = self._same_choice(step, args, kwargs, outputs)
        mask = None
        if renew is not None and step.index in renew.picks:
            mask = might_move(step.func, step.name, args, kwargs, self.value(step.reads[0]))
        made = []
        for ref, place in zip(step.writes, step.results, strict=True):
            if not (ref.is_float or choices):
                continue
            storage = overwritten.get(ref.key[0])
            if storage is None:
                assert place is not None
                storage = _stored(outputs[place], ref)
            if renew is not None and ref.is_float and ref.is_whole:
                after = _window(storage, ref)
                if mask is not None and mask.shape == after.shape:
                    after = after.masked_fill(mask, torch.nan)
                fresh = renew(ref, self.value(ref), after)
                if fresh is None and ref.key[0] not in carried:
                    continue
                _window(storage, ref).copy_(self.value(ref) if fresh is None else fresh)
            live[ref.key] = storage
            made.append(ref.key)
        return made

    def _same_choice(
        self, step: Step, args: Sequence[Any], kwargs: dict[str, Any], outputs: list[Any]
    ) -> list[Any]:
        """Let top-k, sort and maximum take the elements that they took in the recording."""
        if len(outputs) != 2 or len(step.writes) != 2:
            return outputs
        values, indices = step.writes
        if not values.is_float or indices.dtype != torch.int64 or values.size != indices.size:
            return outputs
        dim = argument(step.func, args, kwargs, "dim")
        if not isinstance(dim, int) or not isinstance(args[0], Tensor):
            return outputs
        chosen = self.value(indices)
        squeezed = chosen.dim() < args[0].dim()
        chosen = chosen.unsqueeze(dim) if squeezed else chosen
        taken = torch.take_along_dim(args[0], chosen, dim)
        return [taken.squeeze(dim) if squeezed else taken, outputs[1]]


class Play:
    """The result of a change: the new contents of every version that it reached."""

    def __init__(self, tape: Tape, live: Mapping[Key, torch.UntypedStorage]) -> None:
        self.tape = tape
        self.live = live

    def value(self, ref: Ref) -> Tensor:
        storage = self.live.get(ref.key)
        return self.tape.value(ref) if storage is None else _window(storage, ref)

    def whole(self, key: Key, dtype: torch.dtype) -> Tensor:
        """Return all of one version of a block as a row. Do not write to it."""
        storage = self.live.get(key)
        return self.tape.whole(key, dtype) if storage is None else _row(storage, dtype)

    def moved(self, ref: Ref) -> float:
        """Return the largest change of a value relative to its largest element; 0 if unreached."""
        if ref.key not in self.live or not ref.is_float:
            return 0.0
        before, after = self.tape.value(ref), self.value(ref)
        if before.numel() == 0:
            return 0.0
        finite = before.isfinite()
        if not bool((after.isfinite() == finite).all()):
            return float("inf")
        change = torch.where(finite, after - before, 0).abs().max()
        usual = finite & (before.abs() < HUGE)
        size = torch.where(usual if bool(usual.any()) else finite, before, 0).abs().max()
        return float(change / size) if float(size) > 0 else float(change)


def steering(name: str) -> int | None:
    """Return the position of the operand that says where to read another one, if there is one.

    Positions that a sampler reads are choices: they steer the signal and carry none of it.
    """
    return 1 if "grid_sampl" in name or "roi_" in name else None


HUGE = 1e4
"""Larger numbers are those of masks, and say nothing about the size of a signal."""


def _window(storage: torch.UntypedStorage, ref: Ref) -> Tensor:
    empty = torch.empty(0, dtype=ref.dtype, device=storage.device)
    return empty.set_(storage, ref.offset, ref.size, ref.stride)


def _row(storage: torch.UntypedStorage, dtype: torch.dtype) -> Tensor:
    empty = torch.empty(0, dtype=dtype, device=storage.device)
    return empty.set_(storage, 0, (storage.nbytes() // dtype.itemsize,), (1,))


def _stored(tensor: Tensor, ref: Ref) -> torch.UntypedStorage:
    """Return the memory of a tensor in the layout that later windows on it expect."""
    if tensor.stride() == ref.stride and tensor.storage_offset() == ref.offset:
        return tensor.untyped_storage()
    span = 1 + sum((n - 1) * s for n, s in zip(ref.size, ref.stride, strict=True) if n)
    fresh = torch.zeros(ref.offset + span, dtype=ref.dtype, device=tensor.device)
    fresh.as_strided(ref.size, ref.stride, ref.offset).copy_(tensor)
    return fresh.untyped_storage()
