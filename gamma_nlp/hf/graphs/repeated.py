"""Work on inputs of a few shapes: recorded once for each, and repeated on the inputs of the day."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from gamma_nlp.errors import one_line
from gamma_nlp.hf.graphs.capture import Capture

T = TypeVar("T")
Inputs = Mapping[str, torch.Tensor]


class CannotRecord(Exception):
    """Work that could be done could not be recorded; the text says why."""


class Repeated(Generic[T]):
    """Do ``work(inputs)``: as usual at first, then recorded, then by replaying the recording.

    The first time that a shape comes the work is done as usual, which is also its rehearsal; the
    second time it is recorded. A shape that never comes back costs nothing.

    Args:
        work: Reads tensors that stay where they are, and the inputs.
        capture: How to record.
        most: How many recordings to hold; what comes later is done as usual.
        on_full: Called once, when the first shape finds no room.
    """

    def __init__(
        self,
        work: Callable[[Inputs], T],
        capture: Capture,
        *,
        most: int,
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        self.work, self.capture, self.most = work, capture, most
        self._on_full: Callable[[], None] | None = on_full
        self._met: set[Hashable] = set()
        self.recordings: dict[Hashable, _Recording[T]] = {}

    def __call__(self, inputs: Inputs, key: Hashable = None) -> T:
        """Do the work.

        Args:
            inputs: Tensors of this time.
            key: All else that the work depends on; another key is another recording.

        Raises:
            CannotRecord: It cannot be recorded, and was not done this time.
        """
        shapes = tuple((name, x.shape, x.dtype) for name, x in inputs.items())
        known = self.recordings.get((shapes, key))
        if known is None:
            if not self._is_due((shapes, key)):
                return self.capture.rehearse(lambda: self.work(inputs))
            known = self.recordings[shapes, key] = self._record(inputs)
        for name, held in known.inputs.items():
            held.copy_(inputs[name], non_blocking=True)
        return known.again()

    def _is_due(self, key: Hashable) -> bool:
        if key not in self._met:
            self._met.add(key)
            return False
        if len(self.recordings) < self.most:
            return True
        if self._on_full is not None:
            self._on_full()
            self._on_full = None
        return False

    def _record(self, inputs: Inputs) -> _Recording[T]:
        held = {name: x.clone() for name, x in inputs.items()}
        try:
            again = self.capture.record(lambda: self.work(held))
        except Exception as error:  # whatever may not happen while recording has its own kind
            # CUDA's errors go on with advice on how to debug them.
            raise CannotRecord(one_line(error).partition(" CUDA kernel errors")[0]) from error
        return _Recording(inputs=held, again=again)


@dataclass(frozen=True, kw_only=True)
class _Recording(Generic[T]):
    inputs: Inputs
    again: Callable[[], T]
