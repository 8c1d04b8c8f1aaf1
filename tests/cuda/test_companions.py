"""UnitNorm and StrongRegularizer beside our decay, on the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import make_optimizer
from gamma_nlp.companions import StrongRegularizer, UnitNorm
from tests.support.regularized import network

pytestmark = pytest.mark.cuda


def test_norms_are_held_and_weights_are_removed_beside_our_decay(device: torch.device) -> None:
    model = network().to(device)
    optimizer = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.01, lr=0.01, policy="all",
        inputs=torch.randn(2, 12, device=device),
    )  # fmt: skip
    held = UnitNorm(optimizer, ["0.weight"], force=True)
    strong: Any = StrongRegularizer(
        optimizer, names=["2.weight"], l1=0.5, rule="magnitude", ratio=4.0, every=5
    )
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(0)).to(device)
    labels = x[:, :3].argmax(1)
    norms = {name: value.clone() for name, value in held.norms.items()}
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    weight = model.get_parameter("0.weight").detach()
    own = norms["0.weight"]
    found = weight.norm() if own.numel() == 1 else weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.reshape(own.shape).to(own), own, rtol=2e-4, atol=0)
    zeros = int((model.get_parameter("2.weight") == 0).sum())
    assert 0 < zeros < 256
    assert strong.report().sparsity == pytest.approx(zeros / 256)
