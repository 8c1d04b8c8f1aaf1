"""Detect when values leave PyTorch, since what comes back is a tensor that no operation has made.

The recorder sees operations. ``x.numpy()``, ``x.tolist()`` and a kernel that takes the address of a
tensor are not operations. A signal that takes such a way *escapes*::

                 seen                     not seen                    seen
    x ── norm ── gain ── linear ──▶ .numpy() ──▶ any code ──▶ torch.tensor(...) ──▶ + ──▶
                                    the exit                  looks like a constant

Taken for a constant, it would cut the path: no addition would seem to follow the gain, which would
come out as ``head``. So the trace remembers the exit, and from then on refuses to read any tensor
that may hold what left: one that no operation has made and that the model did not own before, or
one whose memory was lent out. A signal that leaves and does not come back (logging, a histogram) is
not an escape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

EXITS = frozenset({"numpy", "__array__", "tolist", "__dlpack__", "data_ptr"})


class Escapes(TorchFunctionMode):
    """Call ``leave(tensor, method)`` for every tensor whose values are read outside PyTorch."""

    def __init__(self, leave: Callable[[torch.Tensor, str], None]) -> None:
        super().__init__()
        self._leave = leave

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in EXITS and args and isinstance(args[0], torch.Tensor):
            self._leave(args[0], name)
        return func(*args, **(kwargs or {}))


class Outside:
    """What is known of values outside PyTorch: where the signal left, what may hold it now.

    Attributes:
        exit: The module in which the signal left first and the method it took, or ``None``.
    """

    def __init__(self) -> None:
        self.exit: tuple[str, str] | None = None
        self._own: set[int] = set()
        self._lent = WeakTensorKeyDictionary()

    def own(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note that the model had these tensors before, so that they hold no signal."""
        self._own.update(id(tensor) for tensor in tensors)

    def leave(self, place: str, method: str) -> None:
        """Note that the signal left in module ``place``."""
        self.exit = self.exit or (place, method)

    def lend(self, tensor: torch.Tensor) -> None:
        """Note that something may write to this constant unseen."""
        self._lent[tensor] = True

    def may_hold_signal(self, tensor: torch.Tensor, made: bool) -> bool:
        """Return whether an operand that passes for a constant may hold what left before.

        Args:
            tensor: The operand.
            made: Whether an operation that was seen, or the caller, made it.
        """
        if not tensor.is_floating_point() or tensor.numel() < 2:
            return False
        return tensor in self._lent if made else id(tensor) not in self._own
