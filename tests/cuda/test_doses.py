"""Every form of AdamW pulls gains by the dose that was told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import make_optimizer
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable
from tests.support.doses import SPREAD, achieved_each, linear, plan
from tests.support.optim_models import gain

pytestmark = pytest.mark.cuda
RATES = linear(100, 3e-3)
FORMS: dict[str, dict[str, Any]] = {
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"foreach": True, "capturable": True},
    "fused and capturable": {"fused": True, "capturable": True},
}


def gains(device: torch.device) -> tuple[nn.Module, GainTable, dict[str, float | str]]:
    """Gains as they are and as 1 + weight, with the value that decay pulls each toward."""
    offsets = {"plain": 0.0, "plus": 1.0}
    values = torch.tensor(SPREAD, dtype=torch.float64)
    model = nn.ParameterDict(
        {name: nn.Parameter((values - offset).float()) for name, offset in offsets.items()}
    ).to(device)
    inner = Category.BRANCH_INNER
    table = (gain(name, inner, offset=offset) for name, offset in offsets.items())
    return model, GainTable(gains=tuple(table)), {name: -o for name, o in offsets.items()}


@pytest.mark.parametrize("rate", ["a number", "a tensor"])
@pytest.mark.parametrize("form", FORMS)
def test_the_dose_is_the_one_that_was_told(form: str, rate: str, device: torch.device) -> None:
    options = FORMS[form]
    capturable = options.get("capturable", False)
    if capturable and device.type == "cpu":
        pytest.skip("only a GPU has capturable steps")
    if rate == "a tensor" and form == "foreach":
        pytest.skip("torch asks for capturable=True there")
    model, table, centers = gains(device)
    optimizer = make_optimizer(
        torch.optim.AdamW,
        model,
        weight_decay=0.9,
        lr=torch.tensor(RATES[0], device=device) if rate == "a tensor" else RATES[0],
        policy=DecayPolicy(branch_inner=1.0),
        table=table,
        rates=RATES,
        **options,
    )
    told = plan(optimizer, RATES).doses
    assert told["plain"] == pytest.approx(0.127, abs=0.001)
    for name, achieved in achieved_each(optimizer, RATES, centers).items():
        assert achieved == pytest.approx(told[name], abs=1e-6), name
