"""Where rounding to a parameter's dtype would cancel decay, so that it has to be deferred."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
import torch.distributed
from torch import Tensor, nn

from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.deferred import share_of
from gamma_nlp.decay.laws import Law, planned_steps, pulls
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.samples import Sample, sample, spread

UNPLANNED = 1_000
"""So many steps at one learning rate stand for a run of unknown length."""

_COARSE, _VALUES = 5.0, 32  # enough to tell whether 2 % are lost


def with_deferral(
    named: Mapping[str, nn.Parameter],
    decays: Mapping[str, Decay],
    *,
    native: Native,
    rates: Sequence[float],
) -> dict[str, Decay]:
    """Return the decays, deferred where rounding would take or add more than it may of the dose.

    Coupled decay is not: it acts together with the gradient. The parameters' own values decide,
    but where several processes must decide alike, and may hold different parts of them.

    Args:
        named: The parameters.
        decays: The decay of each.
        native: The optimizer's own kind.
        rates: Learning rates of the run; a single one if its length is not known.
    """
    result = dict(decays)
    if not len(rates):
        return result
    lrs = torch.tensor([*rates] * (UNPLANNED if len(rates) == 1 else 1), dtype=torch.float64)
    own_values = not _several_processes()
    alike: dict[tuple[Decay, torch.dtype, bool], list[str]] = {}
    for name, parameter in named.items():
        if _deferrable(decays[name], parameter.dtype, native):
            key = (decays[name], parameter.dtype, parameter.device.type == "cpu")
            alike.setdefault(key, []).append(name)
    for (decay, dtype, on_cpu), names in alike.items():
        samples = [sample(named[n], _VALUES) if own_values else spread(dtype) for n in names]
        shares = _shares(samples, decay, dtype, lrs, native=native, on_cpu=on_cpu)
        for name, share in zip(names, shares, strict=True):
            if share:
                result[name] = dataclasses.replace(decay, share=share)
    return result


def deferred_share(values: Tensor, decay: Decay, lrs: Tensor, *, native: Native) -> float:
    """Return the share that decay of one parameter is deferred by; 0 where it is not."""
    if not len(lrs) or not _deferrable(decay, values.dtype, native):
        return 0.0
    samples, on_cpu = [sample(values, _VALUES)], values.device.type == "cpu"
    return _shares(samples, decay, values.dtype, lrs, native=native, on_cpu=on_cpu)[0]


def _deferrable(decay: Decay, dtype: torch.dtype, native: Native) -> bool:
    decoupled = decay.mode_in(native) == "decoupled"
    return decoupled and decay.rounding == "defer" and decay.coefficient > 0 and share_of(dtype) > 0


def _shares(
    samples: Sequence[Sample],
    decay: Decay,
    dtype: torch.dtype,
    lrs: Tensor,
    *,
    native: Native,
    on_cpu: bool,
) -> list[float]:
    """Return the share that each of some parameters is deferred by; 0 for those that are not."""
    hooked = decay.mode_in(native) != native
    lost = _lost(samples, decay, dtype, lrs, hooked=hooked, on_cpu=on_cpu)
    return [
        share_of(dtype, near=own.is_near(decay.center)) if part > decay.tolerated else 0.0
        for own, part in zip(samples, lost, strict=True)
    ]


def _several_processes() -> bool:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return ready and torch.distributed.get_world_size() > 1


def _lost(
    samples: Sequence[Sample],
    decay: Decay,
    dtype: torch.dtype,
    lrs: Tensor,
    *,
    hooked: bool,
    on_cpu: bool,
) -> list[float]:
    """Return the part of each dose that rounding takes or adds, by the worst of the ways.

    Optimizers multiply by 1 - a, which is rounded, or subtract a times the parameter.
    """
    steps = planned_steps(decay, lrs)
    if float(steps.shares.max()) >= 1:
        return [0.0] * len(samples)  # refused when the dose is told, or at the first step
    scalar = dtype if on_cpu else torch.float32
    ways: dict[torch.dtype | None, None] = dict.fromkeys((None, scalar, torch.float32))
    laws = [
        Law(dtype=dtype, center=decay.center, hooked=hooked, factor=factor, scalar=scalar)
        for factor in ways
    ]
    exact = pulls(samples, laws[0], steps, exactly=True)
    worst = [0.0] * len(samples)
    for law in laws:
        if min(worst) > decay.tolerated:
            break
        told = pulls(samples, law, steps, coarse=_COARSE)
        for number, (got, whole) in enumerate(zip(told, exact, strict=True)):
            if got is not None and whole:
                worst[number] = max(worst[number], abs(got / whole - 1))
    return worst
