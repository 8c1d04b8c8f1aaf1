"""One operation as it was called: its name, arguments, operands and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gamma_nlp.graph.held import Kernel
from gamma_nlp.graph.values import Value


@dataclass(frozen=True, kw_only=True)
class Call:
    """An operation of the pass.

    Attributes:
        name: The operation, named as in :mod:`gamma_nlp.graph.operations`.
        args: Its arguments.
        tensors: The tensors among them.
        values: What is known of these.
        outputs: What it returned.
        kernel: What else matters of it.
    """

    name: str
    args: tuple[Any, ...]
    tensors: list[torch.Tensor]
    values: list[Value]
    outputs: list[torch.Tensor]
    kernel: Kernel

    @property
    def nodes(self) -> list[int]:
        """The activations among the operands."""
        return [value.node for value in self.values if value.node is not None]

    @property
    def from_signal(self) -> bool:
        """Whether an operand depends on an activation."""
        return any(v.node is not None or v.from_signal for v in self.values)

    @property
    def from_input(self) -> bool:
        """Whether an operand depends on the model's inputs."""
        return self.from_signal or any(v.from_input for v in self.values)
