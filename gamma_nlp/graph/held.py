"""What counts as a weight although no parameter of the model holds it.

A quantised layer may keep its matrix in a buffer, a plain attribute or an object of C++; VeRA
projects with two frozen buffers. Contracted with the signal such a matrix is a weight. What the
pass makes of shapes and constants (a mean, a rotation, an interpolation) is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gamma_nlp.graph import operations
from gamma_nlp.graph.affine import Expr

HELD = Expr(frozenset())
"""A weight that is no parameter."""
_WEIGHS = ("mm", "linear", "matmul", "conv", "dot")
"""Parts of the names of foreign kernels that contract with a matrix of numbers."""
_SMALL = (torch.int8, torch.uint8, torch.int16, torch.int32)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What matters of an operation beside its operands.

    Attributes:
        name: Its name in the dispatcher.
        foreign: Whether it comes from outside PyTorch.
        packed: Whether it takes a matrix in an object that is no tensor.
        random: Whether it draws random numbers.
        pointwise: Whether it computes each element from the elements at the same place.
        alpha: What a sum multiplies its second operand by.
    """

    name: str
    foreign: bool = False
    packed: bool = False
    random: bool = False
    pointwise: bool = False
    alpha: float = 1.0

    @classmethod
    def of(cls, func: Any, name: str, leaves: Iterable[Any], alpha: float = 1.0) -> Kernel:
        """Describe an operation that is called with these arguments."""
        namespace = getattr(func, "namespace", "aten")
        objects = any(isinstance(leaf, torch.ScriptObject) for leaf in leaves)
        tags = getattr(func, "tags", ())
        return cls(
            name=name,
            foreign=namespace not in ("aten", "prims"),
            packed=objects and "c10d" not in namespace,  # there it is a group of processes
            alpha=alpha,
            random=torch.Tag.nondeterministic_seeded in tags,
            pointwise=torch.Tag.pointwise in tags,
        )

    def weighs(self, constant: Tensor, signal: Tensor) -> bool:
        """Return whether the operation uses a constant that the model holds as a weight."""
        if self.foreign:
            return not constant.is_floating_point() or any(w in self.name for w in _WEIGHS)
        if self.name not in operations.CONTRACTIONS or not is_matrix(constant):
            return False
        # One filter for each channel, such as a blur before a stride, pools and mixes nothing.
        filters = "conv" in self.name and signal.dim() == constant.dim() >= 3
        return not (filters and constant.shape[1] == 1 and signal.shape[1] == constant.shape[0])


def is_matrix(tensor: Tensor) -> bool:
    """Return whether a tensor extends in two dimensions or more."""
    return sides(tensor) >= 2


def sides(tensor: Tensor) -> int:
    """Return in how many dimensions a tensor extends."""
    return sum(size > 1 for size in tensor.shape)


def is_quantised(tensor: Tensor) -> bool:
    """Return whether a tensor made from a signal is that signal in small whole numbers.

    Indices made from a signal are long.
    """
    return tensor.dtype in _SMALL
