"""Coupled decay through momentum: step by step, and by the response of the momentum."""

from __future__ import annotations

import pytest
import torch

from gamma_nlp.decay import momentum as module
from gamma_nlp.decay.momentum import Momentum, coupled_ends


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_a_long_run_ends_where_its_steps_end(
    nesterov: bool, dampening: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, center = torch.linspace(0.3, 3.0, 40).double(), torch.zeros(1, dtype=torch.float64)
    lrs = torch.linspace(2e-2, 1e-3, 40, dtype=torch.float64)
    through = Momentum(values=0.9, nesterov=nesterov, dampening=dampening)
    ends = []
    for stepwise in (20_000, 10):
        monkeypatch.setattr(module, "STEPWISE", stepwise)
        end = coupled_ends(
            start.float().double(), center, lrs, torch.full_like(lrs, 0.02),
            dtype=torch.float32, momentum=through,
        )  # fmt: skip
        assert end is not None
        ends.append(float(1 - end.sum() / start.sum()))
    assert ends[1] == pytest.approx(ends[0], rel=0.02)
