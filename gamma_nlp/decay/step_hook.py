"""The step hook: decay that the optimizer cannot do by itself, at each of its steps.

``group["weight_decay"]`` is the coefficient lambda of every group, so a scheduler that changes it
reaches all of them. With w the parameter, c its center and a = lr * lambda, ``gamma_part`` says
what the hook does:

``center``
    The optimizer decays toward 0, and the hook moves the center: w += c * a / (1 - a) before a
    decoupled step, grad -= lambda * c before a coupled one.
``all``
    The kind of decay is not the optimizer's: w -= a * (w - c), or grad += lambda * (w - c). The
    optimizer sees ``weight_decay`` 0 during its step.
``deferred``
    As decoupled ``all``, but gathered and applied at once, see :mod:`.deferred`.

What coupled decay adds to a gradient is gone after the step. Everything is read from
``optimizer.param_groups`` at each step, because schedulers replace the learning rate and sharded
data parallel replaces the tensors. Nothing waits for the device, but for a ramp under a grad scaler
in a fused optimizer and for a schedule of the learning rate where that is a tensor.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import partial
from itertools import count
from operator import is_
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from gamma_nlp.decay import deferred
from gamma_nlp.decay.foreach import (
    Centers,
    Factor,
    add_,
    buckets,
    minus,
    multiply_,
    plus,
    product,
    pull_,
)
from gamma_nlp.decay.group_keys import needs_hook
from gamma_nlp.decay.nested_steps import inside_a_step
from gamma_nlp.decay.schedule import RAMPS, set_scheduled
from gamma_nlp.errors import GammaError, listed

START = "gamma_start"
"""Key of a parameter's first value in the optimizer's state, where decay goes toward it."""


class StepHook:
    """Decays before a step, and puts back after it what only the step should see.

    A closure may compute the gradients of one step several times: coupled decay is in each of
    them, decoupled decay acts once.
    """

    def __init__(self) -> None:
        self.withheld: list[tuple[dict[str, Any], Any]] = []
        self.gradients: list[tuple[Tensor, Tensor]] = []
        self.starts: dict[Tensor, Tensor] = {}
        self.parts: dict[tuple[str, ...], weakref.ref[Tensor]] = {}
        self.sorted: dict[int, tuple[list[Tensor], list[list[Tensor]]]] = {}

    @torch._disable_dynamo  # a compiled step would be compiled anew whenever a number changes
    def before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Decay before a step; a step with a closure computes its gradients first."""
        if inside_a_step(optimizer):
            return None
        self._put_back()  # a step that failed ran no post hook
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self.decay(optimizer)
            return None
        after = partial(self._run_then_decay, closure, optimizer, count(1))
        if "closure" in kwargs:
            return args, {**kwargs, "closure": after}
        return (args[0], after, *args[2:]), kwargs

    @torch._disable_dynamo
    def after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Put back coefficients and gradients; keep first values with the optimizer's state."""
        if inside_a_step(optimizer):
            return
        self._put_back()
        # Only now: an optimizer makes its state for a parameter where that is empty.
        for p, start in self.starts.items():
            optimizer.state[p][START] = start
        self.starts = {}

    def _run_then_decay(self, closure: Any, optimizer: Optimizer, calls: Iterator[int]) -> Any:
        self._put_back()
        loss = closure()
        self.decay(optimizer, first=next(calls) == 1)
        return loss

    def _put_back(self) -> None:
        for group, coefficient in self.withheld:
            group["weight_decay"] = coefficient
        for p, gradient in self.gradients:
            p.grad = gradient
        self.withheld, self.gradients = [], []

    @torch.no_grad()
    def decay(self, optimizer: Optimizer, *, first: bool = True) -> None:
        """Decay every parameter that has a gradient, many tensors per call.

        Args:
            optimizer: The optimizer that is about to step.
            first: Whether these are the first gradients of the step.

        Raises:
            GammaError: A decoupled step would decay by everything; nothing has moved then.
        """
        keep = _keep(optimizer)
        if first:
            for group in optimizer.param_groups:
                self._check_parts(group)
            set_scheduled(optimizer, keep)
        groups = list(_hooked(optimizer))
        check_shares(optimizer)
        for number, group in groups:
            coefficient, part = group["weight_decay"], group["gamma_part"]
            if part != "center":
                self.withheld.append((group, coefficient))
                group["weight_decay"] = 0.0
            coupled = group["gamma_mode"] == "coupled"
            if not (first or coupled):
                continue
            factor = deferred.due(group, coefficient, keep) if part == "deferred" else None
            for own in self._buckets(number, group["params"]):
                centers = self._centers(optimizer, group, own)
                if coupled:
                    self._into_gradients(optimizer, group, own, centers, coefficient)
                elif part != "deferred":
                    _shrink(group, own, centers, coefficient, keep)
                elif factor is not None:
                    pull_(own, centers, product([factor], own[0].device))

    def _buckets(self, number: int, parameters: list[Tensor]) -> list[list[Tensor]]:
        """Return the buckets of those with a gradient, sorted anew only where these changed.

        Sorting some hundred tensors takes the host longer than a GPU needs to decay them.
        """
        weights = [p for p in parameters if p.grad is not None]
        known, found = self.sorted.get(number, ([], []))
        if len(known) != len(weights) or not all(map(is_, known, weights)):
            found = list(buckets(weights))
            self.sorted[number] = weights, found
        return found

    def _check_parts(self, group: dict[str, Any]) -> None:
        """Refuse to count the steps of a group that an engine steps in several parts."""
        counted = group.get("gamma_schedule") in RAMPS or group.get("gamma_part") == "deferred"
        if not counted or len(group["params"]) in (0, len(group["param_names"])):
            return
        names, part = tuple(group["param_names"]), group["params"][0]
        known = self.parts.setdefault(names, weakref.ref(part))
        if known() is not None and known() is not part:
            raise GammaError(
                f"DeepSpeed steps {listed(names)} in several parts, so that steps of a schedule "
                "and of deferred decay cannot be counted; write a larger sub_group_size under "
                "zero_optimization in its config, or use stage 2"
            )

    def _centers(
        self, optimizer: Optimizer, group: dict[str, Any], weights: list[Tensor]
    ) -> Centers:
        """Return what ``weights`` decay toward; remember those that are new to it."""
        center: float | Literal["start"] = group["gamma_center"]
        if center != "start":
            return center
        found = []
        for p in weights:
            start = optimizer.state[p].get(START) if p in optimizer.state else None
            if start is None:
                start = self.starts.setdefault(p, p.detach().clone())
            found.append(start)
        return found

    def _into_gradients(
        self,
        optimizer: Optimizer,
        group: dict[str, Any],
        weights: list[Tensor],
        centers: Centers,
        coefficient: Factor,
    ) -> None:
        gradients = _gradients(group, weights, optimizer)
        sign = -1.0 if group.get("maximize") else 1.0
        scale = getattr(optimizer, "grad_scale", None)
        factor = product([sign * coefficient, scale], weights[0].device)
        if group["gamma_part"] == "all":
            decayed = plus(gradients, minus(weights, centers), factor)
        else:
            decayed = plus(gradients, centers, -factor)
        self.gradients += zip(weights, gradients, strict=True)
        for p, gradient in zip(weights, decayed, strict=True):
            p.grad = gradient


def has_hook(optimizer: Optimizer) -> bool:
    """Return whether an optimizer has the step hook."""
    present = optimizer._optimizer_step_pre_hooks.values()
    return any(isinstance(getattr(one, "__self__", None), StepHook) for one in present)


def hook_if_needed(optimizer: Optimizer) -> None:
    """Give an optimizer the step hook, where its groups need one and it has none."""
    if needs_hook(optimizer.param_groups) and not has_hook(optimizer):
        hook = StepHook()
        optimizer.register_step_pre_hook(hook.before)
        optimizer.register_step_post_hook(hook.after)


def _shrink(
    group: dict[str, Any],
    weights: list[Tensor],
    centers: Centers,
    coefficient: Factor,
    keep: Tensor | None,
) -> None:
    """Decay by a = lr * coefficient, or move the center of the decay that comes after."""
    a = product([coefficient, group["lr"]], weights[0].device)
    if group["gamma_part"] == "center":
        factor = product([a / (1 - a), keep], weights[0].device)
        add_(weights, centers, factor)
        return
    factor = product([a, keep], weights[0].device)
    if not isinstance(centers, list) and not centers:
        multiply_(weights, 1 - factor)  # as AdamW does it
    else:
        pull_(weights, centers, factor)


def check_shares(optimizer: Optimizer) -> None:
    """Refuse a decoupled step of the hook that would decay by everything.

    Raises:
        GammaError: Names the parameters. What is a tensor is not looked at.
    """
    for _, group in _hooked(optimizer):
        coefficient, lr = group["weight_decay"], group["lr"]
        if isinstance(coefficient, Tensor) or isinstance(lr, Tensor):
            continue  # looking at it would wait for the device
        if group["gamma_mode"] == "decoupled" and coefficient * lr >= 1:
            raise GammaError(
                f"lr * weight_decay is {coefficient * lr:g} for {listed(group['param_names'])}: "
                "one step would decay by the whole distance or more; lower the weight decay or "
                "the learning rate"
            )


def _hooked(optimizer: Optimizer) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the groups that this step decays, with their numbers."""
    for number, group in enumerate(optimizer.param_groups):
        coefficient = group.get("weight_decay")
        part = group.get("gamma_part")
        # A tensor is not looked at: that would wait for the device.
        now = part == "deferred" or isinstance(coefficient, Tensor) or coefficient
        if part and now and any(p.grad is not None for p in group["params"]):
            yield number, group


def _keep(optimizer: Optimizer) -> Tensor | None:
    """Return 1 for a step that counts, 0 for one that a grad scaler skips in a fused optimizer."""
    found_inf = getattr(optimizer, "found_inf", None)
    # Compared, not negated: found_inf is a sum over devices. The result stays on the device.
    return None if found_inf is None else (found_inf == 0).to(torch.float32)


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
