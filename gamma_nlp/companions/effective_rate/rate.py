"""How fast scale-invariant tensors really turn, and where learning rate and decay lead them.

[S] Decay of weights before a norm only sets |w|, and with it their effective learning rate (van
Laarhoven, arXiv:1706.05350).

With w scale invariant, let u be the gradient at w / |w|; then the gradient at w is u / |w| and is
orthogonal to w. Each step adds to |w|**2 what it moves w, decay takes from it; where both are
equal the norm stays. s = lr / (1 - momentum), d = number of elements. Means over noise, angles
small.

==============  ===================  =================================  =====================
rule            rate                 |w| at equilibrium [D]             rate there [D], as
==============  ===================  =================================  =====================
SGD, coupled    s / |w|**2 [D]       (s |u|**2 / (2 decay))**(1/4)      (lr decay)**(1/2)
Adam, coupled   lr / |w| [D]         (lr |u| d**0.5 / (2 decay))**(1/3) (lr**2 decay)**(1/3)
AdamW           lr / |w| [D]         (lr d / (2 decay))**(1/2)          (lr decay)**(1/2)
==============  ===================  =================================  =====================

[D] is derived and checked by simulation. SGD with decoupled decay (a step hook's) has s**2 / lr in
place of s [D]. The constants assume gradients that are independent from step to step; for Adam also
that the elements of w have gradients of similar size. Where gradients agree from step to step the
norm settles higher.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.companions.arguments import bare, name_list, named_parameters
from gamma_nlp.decay.known_optimizers import native_mode
from gamma_nlp.decay.policy import Mode
from gamma_nlp.errors import GammaError


@dataclass(frozen=True, kw_only=True)
class EffectiveRate:
    """The state of one tensor; ``nan`` for what needs a gradient that is not there.

    Attributes:
        name: The parameter's.
        rule: ``sgd`` or ``adam``, and ``coupled`` or ``decoupled``.
        lr: Learning rate.
        weight_decay: The coefficient in force, of the group or of a step hook.
        norm: |w| now.
        rate: The effective learning rate now.
        equilibrium_norm: Where |w| goes under this ``lr`` and ``weight_decay``; infinite without
            decay, since the norm then grows for ever; 0 where the gradient is 0.
        equilibrium_rate: The effective learning rate there; 0 without decay.
        equilibrium_angle: What w turns per step there, in radians; ``nan`` where the norm is 0.
    """

    name: str
    rule: tuple[str, Mode]
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

    They mean something for scale-invariant tensors only; :func:`.invariance.scale_invariant`
    tells which these are. The device is read once. Call it where ``.grad`` is still there: SGD
    needs it for the equilibrium, Adam takes what it needs from its second moments.

    Args:
        optimizer: ``torch.optim`` SGD, Adam, AdamW or RMSprop, with or without this library's
            hook, also as accelerate prepared it.
        names: Of the parameters, as in the groups' ``param_names``; by default all. Parameters
            without a name are called ``"0.3"``: group 0, parameter 3.
        model: Whose names count instead, for an optimizer that was made without names.

    Raises:
        GammaError: Another optimizer, or a name that it does not have, or a momentum of 1.
    """
    optimizer = bare(optimizer)
    known = named_parameters(optimizer, model)
    chosen = list(known) if names is None else name_list(names, "names")
    for name in chosen:
        if name not in known:
            raise GammaError(
                f"the optimizer has no parameter {name!r}; it has {next(iter(known), 'none')!r} "
                "and others; pass model= to go by the model's names"
            )
    kind = _kind(optimizer)
    measured = _measure(optimizer, kind, [known[name][1] for name in chosen])
    return [
        _rate(name, optimizer, kind, *known[name], norm, slope)
        for name, (norm, slope) in zip(chosen, measured, strict=True)
    ]


_KINDS = {"SGD": "sgd", "Adam": "adam", "AdamW": "adam", "RMSprop": "adam"}


def _kind(optimizer: Optimizer) -> str:
    cls = type(optimizer)
    if cls.__module__.startswith("torch.optim.") and cls.__name__ in _KINDS:
        return _KINDS[cls.__name__]
    raise GammaError(
        f"no effective learning rate is known for {cls.__name__}; known are "
        f"{', '.join(_KINDS)} of torch.optim"
    )


@torch.no_grad()
def _measure(optimizer: Optimizer, kind: str, tensors: list[Tensor]) -> list[tuple[float, float]]:
    """|w| and |gradient| of each tensor, the latter from Adam's second moments where it can be."""
    nothing = torch.full((), math.nan)
    found = []
    for w in tensors:
        state = optimizer.state.get(w, {})
        moment = state.get("exp_avg_sq", state.get("square_avg"))
        if kind == "adam" and moment is not None:
            slope = (moment.float().sum() / _debias(optimizer, w, state)).sqrt()
        else:
            slope = nothing if w.grad is None else _norm(w.grad)
        found.append(torch.stack([_norm(w), slope.to(w.device)]))
    if not found:
        return []
    home = found[0].device
    rows = torch.stack([one.to(home) for one in found]).tolist()
    return [(norm, slope) for norm, slope in rows]


def _norm(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tensor.detach(), dtype=torch.float32)


def _debias(optimizer: Optimizer, w: Tensor, state: Mapping[str, Any]) -> Any:
    group = next(g for g in optimizer.param_groups if any(p is w for p in g["params"]))
    if "betas" not in group:
        return 1.0
    return 1 - float(group["betas"][1]) ** state["step"]


def _rate(
    name: str,
    optimizer: Optimizer,
    kind: str,
    group: Mapping[str, Any],
    w: Tensor,
    norm: float,
    slope: float,
) -> EffectiveRate:
    hooked = bool(group.get("gamma_decay"))
    mode = group["gamma_mode"] if hooked else native_mode(type(optimizer), group)
    decay = float(group["gamma_decay"] if hooked else group.get("weight_decay", 0.0))
    lr, unit = float(group["lr"]), slope * norm
    memory, gain = _memory(kind, group)
    settled = equilibrium_norm(
        kind, mode, lr=lr, decay=decay, unit_gradient=unit, elements=w.numel(), step=lr * gain
    )
    power = 2 if kind == "sgd" else 1
    angle = math.nan
    if settled:
        moved = lr * gain * (unit / settled if kind == "sgd" else math.sqrt(w.numel()))
        angle = moved / settled * math.sqrt((1 - memory) / (1 + memory))
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
    """How much of a step the next one repeats, and what a gradient adds up to over all steps."""
    if kind == "adam" and "betas" in group:
        return float(group["betas"][0]), 1.0
    momentum = float(group.get("momentum", 0.0))
    if momentum >= 1:
        raise GammaError(f"momentum {momentum} never forgets a step, so no rate is effective")
    kept = 1 - float(group.get("dampening", 0.0)) if momentum else 1.0
    return momentum, kept / (1 - momentum)


def equilibrium_norm(
    kind: str,
    mode: Mode,
    *,
    lr: float,
    decay: float,
    unit_gradient: float,
    elements: int,
    step: float | None = None,
) -> float:
    """Where |w| settles [D]; the formulas stand in the module's docstring.

    Args:
        kind: ``sgd`` or ``adam``.
        mode: Of the decay.
        lr: Learning rate.
        decay: Coefficient of decay.
        unit_gradient: |gradient| times |w|: the gradient's length at |w| = 1.
        elements: Of w.
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
