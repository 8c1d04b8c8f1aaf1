"""What is known of each tensor of a pass: a value, which its views and aliases share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from gamma_nlp.graph.affine import Expr
from gamma_nlp.graph.joins import Join
from gamma_nlp.graph.memory import inner_tensors, memory_of, same_memory


@dataclass
class Value:
    """What is known of a tensor.

    Attributes:
        node: The node whose output it is, if it is an activation.
        choice: The node that stands for it, if it holds indices or masks made from activations.
        expr: What it is of parameters, if it is made of them alone.
        from_input: Whether it depends on the model's inputs.
        from_signal: Whether it depends on an activation.
        unwritten: Whether it is memory that nothing has been written to yet.
        held: Whether it is a constant matrix that the model holds (a buffer, a plain attribute), or
            is made of one. Contracted with the signal it is a weight; a matrix that the pass makes
            of shapes (a mean, an interpolation) is none.
        noise: Whether it was drawn in the pass. It is a constant, until a weight is applied to it.
        statistic: Whether it is a constant made of the model's own vectors, such as a running
            variance, and whether a root of one: ``None``, ``"plain"`` or ``"root"``.
        join: What was concatenated, if it is a concatenation.
    """

    node: int | None = None
    choice: int | None = None
    expr: Expr | None = None
    from_input: bool = False
    from_signal: bool = False
    unwritten: bool = False
    held: bool = False
    noise: bool = False
    statistic: str | None = None
    join: Join | None = None

    @property
    def rows(self) -> frozenset[str]:
        """The parameters that stand in it as rows."""
        return self.expr.parts.rows if self.expr and self.expr.parts else frozenset()


class Values:
    """The values of tensors.

    Args:
        follow: Adds a node for an activation that another was written into.

    Attributes:
        initialised: Whether a parameter that is trained was written to.
    """

    def __init__(self, follow: Callable[[str, Sequence[int]], int]) -> None:
        self.initialised = False
        self._follow = follow
        self._values = WeakTensorKeyDictionary()
        self._aliases: dict[int, list[TensorWeakRef]] = {}
        self._trained: set[int | None] = set()

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return tensor in self._values

    def train(self, tensor: torch.Tensor) -> None:
        """Note that a parameter is trained, so that it stays itself when it is written to."""
        self._trained.add(memory_of(tensor))

    def get(self, tensor: torch.Tensor) -> Value:
        """Return what is known of a tensor, of its memory, or of what it wraps."""
        found = self._values.get(tensor)
        return found or self._unannounced(tensor) or Value()

    def set(self, tensor: torch.Tensor, value: Value) -> None:
        """Note what a tensor holds that an operation has made."""
        if tensor not in self._values:
            key = memory_of(tensor)
            if key is not None:
                self._aliases.setdefault(key, []).append(TensorWeakRef(tensor))
        self._values[tensor] = value
        for part in inner_tensors(tensor):
            inside = value if value.expr is None else Value(expr=Expr(value.expr.params))
            if part not in self._values:
                self.set(part, inside)

    def write(self, tensor: torch.Tensor, value: Value) -> None:
        """Note that a tensor was overwritten, and with it its views and what it is a view of."""
        key = memory_of(tensor)
        if key in self._trained:  # initialised, or trained in the pass: still the same parameter
            self.initialised = True
            return
        self.set(tensor, value)
        for reference in self._aliases.get(key, []) if key is not None else []:
            other = reference()
            if other is None or other is tensor:
                continue
            before = self.get(other)
            if value.node is None:
                after = before if before.node is not None else value
            elif before.node is None or other.numel() == tensor.numel():
                after = value if other.shape == tensor.shape else replace(value, join=None)
            else:
                mixed = self._follow("write", (before.node, value.node))
                after = Value(node=mixed)
            self.set(other, after)

    def _unannounced(self, tensor: torch.Tensor) -> Value | None:
        """Return what is known of the same memory: no operation makes ``tensor.data``.

        Nor does one make a wrapper: what is known of it is what is known of its parts.
        """
        key = memory_of(tensor)
        for reference in self._aliases.get(key, []) if key is not None else []:
            other = reference()
            if other is not None and same_memory(other, tensor):
                return self._values[other]
        parts = [self.get(part) for part in inner_tensors(tensor)]
        for known in ("node", "expr"):
            for value in parts:
                if getattr(value, known) is not None:
                    return value
        return Value(held=True) if any(value.held for value in parts) else None


def carries_signal(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds numbers rather than indices or a mask."""
    return tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized
