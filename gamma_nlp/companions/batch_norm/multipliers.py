"""Measure the multipliers of batch norms' constraints by one backward pass.

A unit before a batch norm with gain g is a unit v under the constraint v'Sv = g**2. [D] Where
training is at rest, dL/dv = -mu Sv, hence mu = -<v, dL/dv> / v'Sv. With z the norm's output,
<v, dL/dv> = sum (z - mean z) dL/dz and v'Sv = Var z: the layer's inputs are not needed. It is the
same as -(dL/dg) / g, how much the loss would gain from a larger g. So a free gain goes to mu = 0,
and one with decay / 2 g**2 in the loss to mu = decay; neither needs the [R] of :mod:`.penalty`, nor
squared loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gamma_nlp.errors import GammaError


def multipliers(
    model: nn.Module,
    loss_fn: Callable[[nn.Module, Any], Tensor],
    batches: Iterable[Any],
) -> dict[str, Tensor]:
    """Return mu of every unit before every batch norm of a model.

    Before training is at rest, mu is only the pull on the gain; that the unit's direction is at
    rest too is not checked. Batch norms use the batch, as in training; everything else runs in the
    model's current mode. Parameters, their ``.grad`` and running statistics do not change.

    Args:
        model: A model with batch norms, their gains trained, frozen or absent.
        loss_fn: Takes the model and a batch, and returns the loss: a mean over examples, without
            penalties. mu counts in its units: L + mu / 2 v'Sv is at rest.
        batches: Batches to average over, each by its number of examples (the first dimension of
            the norm's outputs); large ones are best, or all data as one.

    Returns:
        mu [features] in float64 by the norm's name; ``nan`` where the output does not vary.

    Raises:
        GammaError: There is no batch norm or no batch, the loss does not depend on a norm, or it
            is not a finite number.

    Example:
        >>> from torch.nn.functional import mse_loss
        >>> net = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1, affine=False))
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0, 0.0]]))
        >>> found = multipliers(net, lambda net, x: mse_loss(net(x), 3 * x[:, :1]) / 2, [x])
        >>> round(float(found["1"]), 4)  # least squares has v = 3, the norm makes it sqrt(2)
        1.1213
    """
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise GammaError(
            f"batches is a {type(batches).__name__}; expected a list of batches as loss_fn takes "
            "them: [batch] for one"
        )
    norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    if not norms:
        raise GammaError(f"{type(model).__name__} has no batch norm")
    dot: dict[str, Tensor] = {}
    variance: dict[str, Tensor] = {}
    count = 0
    with torch.inference_mode(False), torch.enable_grad(), _watched(norms) as outputs:
        for count, batch in enumerate(batches, 1):  # noqa: B007
            loss = loss_fn(model, batch)
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not bool(loss.isfinite()):
                raise GammaError("loss_fn must return one finite number, the mean over a batch")
            if silent := [name for name, used in outputs.items() if not used]:
                raise GammaError(f"loss_fn did not call the norm {silent[0]!r}")
            if not loss.requires_grad:
                raise GammaError("the loss does not depend on any norm; loss_fn must not detach it")
            pairs = [(name, z) for name, used in outputs.items() for z in used]
            slopes = torch.autograd.grad(loss.sum(), [z for _, z in pairs], allow_unused=True)
            for (name, z), slope in zip(pairs, slopes, strict=True):
                if slope is None:
                    raise GammaError(f"the loss does not depend on the norm {name!r}")
                used = outputs[name]
                # The loss is a mean over a batch, so a batch counts by its number of examples.
                examples = sum(len(one) for one in used) / len(used)
                centred = _by_feature(z)
                centred = centred - centred.mean(1, keepdim=True)
                slope_along = (centred * _by_feature(slope)).sum(1)
                dot[name] = dot.get(name, 0) - examples * slope_along
                part = centred.square().sum(1) / sum(one[:, 0].numel() for one in used)
                variance[name] = variance.get(name, 0) + examples * part
            for used in outputs.values():
                used.clear()
    if not count:
        raise GammaError("batches are empty; pass at least one")
    return {
        name: torch.where(variance[name] > 0, dot[name] / variance[name], torch.nan)
        for name in norms
    }


def _by_feature(z: Tensor) -> Tensor:
    return z.detach().double().movedim(1, 0).flatten(1)


@contextmanager
def _watched(norms: dict[str, _BatchNorm]) -> Any:
    """Put norms in training mode and keep their outputs; restore everything at the end."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in norms}
    kept = {name: (m.training, [b.clone() for b in m.buffers()]) for name, m in norms.items()}

    def watch(name: str) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: Any, z: Tensor) -> Tensor:
            z = z if z.requires_grad else z.detach().requires_grad_()
            outputs[name].append(z)
            return z.clone()  # what follows may work in place

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in norms.items()]
    try:
        for module in norms.values():
            module.train()
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
        for name, module in norms.items():
            training, buffers = kept[name]
            module.train(training)
            for buffer, value in zip(module.buffers(), buffers, strict=True):
                buffer.copy_(value)
