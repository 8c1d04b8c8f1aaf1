"""Notice when values leave PyTorch: what comes back is a tensor that no operation has made.

A dispatch mode sees operations. ``x.numpy()``, ``x.tolist()`` or a kernel that takes the address of
a tensor are none, so a signal that takes this way would come back as a constant, and every gain
before it would look as if no addition followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

EXITS = frozenset({"numpy", "__array__", "tolist", "__dlpack__", "data_ptr"})


class Escapes(TorchFunctionMode):
    """Calls ``leave(tensor, method)`` for every tensor whose values are read behind PyTorch."""

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
    """What is known of values behind PyTorch: which way the signal went, what may hold it now.

    Attributes:
        exit: The module in which the signal left and the method that it took, or ``None``.
    """

    def __init__(self) -> None:
        self.exit: tuple[str, str] | None = None
        self._own: set[int] = set()
        self._lent = WeakTensorKeyDictionary()

    def own(self, tensors: Iterable[torch.Tensor]) -> None:
        """The model had these tensors before; they hold no signal."""
        self._own.update(id(tensor) for tensor in tensors)

    def leave(self, place: str, method: str) -> None:
        """The signal left in module ``place``."""
        self.exit = self.exit or (place, method)

    def lend(self, tensor: torch.Tensor) -> None:
        """Something may write to a constant unseen."""
        self._lent[tensor] = True

    def may_hold_signal(self, tensor: torch.Tensor, made: bool) -> bool:
        """Whether a tensor that is no activation may hold what left before.

        Args:
            tensor: An operand.
            made: Whether it comes from an operation that was seen, or from the caller.
        """
        if not tensor.is_floating_point() or tensor.numel() < 2:
            return False
        return tensor in self._lent if made else id(tensor) not in self._own
