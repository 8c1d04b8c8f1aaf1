"""How long an audit takes, given a gain table: it is meant for the start of every run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import audit
from gamma_nlp.check.audit.optimizer_report import OptimizerAudit
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


def layers() -> tuple[nn.Module, GainTable]:
    """A model of a thousand parameters, and its table."""
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
    return model, table


def fastest(model: nn.Module, table: GainTable, optimizer: Any) -> tuple[float, OptimizerAudit]:
    """The best of five."""
    seconds = []
    for _ in range(5):
        start = time.process_time()
        found = audit(model, table, optimizer=optimizer)
        seconds.append(time.process_time() - start)
    return min(seconds), found


def test_an_optimizer_of_a_thousand_parameters_is_audited_in_50_ms() -> None:
    """The audit alone, with a gain table that is there already."""
    model, table = layers()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    seconds, found = fastest(model, table, optimizer)
    assert found.decayed + found.spared == 1000
    assert seconds < 0.05


FOREIGN: dict[str, Callable[[nn.Module], Iterable[Tensor]]] = {
    "copies": lambda model: (p.detach().clone() for p in model.parameters()),
    "zeros": lambda model: (torch.zeros(8) for _ in range(1000)),
    "longer": lambda model: (torch.ones(9, 8) for _ in range(1000)),
    "odd": lambda model: (torch.ones(i % 7 + 1, 5, 2) for i in range(1000)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_thousand_tensors_of_another_model_take_no_comparison_each_with_each(kind: str) -> None:
    """About 30 ms; one comparison for each pair took 0.5 to 1 s."""
    model, table = layers()
    optimizer = torch.optim.AdamW([nn.Parameter(one) for one in FOREIGN[kind](model)], lr=1e-3)
    seconds, found = fastest(model, table, optimizer)
    assert len(found.foreign) == 1000
    assert seconds < 0.15
