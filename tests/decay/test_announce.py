"""What a run says of its decay: the plan in a file, and the norms of its gains."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gamma_nlp import categorize
from gamma_nlp.decay.announce import announce, gain_norms
from gamma_nlp.decay.plan import Plan
from gamma_nlp.decay.policy import PRESETS
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable
from tests.support.optim_models import gain


def test_norms_are_root_mean_squares_of_the_effective_gain() -> None:
    class Offset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.norm = nn.Linear(4, 4), nn.RMSNorm(4, elementwise_affine=False)
            self.gain = nn.Parameter(torch.tensor([1.0, 2.0, -1.0, 0.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.inner(x)) * (1 + self.gain)

    model = Offset()
    table = categorize(model, torch.randn(3, 4))
    assert gain_norms(model, table) == {"head": pytest.approx(math.sqrt((4 + 9 + 0 + 1) / 4))}
    assert gain_norms(nn.Linear(4, 2), table) == {}


def test_norms_of_a_category_are_those_of_all_its_gains_as_one() -> None:
    model = nn.ParameterDict({"a": torch.tensor([3.0, 4.0]), "b": torch.full((4,), -1.0)})
    gains = [replace(gain(name, Category.SHORTCUT), numel=len(model[name])) for name in "ab"]
    found = gain_norms(model, GainTable(gains=tuple(gains), roles={}))
    assert found == {"shortcut": pytest.approx(math.sqrt((9 + 16 + 4) / 6))}


def test_the_file_says_what_decays_and_why_a_dose_is_unknown(tmp_path: Path) -> None:
    plan = Plan(coefficients={"a": 0.2}, doses={"a": None}, rate_sum=None, unknown=("no end",))
    announce(
        GainTable(gains=(gain("a", Category.HEAD),), roles={}),
        plan,
        policy=PRESETS["all"],
        weight_decay=0.2,
        optimizer="AdamW",
        steps=7,
        autocast=False,
        folder=tmp_path,
    )
    record = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))
    assert (record["policy"]["name"], record["weight_decay"]) == ("all", 0.2)
    assert (record["optimizer"], record["training_steps"]) == ("AdamW", 7)
    assert (record["sum_of_learning_rates"], record["no_dose_because"]) == (None, ["no end"])
    assert [(one["coefficient"], one["dose"]) for one in record["gains"]] == [(0.2, None)]
