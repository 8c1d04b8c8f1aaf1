"""Arithmetic on many tensors reads no number from a device."""

from __future__ import annotations

import pytest
import torch

from gamma_nlp.decay.foreach import add_, multiply_, plus, product, pull_


@pytest.mark.parametrize("centers", ["number", "tensors"])
def test_a_tensor_as_factor_is_not_read(centers: str) -> None:
    device = torch.device("meta")  # it has no numbers, so reading one is an error
    weights = [torch.empty(3, device=device) for _ in range(2)]
    others = -1.0 if centers == "number" else [w.clone() for w in weights]
    factor = product([0.1, torch.empty((), device=device)], device)
    add_(weights, others, factor)
    plus(weights, others, factor)
    pull_(weights, others, factor)
    multiply_(weights, factor)


def test_numbers_and_tensors_as_factors_agree() -> None:
    for factor in (0.25, torch.tensor(0.25)):
        weights = [torch.tensor([1.0, 2.0])]
        add_(weights, -1.0, factor)
        assert weights[0].tolist() == [0.75, 1.75]
        assert plus(weights, -1.0, factor)[0].tolist() == [0.5, 1.5]
