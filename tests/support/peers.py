"""Models with the parameter names of other libraries, and what those would not decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Gamma(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(4))


class Vision(nn.Module):
    """Parameters only, named and shaped as in timm's vision transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.scale = nn.Parameter(torch.ones(()))
        self.patch_embed = nn.Conv2d(3, 4, 2)
        self.attn = nn.Linear(4, 12)
        self.attn.rel_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.norm, self.ls1 = nn.LayerNorm(4), Gamma()
        self.experts = nn.Module()
        self.experts.bias = nn.Parameter(torch.zeros(2, 4))
        self.head = nn.Linear(4, 2)

    def no_weight_decay(self) -> set[str]:
        return {"cls_token", "*.rel_bias_table", "norm", "no_such"}


SPARED_BY_TIMM = {
    "cls_token",  # no_weight_decay
    "attn.rel_bias_table",  # no_weight_decay, by a pattern
    "scale",  # no dimension
    "patch_embed.bias",
    "attn.bias",
    "norm.weight",
    "norm.bias",
    "ls1.gamma",
    "experts.bias",  # two dimensions, but its name ends in .bias
    "head.bias",
}


def without_decay(model: nn.Module, groups: Any) -> set[str]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)] for g in groups if not g["weight_decay"] for p in g["params"]}
