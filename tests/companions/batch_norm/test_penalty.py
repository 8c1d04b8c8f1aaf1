"""The penalty of batch norm: closed forms on constructed covariances, layers, noise, refusals."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import mse_loss

from gamma_nlp import GammaError
from gamma_nlp.companions.batch_norm.covariance import Moments, ridge
from gamma_nlp.companions.batch_norm.input_noise import estimate_noise
from gamma_nlp.companions.batch_norm.layer_rows import (
    check_layer,
    input_rows,
)
from gamma_nlp.companions.batch_norm.penalty import BatchNormPenalty, bn_penalty
from tests.support.batch_norms import CONVOLUTIONS, normal, put_at_optimum, unit, with_covariance


def test_a_unit_is_what_layer_and_norm_compute() -> None:
    layer, norm = unit(5, 3, gain=-1.7)
    norm.eps = 0.5
    x = normal(30, 5) * 2 + 1
    found = bn_penalty(layer, x, norm=norm)
    torch.testing.assert_close((x - x.mean(0)) @ found.weight.T, norm(layer(x)).detach())
    torch.testing.assert_close(found.variance, norm(layer(x)).detach().var(0, correction=0))
    assert found.mu.isnan().all() and found.ridge is None and found.rank is None


@pytest.mark.parametrize("gain", [0.3, -0.3, 1.0, 4.0])
def test_the_multiplier_is_that_of_theory_on_a_diagonal_covariance(gain: float) -> None:
    # c = S v with v = (2, 1), so c'S**-1 c = v'Sv = 4 * 4 + 1 = 17 under S = diag(4, 1).
    x = with_covariance(torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64)))
    y = x @ torch.tensor([[2.0], [1.0]], dtype=torch.float64)
    layer, norm = unit(2, gain=gain)
    put_at_optimum(layer, x, y * gain)
    found = bn_penalty(layer, x, norm=norm, targets=y)
    assert float(found.mu) == pytest.approx(17**0.5 / abs(gain) - 1)
    wanted = torch.tensor([[2.0, 1.0]], dtype=torch.float64) * abs(gain) / 17**0.5
    torch.testing.assert_close(found.ridge, wanted)
    torch.testing.assert_close(found.weight, wanted)
    assert float(found.gap) < 1e-12
    assert float(found.penalty) == pytest.approx(float(found.mu) / 2 * gain**2)
    assert found.rank is not None and found.rank.tolist() == [2]


def test_a_penalty_on_the_gain_becomes_the_multiplier() -> None:
    x = normal(60, 3) @ normal(3, 3, seed=2)
    y = x @ normal(3, 1, seed=3) + normal(60, 1, seed=4)
    layer, norm = unit(3)
    put_at_optimum(layer, x, y)
    for decay in (0.0, 0.25, 2.0):
        optimizer = torch.optim.SGD([norm.weight], lr=0.3, weight_decay=decay)
        for _ in range(100):
            optimizer.zero_grad()
            (mse_loss(norm(layer(x)), y) / 2).backward()
            optimizer.step()
        with torch.no_grad():
            norm.bias.fill_(float(y.mean()))
        assert float(bn_penalty(layer, x, norm=norm, targets=y).mu) == pytest.approx(
            decay, abs=1e-9
        )


def test_batches_add_up_to_the_whole() -> None:
    layer, norm = unit(4, 2)
    x = normal(50, 3, 4) + 1000  # a large mean must not cost digits
    y = normal(50, 3, 2, seed=1)
    whole = bn_penalty(layer, x, norm=norm, targets=y)
    parts = bn_penalty(layer, iter(x.split(7)), norm=norm, targets=list(y.split(7)))
    exact = torch.cov((x - 1000).flatten(0, 1).T, correction=0)
    torch.testing.assert_close(parts.covariance[0], exact, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(parts.mu, whole.mu, rtol=1e-9, atol=0.0)
    assert parts.samples == whole.samples == 150


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), level=st.floats(0.0, 1.0), size=st.integers(1, 6))
def test_signal_and_noise_add_up_to_the_whole(seed: int, level: float, size: int) -> None:
    half = normal(size, size, seed=seed)
    noise = half @ half.T
    x = with_covariance(noise + torch.eye(size, dtype=torch.float64), seed=seed)
    layer, norm = unit(size, 3, gain=1.5)
    found = bn_penalty(layer, x, norm=norm, noise=level * noise, multiplier=torch.ones(3))
    torch.testing.assert_close(found.signal + found.noise, found.variance)
    torch.testing.assert_close(found.variance, torch.full((3,), 2.25, dtype=torch.float64))
    own = found.weight @ noise
    torch.testing.assert_close(found.noise, level * (own * found.weight).sum(1))
    assert bool((found.signal > 0).all()) and bool((found.noise >= 0).all())
    torch.testing.assert_close(found.penalty, found.variance / 2)
    torch.testing.assert_close(
        found.noise_strength / 2 * found.weight.square().sum(1), found.noise / 2
    )


def test_white_noise_puts_a_plain_ridge_of_mu_times_its_variance_on_the_unit() -> None:
    x = with_covariance(torch.diag(torch.tensor([9.0, 1.0, 0.5], dtype=torch.float64)))
    layer, norm = unit(3, 2)
    mu = torch.tensor([0.3, -0.2], dtype=torch.float64)
    found = bn_penalty(layer, x, norm=norm, noise=0.25, multiplier=mu)
    torch.testing.assert_close(found.noise_strength, mu * 0.25)
    as_vector = bn_penalty(layer, x, norm=norm, noise=torch.full((3,), 0.25), multiplier=mu)
    torch.testing.assert_close(as_vector.noise, found.noise)
    shares = found.plain_strength * found.weight.square().sum(1) / 2
    torch.testing.assert_close(shares, found.penalty)


@pytest.mark.parametrize("case", ["plain", "strided", "grouped", "depthwise"])
def test_noise_on_pixels_is_known_patch_by_patch(case: str) -> None:
    conv, shape = CONVOLUTIONS[case]
    layer = check_layer(conv.double())
    levels = torch.linspace(0.5, 2.0, shape[1], dtype=torch.float64)
    spread = levels.sqrt().view(-1, *[1] * (len(shape) - 2))
    # Noise of the same sign everywhere and nowhere: E over signs of one pixel at a time is exact.
    size = layer.weight[0].numel()
    exact = torch.zeros(layer.groups, size, size, dtype=torch.float64)
    pixels = spread.expand(shape[1:]).numel()
    for pixel in range(pixels):
        one = torch.zeros(pixels, dtype=torch.float64)
        one[pixel] = 1
        rows = input_rows(layer, (one.view(shape[1:]) * spread).unsqueeze(0))
        exact += rows.mT @ rows / rows.shape[1]
    x = 9 * normal(*shape)
    found = bn_penalty(layer, x, noise=levels)
    diagonal = torch.diag_embed(exact.diagonal(dim1=1, dim2=2))
    given = bn_penalty(layer, x, noise=diagonal)
    torch.testing.assert_close(found.noise, given.noise)
    torch.testing.assert_close(exact, diagonal)  # two taps never see the same pixel


def test_noise_is_estimated_from_inputs_seen_twice() -> None:
    clean, conv = 5 * normal(4000, 2, 6), nn.Conv1d(2, 3, 3, padding=1).double()
    levels = torch.tensor([0.5, 2.0], dtype=torch.float64)
    spread = levels.sqrt().view(2, 1)
    first = clean + spread * normal(4000, 2, 6, seed=1)
    second = clean + spread * normal(4000, 2, 6, seed=2)
    noise = estimate_noise(conv, first.split(900), second.split(900))
    known = bn_penalty(conv, first, noise=levels)
    estimated = bn_penalty(conv, first, noise=noise)
    torch.testing.assert_close(estimated.noise, known.noise, rtol=0.05, atol=0.0)
    torch.testing.assert_close(estimated.variance, known.variance)


def test_directions_without_variance_get_nothing() -> None:
    x = normal(40, 3)
    x = torch.cat([x, x[:, :1] - x[:, 1:2], torch.full((40, 1), 7.0)], dim=1)  # rank 3 of 5
    y = x @ normal(5, 1, seed=1) + normal(40, 1, seed=2)
    layer, norm = unit(5)
    found = bn_penalty(layer, x, norm=norm, targets=y)
    assert found.rank is not None and found.rank.tolist() == [3]
    centred = x - x.mean(0)
    least = torch.linalg.pinv(centred, rtol=1e-8) @ (y - y.mean())
    torch.testing.assert_close(found.ridge * (1 + found.mu), least.T)
    assert float(found.ridge[0, 4]) == pytest.approx(0.0, abs=1e-12)


def test_ridge_is_the_minimum_that_it_says() -> None:
    x = normal(60, 4) @ normal(4, 4, seed=1)
    covariance, cross = x.T @ x / 60, normal(2, 4, seed=2)
    mu = torch.tensor([0.4, 3.0], dtype=torch.float64)
    noise = torch.diag(torch.rand(4, generator=torch.Generator().manual_seed(0)).double())
    eye = torch.eye(4, dtype=torch.float64)
    for metric, matrix in (("data", covariance), ("plain", eye), (noise, noise)):
        v = ridge(covariance, cross, mu, metric=metric)
        torch.testing.assert_close(v @ covariance + mu.unsqueeze(1) * v @ matrix, cross)
        torch.testing.assert_close(ridge(covariance, cross[0], 0.4, metric=metric), v[0])


def test_moments_are_those_of_all_rows() -> None:
    rows = normal(2, 37, 3) + torch.tensor([1e4, 0.0, -1e4], dtype=torch.float64)
    moments = Moments()
    for part in rows.split((1, 20, 16), dim=1):
        moments.add(part)
    for group in range(2):
        exact = torch.cov(rows[group].T, correction=0)
        torch.testing.assert_close(moments.covariance[group], exact, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moments.mean, rows.mean(1))


def test_a_unit_that_never_varies_is_nothing() -> None:
    layer, _ = unit(3, 2)
    nn.init.zeros_(layer.weight[0])
    found: BatchNormPenalty = bn_penalty(layer, normal(9, 3))
    assert found.weight[0].tolist() == [0.0, 0.0, 0.0] and float(found.variance[0]) == 0.0
    assert float(found.variance[1]) == pytest.approx(1.0)


LINEAR, X = nn.Linear(3, 2), torch.zeros(9, 3)
CONV = nn.Conv2d(3, 2, 3)
BROKEN = nn.Linear(3, 2)
nn.init.constant_(BROKEN.weight, torch.nan)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"layer": nn.ConvTranspose2d(3, 2, 3)}, "layer is a ConvTranspose2d; expected nn.Linear"),
        ({"layer": BROKEN}, "the layer's weight is not finite"),
        ({"norm": nn.LayerNorm(2)}, "norm is a LayerNorm; expected a batch norm"),
        ({"norm": nn.BatchNorm1d(3)}, "norm has 3 features, the layer 2 units"),
        ({"inputs": torch.zeros(9, 4)}, "inputs are (9, 4); the layer takes [..., 3]"),
        ({"inputs": torch.zeros(3)}, "inputs are (3,); the layer takes [..., 3]"),
        ({"inputs": [[1.0]]}, "inputs must be tensors, got list"),
        ({"inputs": X / 0}, "inputs are not finite"),
        ({"inputs": X.to(torch.complex64)}, "inputs must be real numbers"),
        ({"inputs": 3.0}, "inputs must be a tensor or batches of tensors, got 3.0"),
        ({"targets": 3.0}, "targets must be a tensor or batches of tensors, got 3.0"),
        ({"targets": [1.0]}, "targets must be tensors of real numbers"),
        ({"noise": "a"}, "noise must be a number or a tensor, got 'a'"),
        ({"noise": True}, "noise must be a number or a tensor, got True"),
        ({"rtol": -1.0}, "rtol must be a number from 0 to 1, got -1.0"),
        ({"inputs": X[:1]}, "inputs have 1 rows; a covariance needs at least 2"),
        ({"inputs": []}, "inputs have 0 rows"),
        ({"layer": CONV, "inputs": X}, "the layer takes [examples, 3, 2 of space]"),
        (
            {"layer": CONV, "inputs": torch.zeros(1, 3, 4, 2)},
            "the layer's kernel needs 3 in dimension 3",
        ),
        ({"targets": torch.zeros(9)}, "targets are (9,); expected (9, 2)"),
        ({"targets": torch.zeros(9, 2) / 0}, "targets are not finite"),
        ({"targets": []}, "targets end before inputs"),
        ({"targets": [torch.zeros(9, 2)] * 2}, "inputs end before targets"),
        (
            {"inputs": X[:4], "targets": torch.zeros(4, 2)},
            "targets need more than 4 rows of inputs for units of 3 inputs, got 4",
        ),
        ({"multiplier": torch.ones(3)}, "multiplier must be a tensor [2]"),
        ({"noise": -1.0}, "noise has negative variances"),
        ({"noise": torch.ones(2)}, "noise is (2,); expected a number, [3] variances"),
        ({"noise": float("nan")}, "noise is not finite"),
        ({"noise": torch.arange(9.0).view(3, 3)}, "noise is a matrix that is not symmetric"),
        ({"noise": -torch.eye(3)}, "noise has negative variances"),
        (
            {"inputs": normal(9, 3), "noise": 9.0},
            "noise is more than the whole variance of some unit",
        ),
        (
            {
                "layer": nn.Conv1d(3, 2, 3, padding=1, padding_mode="reflect"),
                "inputs": torch.zeros(2, 3, 5),
                "noise": 1.0,
            },
            "pass noise=estimate_noise(",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(GammaError, match=re.escape(message)):
        bn_penalty(**{"layer": LINEAR, "inputs": X} | kwargs)


def test_a_gap_needs_targets() -> None:
    with pytest.raises(GammaError, match="targets="):
        _ = bn_penalty(LINEAR, X).gap


def test_repeats_must_match() -> None:
    for second in ([], torch.zeros(8, 3), [X, X]):
        with pytest.raises(GammaError, match="second must repeat first"):
            estimate_noise(LINEAR, X, second)
    with pytest.raises(GammaError, match="first has 0 rows"):
        estimate_noise(LINEAR, [], [])


def test_ridge_refuses_what_does_not_fit() -> None:
    with pytest.raises(GammaError, match=r"covariance is \(3, 3\); expected \[..., 2, 2\]"):
        ridge(torch.eye(3), torch.ones(2), 1.0)
    with pytest.raises(GammaError, match="metric must be 'data', 'plain' or a matrix"):
        ridge(torch.eye(2), torch.ones(2), 1.0, metric="other")
