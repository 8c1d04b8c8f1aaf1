"""Measure how a model's outputs react to its parameters, for :mod:`.invariance`.

All on a copy in float64 with random weights near the model's own: an invariance belongs to the
architecture and holds for any weights, while a gradient may vanish at some weights by chance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves, tree_map

from gamma_nlp.check.probe.model_copy import cast, duplicate, is_silent
from gamma_nlp.companions.arguments import in_own_words, refuse_parts
from gamma_nlp.companions.effective_rate.no_epsilons import Exact
from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.graph.inputs import arguments
from gamma_nlp.wrappers import unwrap

NOISE = 0.3
"""Standard deviation of the noise on a tensor, in units of its root mean square."""

Run = Callable[[nn.Module], Any]


class Reaction:
    """A copy of a model whose parameters can be redrawn and rescaled.

    Dropout is off; batch norms use the batch, as in training, since their running statistics
    would hide that they normalise.

    Args:
        model: The model; left unchanged.
        inputs: What to call it with, as for :func:`gamma_nlp.probe`.
        run: Calls the copy itself and returns a loss or outputs; replaces ``inputs``.
        seed: Seed of the noise.

    Raises:
        GammaError: The model cannot be copied or called, or returns nothing differentiable.
    """

    def __init__(
        self, model: nn.Module, inputs: Any = None, run: Run | None = None, seed: int = 0
    ) -> None:
        if run is not None and inputs is not None:
            raise GammaError("pass inputs or loss_fn, not both: loss_fn calls the model itself")
        if any(p.is_meta for p in model.parameters()):
            raise GammaError(f"{type(model).__name__} is on the meta device; load its values first")
        refuse_parts(dict(model.named_parameters()), "scale_invariant", takes=None)
        call = None if run is not None else cast(_arguments(model, inputs), torch.float64)
        self._copy, named = duplicate(model, torch.float64)
        if run is not None:  # the user's own inputs are of the user's precision
            self._copy.register_forward_pre_hook(
                lambda _, args, kwargs: tree_map(_to_float64, (args, kwargs)), with_kwargs=True
            )
        for module in self._copy.modules():
            if isinstance(module, _NormBase):
                module.train()
        self.weights: dict[str, Tensor] = {
            name: p.requires_grad_(True) for name, p in named.items() if p.is_floating_point()
        }
        self.others = tuple(name for name in named if name not in self.weights)
        self._own = {name: p.detach().clone() for name, p in self.weights.items()}
        self._generator = torch.Generator().manual_seed(seed)
        args, kwargs = ((), {}) if call is None else call
        self._call = lambda: self._copy(*args, **kwargs) if run is None else run(self._copy)
        self._known: Tensor | None = None

    def noise(self, tensor: Tensor) -> Tensor:
        """Return normal noise in the shape of ``tensor``."""
        drawn = torch.randn(tensor.shape, generator=self._generator, dtype=torch.float64)
        return drawn.to(tensor)

    @torch.no_grad()
    def redraw(self) -> None:
        """Put new noise on the model's own weights; constant tensors get it too."""
        for name, p in self.weights.items():
            own = self._own[name]
            size = own.square().mean().sqrt() if p.numel() else 0.0
            p.copy_(own + NOISE * self.noise(p) * (1.0 if is_silent(own) else size))

    def outputs(self) -> Tensor:
        """Return all outputs as one row, each output tensor scaled to a mean square near 1."""
        with warnings.catch_warnings(), Exact():
            warnings.simplefilter("ignore")
            usual = torch.get_default_dtype()
            try:
                torch.set_default_dtype(torch.float64)
                found = self._run()
            finally:
                torch.set_default_dtype(usual)
        leaves = [
            leaf.double().flatten()
            for leaf in tree_leaves(found)
            if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel()
        ]
        if not leaves or (torch.is_grad_enabled() and not any(x.requires_grad for x in leaves)):
            raise GammaError(
                f"{type(self._copy).__name__} returned nothing that depends on its parameters; it "
                "must return a loss or outputs"
            )
        row = torch.cat(leaves)
        if self._known is None:
            self._known = row.detach().isfinite()  # masked scores are minus infinity
            if not bool(self._known.any()):
                raise GammaError(
                    f"{type(self._copy).__name__} returned no finite number; check the inputs"
                )
            self._sizes = torch.cat([_size(leaf) for leaf in leaves])[self._known]
        if row.shape != self._known.shape:
            raise GammaError(
                f"{type(self._copy).__name__} returned outputs of another size the second time; "
                "pass inputs that give outputs of the same size at every call"
            )
        return row[self._known] / self._sizes

    def _run(self) -> Any:
        cuda = sorted({p.device.index for p in self.weights.values() if p.device.type == "cuda"})
        try:
            with torch.random.fork_rng(devices=cuda):
                torch.manual_seed(0)
                return self._call()
        except GammaError:
            raise
        except Exception as error:
            raise GammaError(
                f"{type(self._copy).__name__} could not be run in float64 ({type(error).__name__}: "
                f"{one_line(error)}); check the inputs: scale_invariant(model, inputs), with more "
                "than one example where there are batch norms"
            ) from error

    def slopes(self, directions: int) -> list[dict[str, Tensor]]:
        """Return gradients of that many random combinations of the outputs, by parameter name."""
        row = self.outputs()
        names = list(self.weights)
        found = []
        for left in range(directions, 0, -1):
            combined = (row * self.noise(row)).sum() / row.numel() ** 0.5
            with Exact():
                gradients = torch.autograd.grad(
                    combined,
                    [self.weights[name] for name in names],
                    retain_graph=left > 1,
                    allow_unused=True,
                )
            if all(g is None for g in gradients):
                raise GammaError(
                    "what loss_fn returned does not depend on its argument, a copy of the "
                    f"{type(self._copy).__name__}; loss_fn must call that copy"
                )
            if not all(bool(g.isfinite().all()) for g in gradients if g is not None):
                raise GammaError(
                    f"{type(self._copy).__name__} has gradients that are not finite; check its "
                    "inputs and weights"
                )
            pairs = zip(names, gradients, strict=True)
            found.append(
                {n: torch.zeros_like(self.weights[n]) if g is None else g for n, g in pairs}
            )
        return found

    @torch.no_grad()
    def moved(self, changed: Mapping[str, Tensor], base: Tensor) -> float:
        """Return how far these values move the outputs from ``base``, then put the values back."""
        kept = {name: self.weights[name].clone() for name in changed}
        try:
            for name, value in changed.items():
                self.weights[name].copy_(value)
            distance = float((self.outputs() - base).norm())
        finally:
            for name, value in kept.items():
                self.weights[name].copy_(value)
        return distance if distance == distance else float("inf")


def _arguments(model: nn.Module, inputs: Any) -> Any:
    try:
        return arguments(unwrap(model), inputs)
    except GammaError as error:
        raise GammaError(in_own_words(error, "scale_invariant(model")) from error


def _to_float64(leaf: Any) -> Any:
    # Not detached: what a model is called with may come from its own parameters.
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def _size(leaf: Tensor) -> Tensor:
    values = leaf.detach()[leaf.detach().isfinite()]
    size = values.square().mean().sqrt() if values.numel() else leaf.new_ones(())
    return torch.where(size > 0, size, torch.ones_like(size)).expand(leaf.shape)
