"""What rounding takes from a decay, and the remedy: gains in float32.

In bfloat16 and float16 a step below half a unit in the last place changes nothing, so a small
decay is lost entirely.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from gamma_nlp.errors import listed
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import Gain, GainTable

LOW_PRECISION = ("bfloat16", "float16")


def gains_to_fp32(model: nn.Module, table: GainTable | None = None) -> nn.Module:
    """Cast the gains and shifts of a half-precision model to float32, in place.

    Training then needs autocast (``bf16=True`` or ``fp16=True`` in the arguments of a Trainer):
    without it many models, Llama and T5 among them, fail at a product of two dtypes, in training
    as well as afterwards. Where memory allows, loading the whole model in float32 is simpler.

    Args:
        model: The model, before a trainer or an optimizer is made for it.
        table: Its gain table, if you have it already.

    Returns:
        The same model.
    """
    table = categorize(model) if table is None else table
    names = {gain.name for gain in table}
    # Kernels want gain and shift of a norm in one dtype.
    names |= {name for name, role in table.roles.items() if role is Role.SHIFT}
    for name, parameter in model.named_parameters():
        if name in names and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
    return model


def _to_bfloat16(value: float) -> float:
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    bits += 0x7FFF + ((bits >> 16) & 1)  # to nearest, ties to even
    return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFF0000))[0])


ROUND: Mapping[torch.dtype, Callable[[float], float]] = {
    torch.float64: lambda value: value,
    torch.float32: lambda value: struct.unpack("<f", struct.pack("<f", value))[0],
    torch.float16: lambda value: struct.unpack("<e", struct.pack("<e", value))[0],
    torch.bfloat16: _to_bfloat16,
}
"""Round a number to a dtype, without making a tensor of it."""


def lost_to_rounding(dose: float | None, exact: float | None) -> bool:
    """Return whether rounding takes more than half of a dose; ``exact`` is the dose in float64."""
    return dose is not None and exact is not None and dose < 0.5 * exact


def rounded_away(
    table: GainTable,
    coefficients: Mapping[str, float],
    doses: Mapping[str, float | None],
    rate_sum: float | None,
) -> list[Gain]:
    """Return the gains that lose more than half of their dose to half precision."""
    if rate_sum is None:
        return []
    return [
        gain
        for gain in table
        if gain.dtype in LOW_PRECISION
        and lost_to_rounding(doses[gain.name], -math.expm1(-coefficients[gain.name] * rate_sum))
    ]


def rounding_warning(lost: Sequence[Gain], autocast: bool, remedy: str | None = None) -> str:
    """Return the warning about gains that cannot decay, with the remedy."""
    dtypes = ", ".join(sorted({gain.dtype for gain in lost}))
    if remedy is None and autocast:
        remedy = "call gamma_nlp.gains_to_fp32(model) before making the trainer"
    elif remedy is None:
        remedy = "load the model with dtype=torch.float32 and train with bf16=True (autocast)"
    return (
        f"rounding to {dtypes} cancels the decay of {len(lost)} gains ("
        f"{listed(gain.name for gain in lost)}): each step is smaller than half a unit in the "
        f"last place, so they stay as if they had no decay. Keep the gains in float32: {remedy}"
    )
