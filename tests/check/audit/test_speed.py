"""How long an audit takes, given a gain table: it is meant for the start of every run."""

from __future__ import annotations

import time

import torch
from torch import nn

from gamma_nlp import audit
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.table import Gain, GainTable


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = (
            nn.LayerNorm(8),
            nn.Linear(8, 8),
            nn.Linear(8, 8, bias=False),
        )


def test_an_optimizer_of_a_thousand_parameters_is_audited_in_50_ms() -> None:
    """The best of five: the audit alone, with a gain table that is there already."""
    model = nn.ModuleList(Layer() for _ in range(200))
    gains = tuple(
        Gain(name=f"{i}.norm.weight", category=Category.BRANCH_INNER, kind="layer_norm",
             offset=0.0, source="table", reason="", dtype="float32", numel=8)
        for i in range(200)
    )  # fmt: skip
    roles = {"norm.bias": Role.SHIFT, "up.weight": Role.WEIGHT, "up.bias": Role.BIAS,
             "down.weight": Role.WEIGHT}  # fmt: skip
    table = GainTable(
        gains=gains, roles={f"{i}.{name}": role for i in range(200) for name, role in roles.items()}
    )
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        found = audit(model, table, optimizer=optimizer)
        seconds.append(time.process_time() - start)
    assert found.decayed + found.spared == 1000
    assert min(seconds) < 0.05
