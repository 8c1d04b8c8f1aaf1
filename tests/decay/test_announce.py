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
from gamma_nlp.decay.policy import PRESETS, DecayPolicy
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable
from tests.support.doses import linear, make, plan
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


@pytest.mark.parametrize("rounding", ["defer", "keep"])
def test_deferred_decay_is_said_and_what_is_kept_is_warned_of(
    rounding: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rates = linear(100, 1e-3)
    policy = DecayPolicy(branch_inner=1.0, rounding=rounding)  # type: ignore[arg-type]
    made = make(torch.optim.AdamW, policy, rates, decay=1.0, dtype=torch.bfloat16)
    table = GainTable(gains=(replace(gain("g", Category.BRANCH_INNER), dtype="bfloat16"),))
    with caplog.at_level("INFO", logger="gamma_nlp"):
        announce(
            table,
            plan(made, rates),
            policy=policy,
            weight_decay=1.0,
            optimizer="AdamW",
            steps=100,
            autocast=False,
            folder=tmp_path,
        )
    (row,) = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))["gains"]
    assert row["deferred"] == (rounding == "defer") and row["target"] == "zero"
    assert ("% (deferred)" in caplog.text) == (rounding == "defer")
    assert ("write rounding: defer" in caplog.text.lower()) == (rounding == "keep")
