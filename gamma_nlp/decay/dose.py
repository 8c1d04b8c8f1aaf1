"""The dose: how far decay alone would pull a gain over a planned run.

Most published coefficients pull gains by a tenth of a per cent, and half precision can round that
to nothing. Know the doses before you compare policies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from gamma_nlp.decay.known_optimizers import (
    coefficient_of,
    is_adaptive,
    mode_of,
    unknown_law,
)
from gamma_nlp.decay.policy import Native
from gamma_nlp.decay.precision import ROUND
from gamma_nlp.errors import GammaError, shown


def decay_dose(
    coefficient: float,
    lrs: float | Iterable[float],
    *,
    dtype: torch.dtype = torch.float32,
    mode: Native = "decoupled",
    adaptive: bool = True,
    momentum: float = 0.0,
    start: float = 1.0,
    offset: float = 0.0,
) -> float | None:
    """Return the fraction of a gain that decay removes over a run if its gradient stays zero.

    Decoupled decay leaves the factor prod(1 - lr_t * coefficient), which is close to
    exp(-coefficient * sum(lr_t)); the dose is 1 minus that. L2 in the gradient of plain SGD gives
    the same, with momentum m at learning rates divided by 1 - m. Inside an optimizer that divides
    by the size of the gradient (Adam) L2 has no closed form.

    Args:
        coefficient: The decay coefficient of the gain: ``weight_decay`` times its multiplier.
        lrs: The learning rate of every step; or their sum as one number, for the closed form
            without rounding.
        dtype: The gain's dtype. The parameter is rounded to it after every step, as in training:
            steps below half a unit in the last place are lost.
        mode: ``decoupled`` or ``coupled``.
        adaptive: For coupled decay: True for optimizers of Adam's kind, False for SGD.
        momentum: SGD's momentum, for coupled decay.
        start: The gain at the start.
        offset: 1 where the gain is 1 + parameter, else 0. Only rounding depends on it.

    Returns:
        The dose, 0.1 for a pull of 10 %; ``None`` where there is no closed form.

    Raises:
        GammaError: A number out of range, a step that would decay more than the whole gain, a
            dtype other than float16, bfloat16, float32 and float64, or momentum with decoupled
            decay.

    Example:
        The sum of the learning rates is enough in float32:

        >>> import torch
        >>> from gamma_nlp import DecayPolicy, decay_dose
        >>> round(decay_dose(0.01, 11.1), 3)
        0.105

        With your own schedule and dtype, step by step: bfloat16 rounds every one of these away,
        float32 keeps them:

        >>> lrs = [1e-5 * (1 - step / 6000) for step in range(6000)]
        >>> decay_dose(3.4, lrs, dtype=torch.bfloat16)
        0.0
        >>> round(decay_dose(3.4, lrs), 3)
        0.097

        A policy multiplies the coefficient; here L2 in the gradient of SGD:

        >>> policy = DecayPolicy(branch_inner=0.5, mode="coupled")
        >>> coefficient = 1e-3 * policy.branch_inner
        >>> round(decay_dose(coefficient, 20.0, mode=policy.mode, adaptive=False, momentum=0.9), 3)
        0.095
    """
    total = isinstance(lrs, (int, float))
    try:
        steps = [float(lrs)] if total else [float(lr) for lr in lrs]  # type: ignore[arg-type,union-attr]
    except (TypeError, ValueError) as error:
        raise GammaError(
            f"lrs must be a learning rate for every step, or their sum, got {shown(lrs)}"
        ) from error
    _check(coefficient, steps, momentum, start, mode)
    if dtype not in ROUND:
        raise GammaError(f"no dose for dtype {dtype}; use one of {', '.join(map(str, ROUND))}")
    if coefficient == 0:
        return 0.0
    if mode == "coupled":
        if adaptive:
            return None
        steps = [lr / (1 - momentum) for lr in steps]
    if total:
        return -math.expm1(-coefficient * steps[0])
    if max(steps, default=0.0) * coefficient > 1:
        raise GammaError(
            f"lr * coefficient reaches {max(steps) * coefficient:g}: one step would decay by more "
            "than the whole gain; lower the coefficient or the learning rate"
        )
    return 1 - _end(coefficient, steps, ROUND[dtype], start, offset) / start


def optimizer_doses(optimizer: Optimizer, lrs: Sequence[float]) -> dict[str, float | None]:
    """Return the dose of every parameter of an optimizer from this package, by name.

    ``None`` where the decay follows a law that is not known, or that has no closed form:
    :func:`~gamma_nlp.decay.known_optimizers.unknown_law` says which.

    Args:
        optimizer: From :func:`gamma_nlp.make_optimizer`.
        lrs: The planned learning rate of every step, the same for all groups.
    """
    done: dict[tuple[Any, ...], float | None] = {}
    doses: dict[str, float | None] = {}
    for group in optimizer.param_groups:
        options = None if unknown_law(optimizer, group) else _options(optimizer, group)
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            doses[name] = None
            if options is not None and parameter.dtype in ROUND:
                key = (parameter.dtype, *options.values())
                if key not in done:
                    done[key] = decay_dose(lrs=lrs, dtype=parameter.dtype, **options)
                doses[name] = done[key]
    return doses


def _options(optimizer: Optimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    coefficient, adaptive = coefficient_of(group), is_adaptive(optimizer)
    if not coefficient:
        return {"coefficient": 0.0}
    mode = mode_of(optimizer, group)
    momentum = 0.0 if adaptive or mode == "decoupled" else _momentum(group)
    if momentum:
        coefficient *= 1 - group.get("dampening", 0.0)
    return {
        "coefficient": coefficient,
        "mode": mode,
        "adaptive": adaptive,
        "momentum": momentum,
        "offset": -float(group.get("gamma_center", 0.0)),
    }


def _momentum(group: Mapping[str, Any]) -> float:
    # bitsandbytes' SGD keeps its momentum where its Adam keeps the first beta.
    return float(group["momentum"] if "momentum" in group else group.get("betas", (0.0,))[0])


def _end(
    coefficient: float,
    lrs: Sequence[float],
    rounded: Callable[[float], float],
    start: float,
    offset: float,
) -> float:
    """Return the gain after all steps of w <- round(w - lr * coefficient * (offset + w))."""
    largest = max(lrs, default=0.0) * coefficient
    w = rounded(start - offset)

    def step(w: float, pull: float) -> float:
        return rounded(w - pull * (rounded(offset + w) if offset else w))

    for lr in lrs:
        new = step(w, lr * coefficient)
        if new == w and step(w, largest) == w:
            break  # no later step can be larger: rounding has stopped the decay for good
        w = new
    return offset + w


def _check(
    coefficient: float, lrs: Sequence[float], momentum: float, start: float, mode: str
) -> None:
    if mode not in ("decoupled", "coupled"):
        raise GammaError(f"mode must be 'decoupled' or 'coupled', got {mode!r}")
    for name, value in (("coefficient", coefficient), ("momentum", momentum), ("start", start)):
        if not isinstance(value, (int, float)):
            raise GammaError(f"{name} must be a number, got {shown(value)}")
    if not math.isfinite(coefficient) or coefficient < 0:
        raise GammaError(f"coefficient must be finite and >= 0, got {coefficient!r}")
    if bad := [lr for lr in lrs if not math.isfinite(lr) or lr < 0]:
        raise GammaError(f"learning rates must be finite and >= 0, got {bad[0]!r}")
    if not 0 <= momentum < 1:
        raise GammaError(f"momentum must be at least 0 and below 1, got {momentum!r}")
    if momentum and mode == "decoupled":
        raise GammaError(
            "decoupled decay does not pass through the momentum; leave momentum out, or pass "
            "mode='coupled', adaptive=False for L2 in SGD"
        )
    if not math.isfinite(start) or start == 0:
        raise GammaError(f"start must be finite and not 0, got {start!r}")
