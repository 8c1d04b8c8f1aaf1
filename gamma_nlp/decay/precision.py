"""What rounding takes from a decay, and the remedy: gains in float32.

In bfloat16 and float16 a step below half a unit in the last place changes nothing, so a small
decay is lost entirely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from gamma_nlp.errors import listed
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import Gain, GainTable


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


FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""The dtypes whose rounding is known."""


def lost_to_rounding(dose: float | None, exact: float | None) -> bool:
    """Return whether rounding takes more than half of a dose; ``exact`` is the dose in float64."""
    return dose is not None and exact is not None and dose < 0.5 * exact


def rounded_away(
    table: GainTable,
    doses: Mapping[str, float | None],
    exact: Mapping[str, float | None],
) -> list[Gain]:
    """Return the gains that lose more than half of their dose to rounding.

    Args:
        table: The gains.
        doses: By name.
        exact: What they were without rounding.
    """
    return [gain for gain in table if lost_to_rounding(doses[gain.name], exact.get(gain.name))]


def rounding_warning(
    lost: Sequence[Gain], autocast: bool, remedy: str | None = None, *, kept: bool = False
) -> str:
    """Return the warning about gains that cannot decay, with the remedy.

    Args:
        lost: The gains.
        autocast: Whether the forward pass casts by itself.
        remedy: How to keep gains in float32, where the usual ways do not apply.
        kept: Whether the policy's ``rounding: keep`` is why.
    """
    dtypes = ", ".join(sorted({gain.dtype for gain in lost}))
    if kept:
        remedy = "Write rounding: defer in the policy, which is the default"
    elif remedy is not None:
        remedy = f"Keep the gains in float32: {remedy}"
    elif autocast:
        remedy = (
            "Keep the gains in float32: call gamma_nlp.gains_to_fp32(model) before making the "
            "trainer"
        )
    else:
        remedy = (
            "Keep the gains in float32: load the model with dtype=torch.float32 and train with "
            "bf16=True (autocast)"
        )
    if not kept:
        remedy += "; or choose mode: decoupled, whose decay can be deferred"
    return (
        f"rounding to {dtypes} cancels the decay of {len(lost)} gains ("
        f"{listed(gain.name for gain in lost)}): each step is smaller than half a unit in the "
        f"last place, so they stay as if they had no decay. {remedy}"
    )
