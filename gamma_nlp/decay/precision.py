"""Gains in float32 inside a half-precision model, so that their decay is not rounded away."""

from __future__ import annotations

import torch
from torch import nn

from gamma_nlp.gains.category import Role
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import GainTable


def gains_to_fp32(model: nn.Module, table: GainTable | None = None) -> nn.Module:
    """Cast the gains and shifts of a half-precision model to float32, in place.

    It needs autocast (``bf16=True`` or ``fp16=True`` in the arguments of a Trainer): without it
    many models, Llama and T5 among them, stop at a product of two dtypes, in training as well as
    afterwards. Where memory allows, loading the whole model in float32 is the simpler way.

    Args:
        model: The model, before a trainer or an optimizer is made for it.
        table: Its gain table, if it is at hand already.

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
