"""Where rounding to a parameter's dtype would cancel decay, so that it has to be deferred."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gamma_nlp.decay.deferred import MOVED, share_of
from gamma_nlp.decay.groups import Decay
from gamma_nlp.decay.policy import Native

TOLERATED = 0.02
"""The part of a dose that rounding may take or add."""

_SAMPLE = 1024


def with_deferral(
    named: Mapping[str, nn.Parameter],
    decays: Mapping[str, Decay],
    *,
    native: Native,
    rates: Sequence[float],
) -> dict[str, Decay]:
    """Return the decays, deferred where rounding would take more than 2 % of the dose.

    Coupled decay is not: it acts together with the gradient.

    Args:
        named: The parameters; their own values decide.
        decays: The decay of each.
        native: The optimizer's own kind.
        rates: Learning rates of the run.
    """
    result = dict(decays)
    for name, parameter in named.items():
        decay = decays[name]
        mode = native if decay.mode == "native" else decay.mode
        if mode == "coupled" or decay.rounding == "keep" or not decay.coefficient or not rates:
            continue
        share = share_of(parameter.dtype, to_start=decay.center == "start")
        if share and abs(_lost(parameter, decay, max(rates))) > TOLERATED:
            result[name] = dataclasses.replace(decay, share=share)
    return result


@torch.no_grad()
def _lost(parameter: Tensor, decay: Decay, rate: float) -> float:
    """Return the part of one step of decay that rounding takes, in the mean over elements."""
    w = parameter.detach().flatten()
    w = w[:: max(1, w.numel() // _SAMPLE)].double()
    away = w * MOVED if decay.center == "start" else w - decay.center
    whole = rate * decay.coefficient * away
    done = w - (w - whole).to(parameter.dtype).double()
    total = whole.abs().sum()
    return float(1 - (done * whole.sign()).sum() / total) if total else 0.0
