"""Told against achieved: dtype x optimizer and mode x target x schedule x rounding x offset."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable
from tests.support.doses import SPREAD, achieved_each, linear, plan
from tests.support.optim_models import gain

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

OPTIMIZERS: dict[str, tuple[type, dict[str, Any], str]] = {
    "AdamW": (torch.optim.AdamW, {"eps": 1e-4}, "native"),  # 1e-8 is 0 in float16
    "AdamW foreach": (torch.optim.AdamW, {"eps": 1e-4, "foreach": True}, "native"),
    "AdamW fused": (torch.optim.AdamW, {"eps": 1e-4, "fused": True}, "native"),
    "SGD": (torch.optim.SGD, {}, "native"),
    "SGD momentum": (torch.optim.SGD, {"momentum": 0.9}, "native"),
    "SGD decoupled": (torch.optim.SGD, {"momentum": 0.9}, "decoupled"),
}

TARGETS = [(target, "lr") for target in ("zero", "one", "start")]
SCHEDULES = [("zero", schedule) for schedule in ("lr_squared", "constant", "cosine", "linear")]


class Grid:
    """One optimizer with a vector of gains for each target, schedule and offset."""

    def __init__(
        self,
        optimizer: str,
        dtype: torch.dtype,
        rounding: str,
        rates: list[float],
        decay: float,
        aims: Sequence[tuple[str, str]],
        offsets: Sequence[float],
    ) -> None:
        optimizer_class, kwargs, mode = OPTIMIZERS[optimizer]
        aimed = {f"{a[0]}_{a[1]}_{offset:g}": (*a, offset) for a, offset in product(aims, offsets)}
        model = nn.ParameterDict()
        for name, (_, _, offset) in aimed.items():
            model[name] = nn.Parameter((torch.tensor(SPREAD).double() - offset).to(dtype))
        policy: dict[str, Any] = {
            "mode": mode,
            "rounding": rounding,
            "targets": {f"{name}*": target for name, (target, _, _) in aimed.items()},
            "schedules": {f"{name}*": schedule for name, (_, schedule, _) in aimed.items()},
        }
        inner = Category.BRANCH_INNER
        gains = (gain(name, inner, offset=offset) for name, (_, _, offset) in aimed.items())
        self.optimizer = make_optimizer(
            optimizer_class,
            model,
            weight_decay=decay,
            lr=rates[0],
            policy=DecayPolicy(**policy),
            table=GainTable(gains=tuple(gains)),
            rates=rates,
            **kwargs,
        )
        self.rates = rates
        self.centers: dict[str, float | str] = {
            name: "start" if target == "start" else float(target == "one") - offset
            for name, (target, _, offset) in aimed.items()
        }

    def achieved(self) -> dict[str, float]:
        return achieved_each(self.optimizer, self.rates, self.centers)


@pytest.mark.parametrize("rounding", ["defer", "keep"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_achieved_is_told(dtype: torch.dtype, optimizer: str, rounding: str) -> None:
    aims = [*TARGETS, *SCHEDULES]
    if optimizer in ("SGD", "SGD momentum"):
        aims.remove(("zero", "constant"))  # it would divide by the learning rate in the gradient
    grid = Grid(optimizer, dtype, rounding, linear(100, 3e-3), 0.9, aims, (0.0, 1.0))
    told = plan(grid.optimizer, grid.rates)
    assert told.doses.keys() == grid.centers.keys()
    for name, achieved in grid.achieved().items():
        dose, exact = told.doses[name], told.exact[name]
        assert dose is not None and exact is not None
        assert achieved == pytest.approx(dose, rel=0.02, abs=1e-6), name
        # In half precision a displacement by an eighth has few units in the last place at all.
        if rounding == "defer" and not told.coupled and grid.centers[name] != "start":
            unit = torch.finfo(dtype).eps  # the last of a few applications is rounded too
            assert dose == pytest.approx(exact, rel=0.02, abs=unit), name


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["defer", "keep"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_achieved_is_told_over_ten_thousand_steps(
    dtype: torch.dtype, optimizer: str, rounding: str
) -> None:
    grid = Grid(optimizer, dtype, rounding, linear(10_000, 1e-4), 0.5, TARGETS, (0.0,))
    doses = plan(grid.optimizer, grid.rates).doses
    for name, achieved in grid.achieved().items():
        assert achieved == pytest.approx(doses[name], rel=0.02, abs=1e-6), name
