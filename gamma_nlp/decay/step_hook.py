"""The one optimizer step hook: decay that plain parameter groups cannot express.

A group that carries ``gamma_decay`` (lambda), ``gamma_offset`` and ``gamma_mode`` is decayed here,
just before each optimizer step; its own ``weight_decay`` must be 0. With gain = offset + w:

* decoupled: ``w -= lr * lambda * (offset + w)``, as AdamW decays, but toward gain 0;
* coupled: ``grad += lambda * (offset + w)``, L2 as the gradient sees it, so the optimizer's
  moments see it too.

Everything is read from ``optimizer.param_groups`` at each step, because schedulers replace the
learning rate and sharded data parallel replaces the tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gamma_nlp.errors import GammaError, listed


def step_hook(
    optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Decay before a step; the signature is that of ``Optimizer.register_step_pre_hook``.

    A step with a closure computes its gradients inside the step, so there the decay comes right
    after the closure.
    """
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if closure is None:
        decay(optimizer)
        return None
    after = partial(_run_then_decay, closure, optimizer)
    if "closure" in kwargs:
        return args, {**kwargs, "closure": after}
    return (args[0], after, *args[2:]), kwargs


def _run_then_decay(closure: Any, optimizer: Optimizer) -> Any:
    loss = closure()
    decay(optimizer)
    return loss


@torch.no_grad()
def decay(optimizer: Optimizer) -> None:
    """Decay every hooked parameter that has a gradient, many tensors per call.

    Nothing here waits for the device: a learning rate, loss scale or overflow flag that is a
    tensor stays one.
    """
    keep = _keep(optimizer)
    for group, parameters in _hooked(optimizer):
        offset, coupled = group["gamma_offset"], group["gamma_mode"] == "coupled"
        factors = [-group["gamma_decay"], group["lr"]]
        if coupled:
            sign = -1.0 if group.get("maximize") else 1.0
            factors = [sign * group["gamma_decay"], getattr(optimizer, "grad_scale", None)]
        for weights in _buckets(parameters):
            gains = torch._foreach_add(weights, offset) if offset else weights
            targets = _gradients(group, weights, optimizer) if coupled else weights
            factor = _product([*factors, keep], weights[0].device)
            if isinstance(factor, Tensor):
                torch._foreach_add_(targets, torch._foreach_mul(gains, factor))
            else:
                torch._foreach_add_(targets, gains, alpha=factor)


@torch.no_grad()
def decay_reference(optimizer: Optimizer) -> None:
    """Do the same as :func:`decay` in the plainest way, one tensor at a time, for the tests.

    It reads ``found_inf``, ``grad_scale`` and tensor learning rates on the host, which waits for
    the device.
    """
    if float(getattr(optimizer, "found_inf", None) or 0.0) != 0:
        return
    scale = float(getattr(optimizer, "grad_scale", None) or 1.0)
    for group, parameters in _hooked(optimizer):
        for w in parameters:
            gain = w + group["gamma_offset"]
            if group["gamma_mode"] == "decoupled":
                w.add_(gain, alpha=-group["gamma_decay"] * float(group["lr"]))
                continue
            assert w.grad is not None
            sign = -1.0 if group.get("maximize") else 1.0
            w.grad.add_(gain, alpha=sign * group["gamma_decay"] * scale)


def _hooked(optimizer: Optimizer) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
    for group in optimizer.param_groups:
        if not group.get("gamma_decay"):
            continue
        if group.get("weight_decay"):
            raise GammaError(
                f"the group of {listed(group['param_names'])} has weight_decay="
                f"{group['weight_decay']} beside gamma_decay={group['gamma_decay']} and would "
                "decay twice; to change its decay set group['gamma_decay'], and leave "
                "weight_decay at 0"
            )
        parameters = [p for p in group["params"] if p.grad is not None]
        if parameters:
            yield group, parameters


def _buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Split into what one multi-tensor call can take."""
    buckets: dict[Any, list[Tensor]] = {}
    for p in parameters:
        buckets.setdefault((p.device, p.dtype, type(p)), []).append(p)
    yield from buckets.values()


def _keep(optimizer: Optimizer) -> Tensor | None:
    """Return 1 for a step that counts, 0 for one that a grad scaler skips in a fused optimizer."""
    found_inf = getattr(optimizer, "found_inf", None)
    # Compared, not negated: found_inf is a sum over devices. The result stays on the device.
    return None if found_inf is None else (found_inf == 0).to(torch.float32)


def _product(factors: Iterable[float | Tensor | None], device: torch.device) -> float | Tensor:
    result: float | Tensor = 1.0
    for factor in factors:
        if isinstance(factor, Tensor):
            factor = factor.to(device, non_blocking=True)
        if factor is not None:
            result = factor * result
    return result


def _gradients(group: dict[str, Any], weights: list[Tensor], optimizer: Optimizer) -> list[Tensor]:
    gradients = [p.grad for p in weights if p.grad is not None]
    scaled = getattr(optimizer, "grad_scale", None) is not None
    for p, gradient in zip(weights, gradients, strict=True):
        if not gradient.is_sparse and not (scaled and gradient.dtype == torch.float16):
            continue
        index = next(i for i, q in enumerate(group["params"]) if q is p)
        name = group["param_names"][index]
        if gradient.is_sparse:
            raise GammaError(
                f"parameter {name!r} has a sparse gradient, which coupled decay cannot be added "
                "to; use mode 'decoupled', or set its multiplier to 0 with a pattern"
            )
        raise GammaError(
            f"parameter {name!r} is float16 under a gradient scaler inside a fused optimizer: "
            "scaled coupled decay could overflow; keep the parameter in float32, or pass "
            "fused=False"
        )
    return gradients
