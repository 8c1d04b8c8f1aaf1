"""What an optimizer's groups are made from, and the groups of a planned run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.group_keys import as_told
from gamma_nlp.decay.groups import merged_groups
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.rounding import with_deferral
from gamma_nlp.errors import GammaError, shown
from gamma_nlp.wrappers import plain_names


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What an optimizer's groups were made from.

    Attributes:
        policy: The decay policy.
        weight_decay: The coefficient that it multiplies.
        native: The optimizer's own kind of decay.
        labels: Category or role of each parameter by plain name, for logs.
        decays: The decay of each parameter of the model, frozen ones too, by plain name.
        rates: The planned learning rates.
    """

    policy: DecayPolicy
    weight_decay: float
    native: Native
    labels: Mapping[str, str] = field(default_factory=dict)
    decays: Mapping[str, Decay] = field(default_factory=dict)
    rates: Sequence[float] | None = None


def planned_groups(
    named: Mapping[str, nn.Parameter],
    decays: Mapping[str, Decay],
    *,
    native: Native,
    lr: float | Tensor | None,
    rates: Sequence[float] | None = None,
    earlier: Mapping[str, Mapping[str, Any]] | None = None,
    copied: bool = False,
    dtype: torch.dtype | None = None,
) -> list[dict[str, Any]]:
    """Return the groups of :func:`merged_groups`, with decay deferred where rounding cancels it.

    Args:
        named: The parameters.
        decays: The decay of each.
        native: The optimizer's own kind.
        lr: The learning rate, where ``rates`` are unknown.
        rates: The planned learning rates.
        earlier: The group of each parameter in an earlier part of the run. Where its decay is the
            same, it is deferred or not as it was: the values that decide have moved since.
        copied: Whether parameters are known to be the same in every process.
        dtype: That of the copies which an engine trains, where these are not the parameters.

    Raises:
        GammaError: A learning rate that is none; whatever :func:`merged_groups` refuses.
    """
    planned = list(rates) if rates else [] if lr is None else [float(lr)]
    for rate in planned:
        check_rate(rate)
    decays = with_deferral(named, decays, native=native, rates=planned, copied=copied, dtype=dtype)
    peak, steps = max(planned, default=0.0), len(rates) if rates else None
    groups = merged_groups(named, decays, native=native, peak=peak, steps=steps)
    if not earlier:
        return groups
    kept = dict(decays)
    plain = plain_names(decays)
    present = {name: group for group in groups for name in group["param_names"]}
    for name in named:
        before = earlier.get(plain[name])
        if before is None or decays[name].rounding == "keep":
            continue
        if as_told(present[plain[name]], native) == as_told(before, native):
            kept[name] = dataclasses.replace(decays[name], share=before.get("gamma_share", 0.0))
    return merged_groups(named, kept, native=native, peak=peak, steps=steps)


def check_rate(rate: Any, name: str = "lr") -> None:
    """Refuse what is no learning rate.

    Raises:
        GammaError: Not a number, not finite or negative.
    """
    number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not number or not 0 <= rate < math.inf:
        raise GammaError(f"{name} must be a finite number >= 0, got {shown(rate)}")


def read_rates(rates: Any) -> list[float] | None:
    """Return the planned learning rate of every step as numbers; ``None`` for none.

    Raises:
        GammaError: It is no sequence of them.
    """
    if rates is None:
        return None
    try:
        read = [rate.item() if hasattr(rate, "item") else rate for rate in rates]
    except (TypeError, ValueError, RuntimeError):  # no sequence, or one of several numbers each
        read = []
    if not read or isinstance(rates, str | bytes):
        raise GammaError(
            f"rates must be the learning rates of the run, one for every step, got {shown(rates)}; "
            "write for example rates=[1e-3] * 1000, or leave it out"
        )
    for step, rate in enumerate(read):
        check_rate(rate, f"rates[{step}]")
    return read
