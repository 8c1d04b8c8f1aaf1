"""Convolutions as linear layers on patches, whole and in pieces."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gamma_nlp.companions.batch_norm.layer_rows import (
    check_layer,
    input_rows,
    output_rows,
    weight_rows,
)
from gamma_nlp.companions.batch_norm.penalty import bn_penalty
from tests.support.batch_norms import CONVOLUTIONS, normal


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_is_a_linear_layer_on_patches(case: str) -> None:
    conv, shape = CONVOLUTIONS[case]
    layer = check_layer(conv.double())
    x = normal(*shape)
    rows = input_rows(layer, x)
    outputs = layer(x).detach() - layer.bias.detach().view(-1, *[1] * (len(shape) - 2))
    torch.testing.assert_close(rows @ weight_rows(layer).mT, output_rows(layer, outputs))


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_has_the_penalty_of_the_linear_layer_on_its_patches(case: str) -> None:
    conv, shape = CONVOLUTIONS[case]
    layer = check_layer(conv.double())
    x = normal(8 * shape[0], *shape[1:])
    targets = layer(x).detach() + normal(*layer(x).shape, seed=1)
    norm = nn.BatchNorm1d(len(layer.weight), eps=1e-3).double()
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    found = bn_penalty(layer, x, norm=norm, targets=targets)
    rows, wanted = input_rows(layer, x), output_rows(layer, targets)
    start = 0
    for group, weights in enumerate(weight_rows(layer)):
        linear = nn.Linear(weights.shape[1], len(weights)).double()
        linear.weight.data.copy_(weights)
        part = nn.BatchNorm1d(len(weights), eps=1e-3).double()
        stop = start + len(weights)
        part.weight.data.copy_(norm.weight[start:stop])
        one = bn_penalty(linear, rows[group], norm=part, targets=wanted[group])
        for name in ("weight", "mu", "signal", "ridge"):
            torch.testing.assert_close(getattr(found, name)[start:stop], getattr(one, name))
        start = stop
    shaped = norm(layer(x).flatten(2)).detach()
    torch.testing.assert_close(found.variance, shaped.var((0, 2), correction=0))


def test_pieces_of_bounded_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = nn.Conv1d(2, 3, 3, padding=1).double()
    x, y = normal(20, 2, 9), normal(20, 3, 9, seed=1)
    whole = bn_penalty(conv, x, targets=y)
    monkeypatch.setattr("gamma_nlp.companions.batch_norm.layer_rows.CHUNK", 200)
    parts = bn_penalty(conv, x, targets=y)
    torch.testing.assert_close(parts.mu, whole.mu)
    assert parts.samples == whole.samples
