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
from gamma_nlp.wrappers import DTENSOR, sharded

UNPLANNED = 1_000
"""So many steps at one learning rate stand for a run of unknown length."""

_COARSE, _VALUES = 5.0, 32  # enough to tell whether 2 % are lost


def with_deferral(
    named: Mapping[str, nn.Parameter],
    decays: Mapping[str, Decay],
    *,
    native: Native,
    rates: Sequence[float],
    copied: bool = False,
    dtype: torch.dtype | None = None,
) -> dict[str, Decay]:
    """Return the decays, deferred where rounding would take or add more than it may of the dose.

    Coupled decay is not: it acts together with the gradient. The parameters' own values decide,
    and all of a DTensor's. But several processes must decide alike, so where they may hold
    different values or parts, the dtype alone decides.

    Args:
        named: The parameters.
        decays: The decay of each.
        native: The optimizer's own kind.
        rates: Learning rates of the run; a single one if its length is not known.
        copied: Whether parameters are known to be the same in every process.
        dtype: That of the copies which an engine trains, where these are not the parameters.
    """
    result = dict(decays)
    if not len(rates):
        return result
    lrs = torch.tensor([*rates] * (UNPLANNED if len(rates) == 1 else 1), dtype=torch.float64)
    apart = _several_processes() and not copied
    alike: dict[tuple[Decay, torch.dtype, bool], list[str]] = {}
    for name, parameter in named.items():
        trained = dtype or parameter.dtype
        if _deferrable(decays[name], trained, native):
            key = (decays[name], trained, parameter.device.type == "cpu")
            alike.setdefault(key, []).append(name)
    for (decay, trained, on_cpu), names in alike.items():
        samples = [
            spread(trained) if _is_unknown(named[n], apart) else sample(named[n], _VALUES)
            for n in names
        ]
        shares = _shares(samples, decay, trained, lrs, native=native, on_cpu=on_cpu)
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


def _is_unknown(parameter: Tensor, apart: bool) -> bool:
    """Return whether another process may hold other values of a parameter than this one."""
    how = sharded(parameter)
    return apart if how is None else how != DTENSOR


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
