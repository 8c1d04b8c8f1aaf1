"""The effective learning rate of scale-invariant tensors, and the norm at which it settles.

[S] Decay of weights before a norm only sets |w|, and with it their effective learning rate (van
Laarhoven, arXiv:1706.05350).

With w scale invariant, let u be the gradient at w / |w|; then the gradient at w is u / |w| and is
orthogonal to w. So each step adds the square of its length to |w|**2, and decay takes from it; the
norm settles where the two are equal. s = lr / (1 - momentum), d = number of elements. The formulas
hold in the mean over noise and for small angles. A gradient k steps old enters a step with a weight
such as momentum**k: s is lr times the sum of these weights, and the length of a step, hence the
angle, goes with the root of the sum of their squares.

==============  ===================  =================================  =====================
rule            rate                 |w| at equilibrium [D]             rate there [D], as
==============  ===================  =================================  =====================
SGD, coupled    s / |w|**2 [D]       (s |u|**2 / (2 decay))**(1/4)      (lr decay)**(1/2)
Adam, coupled   lr / |w| [D]         (lr |u| d**0.5 / (2 decay))**(1/3) (lr**2 decay)**(1/3)
AdamW           lr / |w| [D]         (lr d / (2 decay))**(1/2)          (lr decay)**(1/2)
==============  ===================  =================================  =====================

[D] is derived and checked by simulation. SGD with decoupled decay (by a step hook) has s**2 / lr in
place of s [D]. The constants assume gradients that are independent from step to step and, for Adam,
of similar size in all elements of w. Where gradients agree from step to step the norm settles
higher.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.companions.arguments import (
    bare,
    began_at_zero,
    check_known,
    first_names,
    named_parameters,
    refuse_parts,
    wide,
)
from gamma_nlp.decay.known_optimizers import native_mode
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.errors import GammaError
from gamma_nlp.wrappers import whole


@dataclass(frozen=True, kw_only=True)
class EffectiveRate:
    """The effective rate of one tensor; ``nan`` for what needs a gradient where there is none.

    Attributes:
        name: The parameter's name.
        rule: ``sgd`` or ``adam``, and ``coupled`` or ``decoupled``.
        lr: Learning rate.
        weight_decay: The coefficient in force, of the group or of a step hook.
        norm: |w| now.
        rate: The effective learning rate now.
        equilibrium_norm: Where |w| settles under this ``lr`` and ``weight_decay``; infinite without
            decay, since the norm then grows forever; 0 where the gradient is 0.
        equilibrium_rate: The effective learning rate there; 0 without decay.
        equilibrium_angle: By how much a step turns w there, in radians; ``nan`` for a norm of 0.
    """

    name: str
    rule: tuple[str, Native]
    lr: float
    weight_decay: float
    norm: float
    rate: float
    equilibrium_norm: float
    equilibrium_rate: float
    equilibrium_angle: float


def effective_lr(
    optimizer: Optimizer, names: Iterable[str] | None = None, model: nn.Module | None = None
) -> list[EffectiveRate]:
    """Return the effective learning rate of each tensor, and its equilibrium.

    The figures mean something for scale-invariant tensors only; :func:`.invariance.scale_invariant`
    finds these. The device is read once. Of DTensors (``fully_shard``, ``parallelize_module``)
    the figures are those of the whole tensors, and each process has to call it. Call it before
    ``.grad`` is cleared and, with a grad scaler, after ``unscale_``: SGD needs gradients for the
    equilibrium; Adam takes their size from its second moments.

    Args:
        optimizer: ``torch.optim`` SGD, Adam, AdamW or RMSprop, with or without this library's
            step hook, or what accelerate's ``prepare`` made of it.
        names: Parameter names, as in the groups' ``param_names``; by default all. Parameters
            without a name are called ``"0.3"``: group 0, parameter 3.
        model: Go by this model's names instead, for an optimizer that was made without names.

    Raises:
        GammaError: The optimizer is of another kind, lacks a name, has a momentum of 1
            or ``amsgrad``, or a tensor has complex numbers or is cut up by FSDP1 or DeepSpeed.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6))
        >>> optimizer = torch.optim.AdamW(model.named_parameters(), lr=0.01, weight_decay=0.1)
        >>> (found,) = effective_lr(optimizer, ["0.weight"])
        >>> round(found.equilibrium_norm, 3), round(found.equilibrium_rate, 4)
        (1.095, 0.0091)
    """
    optimizer = bare(optimizer)
    known = named_parameters(optimizer, model)
    chosen = list(known) if names is None else first_names(names, model)
    check_known(chosen, known)
    kind = _kind(optimizer)
    tensors = {name: known[name][1] for name in chosen}
    refuse_parts(tensors, "effective_lr")
    measured = _measure(optimizer, kind, list(tensors.values()))
    return [
        _rate(name, optimizer, kind, *known[name], norm, slope)
        for name, (norm, slope) in zip(chosen, measured, strict=True)
    ]


_KINDS = {"SGD": "sgd", "Adam": "adam", "AdamW": "adam", "RMSprop": "adam"}


def _kind(optimizer: Optimizer) -> str:
    cls = type(optimizer)
    if any(group.get("amsgrad") for group in optimizer.param_groups):
        raise GammaError(
            "no effective learning rate is known for amsgrad=True: it divides by the largest "
            "gradients ever, so that norms have no equilibrium; leave amsgrad out"
        )
    if cls.__module__.startswith("torch.optim.") and cls.__name__ in _KINDS:
        return _KINDS[cls.__name__]
    raise GammaError(
        f"no effective learning rate is known for {cls.__name__}; use one of torch.optim's "
        f"{', '.join(_KINDS)}"
    )


@torch.no_grad()
def _measure(optimizer: Optimizer, kind: str, tensors: list[Tensor]) -> list[tuple[float, float]]:
    """Return |w| and |gradient| of each tensor; Adam's second moments give the latter if it can."""
    nothing = torch.full((), math.nan)
    found = []
    for w in tensors:
        state = optimizer.state.get(w, {})
        moment = state.get("exp_avg_sq", state.get("square_avg"))
        if kind == "adam" and moment is not None:
            mean = whole(moment.sum(dtype=wide(moment))) / _debias(optimizer, w, state)
            slope = mean.sqrt()
        else:
            slope = nothing if w.grad is None else _norm(w.grad)
        found.append(torch.stack([_norm(w), slope.to(w.device, wide(w))]))
    if not found:
        return []
    home = found[0].device
    most = torch.float64 if any(one.dtype == torch.float64 for one in found) else torch.float32
    rows = torch.stack([one.to(home, most) for one in found]).tolist()
    return [(norm, slope) for norm, slope in rows]


def _norm(tensor: Tensor) -> Tensor:
    return whole(torch.linalg.vector_norm(tensor.detach(), dtype=wide(tensor)))


def _debias(optimizer: Optimizer, w: Tensor, state: Mapping[str, Any]) -> Any:
    """Return the weight of all gradients so far in the second moments, which begin at 0."""
    group = next(g for g in optimizer.param_groups if any(p is w for p in g["params"]))
    memory = float(group["betas"][1] if "betas" in group else group["alpha"])
    return began_at_zero(memory, whole(torch.as_tensor(state["step"])))


def _rate(
    name: str,
    optimizer: Optimizer,
    kind: str,
    group: Mapping[str, Any],
    w: Tensor,
    norm: float,
    slope: float,
) -> EffectiveRate:
    mode = group.get("gamma_mode") or native_mode(type(optimizer), group)
    decay = float(group.get("weight_decay", 0.0))
    lr, unit = float(group["lr"]), slope * norm
    gain, spread = _memory(kind, group)
    settled = equilibrium_norm(
        kind, mode, lr=lr, decay=decay, unit_gradient=unit, elements=w.numel(), step=lr * gain
    )
    power = 2 if kind == "sgd" else 1
    angle = math.nan
    if settled:
        moved = lr * spread * (unit / settled if kind == "sgd" else math.sqrt(w.numel()))
        angle = moved / settled
    return EffectiveRate(
        name=name,
        rule=(kind, mode),
        lr=lr,
        weight_decay=decay,
        norm=norm,
        rate=lr * gain / norm**power if norm else math.inf,
        equilibrium_norm=settled,
        equilibrium_rate=lr * gain / settled**power if settled else math.inf,
        equilibrium_angle=0.0 if math.isinf(settled) else angle,
    )


def _memory(kind: str, group: Mapping[str, Any]) -> tuple[float, float]:
    """Return what a gradient adds up to over all steps, and the root of its squares' sum."""
    if kind == "adam" and "betas" in group:
        beta = float(group["betas"][0])
        return 1.0, math.sqrt((1 - beta) / (1 + beta))
    momentum = float(group.get("momentum", 0.0))
    if momentum >= 1:
        raise GammaError(
            f"momentum {momentum:g} never forgets a step, so there is no effective rate; it must "
            "be below 1"
        )
    kept = 1 - float(group.get("dampening", 0.0)) if momentum else 1.0
    squares = kept**2 / (1 - momentum**2)
    if group.get("nesterov"):  # the new gradient counts once more: 1 + m, then m**2, m**3, ...
        squares = (1 + momentum) ** 2 + momentum**4 / (1 - momentum**2)
    return kept / (1 - momentum), math.sqrt(squares)


def equilibrium_norm(
    kind: str,
    mode: Native,
    *,
    lr: float,
    decay: float,
    unit_gradient: float,
    elements: int,
    step: float | None = None,
) -> float:
    """Return where |w| settles [D]; the module's docstring has the formulas.

    Args:
        kind: ``sgd`` or ``adam``.
        mode: How the decay acts.
        lr: Learning rate.
        decay: Decay coefficient.
        unit_gradient: |gradient| times |w|: the gradient's length at |w| = 1.
        elements: Number of elements of w.
        step: ``lr / (1 - momentum)``; by default ``lr``.
    """
    step = lr if step is None else step
    if decay == 0 or lr == 0:
        return math.inf
    if kind == "sgd":
        shrink = (step if mode == "coupled" else lr) * decay
        return float((step**2 * unit_gradient**2 / (2 * shrink)) ** 0.25)
    if mode == "coupled":
        # Adam divides decay * w by the root mean square of the gradient, |u| / (|w| d**0.5).
        return float((step * unit_gradient * math.sqrt(elements) / (2 * decay)) ** (1 / 3))
    return float(math.sqrt(step**2 * elements / (2 * lr * decay)))
