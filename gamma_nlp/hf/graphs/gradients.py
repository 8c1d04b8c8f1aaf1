"""Gradients that stay in one place, whichever recording or usual step made them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from gamma_nlp.hf.graphs.repeated import CannotRecord


class Gradients:
    """Holds one gradient tensor for each parameter, outside the memory that recordings share.

    A backward pass makes gradients of its own, which recordings of other shapes may place
    elsewhere; so they are copied here, where clipping and the optimizer find them. Which
    parameters got one is told by a number, the same for the same parameters.

    Args:
        parameters: Those that are trained.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._held: dict[nn.Parameter, torch.Tensor] = {}
        self._sets: dict[tuple[int, ...], int] = {}
        self._filled: list[list[nn.Parameter]] = []

    def clear(self) -> None:
        """Leave no gradient, so that the next backward pass makes new ones."""
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def take(self) -> int:
        """Copy what a backward pass made; return the number of the set that it made them for.

        Raises:
            CannotRecord: A gradient is sparse.
        """
        filled = [p for p in self.parameters if p.grad is not None]
        made = [p.grad for p in filled if p.grad is not None]
        for p, gradient in zip(filled, made, strict=True):
            if gradient.is_sparse:
                raise CannotRecord("a gradient is sparse, and so has no fixed size")
            if p not in self._held:
                self._held[p] = torch.empty_like(gradient)
        if made:
            torch._foreach_copy_([self._held[p] for p in filled], made)
        number = self._sets.setdefault(tuple(map(id, filled)), len(self._sets))
        if number == len(self._filled):
            self._filled.append(filled)
        self.give(number)
        return number

    def give(self, number: int) -> None:
        """Let these parameters have the gradients that are held, and no other any."""
        self.clear()
        for p in self._filled[number]:
            p.grad = self._held[p]

    def places(self) -> tuple[tuple[int, bool], ...]:
        """Return where each parameter lies and whether it trains: a recording is bound to both."""
        return tuple((p.data_ptr(), p.requires_grad) for p in self.parameters)
