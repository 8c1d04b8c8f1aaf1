"""What the weight decay of a parameter group really does: how much, which kind, toward what."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from gamma_nlp.check.audit.held import Group
from gamma_nlp.decay.known_optimizers import (
    NATIVE,
    coefficient_of,
    native_mode,
    qualified,
    stands_still,
    unknown_law,
)
from gamma_nlp.decay.laws import Steps, pulls
from gamma_nlp.decay.optimizer_doses import law_of
from gamma_nlp.decay.precision import FLOATS, lost_to_rounding
from gamma_nlp.decay.rounding import UNPLANNED
from gamma_nlp.decay.samples import spread

Mode = Literal["decoupled", "coupled", "unknown"]

_ELSEWHERE: Mapping[str, Mode] = {
    # Optimizers that no policy of ours can use, or that nobody made groups for with it.
    "torch.optim.Muon": "decoupled",
    "torch.optim._muon.Muon": "decoupled",
    "olmo_core.optim.adamw.AdamW": "decoupled",
    "olmo_core.optim.adamw.SkipStepAdamW": "decoupled",
    "olmo_core.optim.lion.Lion": "decoupled",
    "olmo_core.optim.lion.SkipStepLion": "decoupled",
}
_BY_ATTRIBUTE = (  # DeepSpeed, which keeps the kind at the optimizer
    "deepspeed.ops.adam.fused_adam.FusedAdam",
    "deepspeed.ops.adam.cpu_adam.DeepSpeedCPUAdam",
)
_KEYS = ("weight_decay", "wd")  # the second is Moonlight's Muon, which LLaMA-Factory brings


@dataclass(frozen=True, kw_only=True)
class Acting:
    """The decay of the parameters of one group.

    Attributes:
        coefficient: Of decay, before any schedule of it.
        mode: ``decoupled``, ``coupled`` (L2 in the gradient), or ``unknown``.
        center: The value of the parameter that it pulls to.
        rate: The group's largest learning rate, as far as it is known.
        lost: Whether rounding takes more than half of it, at that rate.
    """

    coefficient: float
    mode: Mode
    center: float | Literal["start"] = 0.0
    rate: float | None = None
    lost: bool = False

    @property
    def step(self) -> float | None:
        """The part of the distance that a step takes at that rate; ``None`` if it depends."""
        if self.mode != "decoupled" or self.rate is None:
            return None
        return self.coefficient * self.rate


class Acts:
    """Finds what groups do, once for each kind of group and dtype."""

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, torch.dtype | None, str], Acting] = {}
        self._lost: dict[tuple[Any, ...], bool] = {}

    def __call__(self, group: Group, stepped: Tensor | None) -> Acting:
        """Return what a group does to a tensor of it."""
        dtype, device = (None, "") if stepped is None else (stepped.dtype, stepped.device.type)
        key = (group.kind, dtype, device)
        if key not in self._known:
            self._known[key] = self._acting(group, stepped)
        return self._known[key]

    def _acting(self, group: Group, stepped: Tensor | None) -> Acting:
        settings, optimizer = group.settings, group.optimizer
        coefficient, rate = _coefficient(settings, optimizer), peak_rate(settings)
        mode = _mode(optimizer, settings)
        if not coefficient:
            return Acting(coefficient=0.0, mode=mode, rate=rate)
        return Acting(
            coefficient=coefficient,
            mode=mode,
            center=settings.get("gamma_center", 0.0),
            rate=rate,
            lost=self._is_lost(group, stepped, coefficient, rate),
        )

    def _is_lost(
        self, group: Group, stepped: Tensor | None, coefficient: float, rate: float | None
    ) -> bool:
        optimizer, settings = group.optimizer, group.settings
        if stepped is None or stepped.dtype not in FLOATS or not rate or rate * coefficient >= 1:
            return False
        if settings.get("gamma_part") == "deferred" or "weight_decay" not in settings:
            return False
        if unknown_law(optimizer, settings) or stands_still(optimizer, settings, stepped):
            return False
        law = law_of(optimizer, settings, stepped)
        part, unit = rate * coefficient, torch.finfo(stepped.dtype).eps
        if part > 2 * unit:
            return False  # a step of more than two units in the last place loses half of one
        if part < unit / 8 and law.mode == "decoupled" and not law.center:
            return True  # always less than half a unit
        key = (law, rate, coefficient)
        if key not in self._lost:
            steps = Steps(
                lrs=torch.full((UNPLANNED,), rate, dtype=torch.float64),
                coefficients=torch.full((UNPLANNED,), coefficient, dtype=torch.float64),
            )
            samples = [spread(stepped.dtype)]
            told, exact = pulls(samples, law, steps), pulls(samples, law, steps, exactly=True)
            self._lost[key] = lost_to_rounding(told[0], exact[0])
        return self._lost[key]


def peak_rate(group: Mapping[str, Any]) -> float | None:
    """Return the largest learning rate of a group that can be known: warm-up begins at 0."""
    keys = ("lr", "initial_lr", "max_lr")
    found = [float(group[key]) for key in keys if isinstance(group.get(key), (int, float, Tensor))]
    return max(found, default=None)


def can_decay(group: Mapping[str, Any]) -> bool:
    """Return whether an optimizer that has such a group knows weight decay."""
    return any(key in group for key in _KEYS)


def _coefficient(group: Mapping[str, Any], optimizer: Optimizer) -> float:
    key = next((key for key in _KEYS if group.get(key) is not None), None)
    if key == "wd":
        return float(group[key])
    coefficient = coefficient_of(group) if key else 0.0
    # ASGD shrinks every parameter by lambd as well.
    shrinks = qualified(type(optimizer)) == "torch.optim.asgd.ASGD"
    return coefficient + float(group["lambd"]) if shrinks else coefficient


def _mode(optimizer: Optimizer, group: Mapping[str, Any]) -> Mode:
    if "gamma_mode" in group:
        return group["gamma_mode"]
    if group.get("lambd") and not group.get("weight_decay"):
        return "decoupled"  # ASGD's other decay
    for kind in type(optimizer).__mro__:
        name = qualified(kind)
        known = name in NATIVE or name in _ELSEWHERE or name in _BY_ATTRIBUTE
        if known and _makes_the_step(kind, type(optimizer)):
            if name in _ELSEWHERE:
                return _ELSEWHERE[name]
            by_attribute = getattr(optimizer, "adam_w_mode", True)
            if name in _BY_ATTRIBUTE:
                return "decoupled" if by_attribute else "coupled"
            return native_mode(kind, {"adam_w_mode": by_attribute, **group})
    return "unknown"


def _makes_the_step(kind: type[Optimizer], used: type[Optimizer]) -> bool:
    """Return whether a subclass leaves the step of a class as it is; torch wraps steps to time."""
    return inspect.unwrap(kind.step) is inspect.unwrap(used.step)
