"""One linear unit with batch norm that separates two digits, compared with closed forms.

Labels are 1 and -1, the loss is E(y - output)**2 / 2 over all images at once, in float64. L-BFGS
trains the unit to rest. It works on whitened inputs: the variances of clean pixels span so many
decades that it would not converge in pixels. The units are compared in pixels.

Under squared loss the constraint v'Sv = g**2 changes the length of v and never its direction [R]:
a unit with batch norm is least squares on the data it sees, divided by 1 + mu. So noise on the
inputs shrinks directions with little signal through the loss, as it does without a norm (a ridge of
strength t**2); the penalty's own preference shows where only the norm sees the noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.companions.batch_norm.covariance import eigen, quadratic, ridge
from gamma_nlp.companions.batch_norm.input_noise import estimate_noise
from gamma_nlp.companions.batch_norm.multipliers import multipliers
from gamma_nlp.companions.batch_norm.penalty import bn_penalty
from recipes.batch_norm.closed_forms import constrained, covariance_of, cross_of, shrinkage
from recipes.common.images import ImageSet

DIGITS = (3, 8)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Images of two digits as rows from 0 to 1, with labels 1 and -1 in one column, float64."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    @classmethod
    def of(cls, images: ImageSet) -> Pixels:
        def pick(pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            chosen = (labels == DIGITS[0]) | (labels == DIGITS[1])
            y = torch.where(labels[chosen] == DIGITS[0], 1.0, -1.0).double().unsqueeze(1)
            return pixels[chosen].flatten(1).double() / 255, y

        x, y = pick(images.train_images, images.train_labels)
        test_x, test_y = pick(images.test_images, images.test_labels)
        return cls(x=x, y=y, test_x=test_x, test_y=test_y)


class Unit(nn.Module):
    """A linear unit and batch norm; the norm's scale comes from ``statistics``, if given.

    In that case the norm is written out, since torch's takes no gradient through given statistics.
    """

    def __init__(self, size: int, gain: float | None, seed: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, 1, bias=False).double()
        self.norm = nn.BatchNorm1d(1, eps=1e-30).double()  # torch takes no eps of 0
        start = torch.randn(1, size, generator=torch.Generator().manual_seed(seed))
        self.layer.weight.data.copy_(start / start.norm())
        self.norm.weight.data.fill_(1.0 if gain is None else gain)
        self.norm.weight.requires_grad_(gain is None)

    def forward(self, x: Tensor, statistics: Tensor | None = None) -> Tensor:
        out: Tensor = self.layer(x)
        if statistics is None:
            return self.norm(out)
        scale = self.layer(statistics).var(0, correction=0).sqrt()
        return self.norm.weight * (out - out.mean(0)) / scale + self.norm.bias


def half_square(out: Tensor, y: Tensor) -> Tensor:
    return (out - y).square().mean() / 2


def fit(
    x: Tensor,
    y: Tensor,
    *,
    gain: float | None,
    decay: float = 0.0,
    statistics: Tensor | None = None,
    seed: int = 0,
) -> tuple[nn.Linear, nn.BatchNorm1d, float]:
    """Train a unit to rest; return layer and norm in pixels, and the measured multiplier.

    Args:
        x: Rows of pixels.
        y: Labels in one column.
        gain: The norm's fixed gain; ``None`` trains it.
        decay: Adds decay / 2 gain**2 to the loss.
        statistics: Other rows that set the norm's scale, see :class:`Unit`.
        seed: Seed of the initial weights.
    """
    rows = x if statistics is None else statistics
    values, vectors, kept = eigen(covariance_of(rows))
    white = vectors[:, kept] / values[kept].sqrt()
    unit = Unit(white.shape[1], gain, seed)
    inside, outside = x @ white, None if statistics is None else statistics @ white
    optimizer = torch.optim.LBFGS(
        [p for p in unit.parameters() if p.requires_grad],
        max_iter=300,
        history_size=50,
        tolerance_grad=1e-11,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = half_square(unit(inside, outside), y)
        loss = loss + decay / 2 * unit.norm.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    if statistics is None:
        loss_fn = lambda unit, x: half_square(unit(x), y)  # noqa: E731
        measured = float(multipliers(unit, loss_fn, [inside])["norm"])
    else:
        g = unit.norm.weight.requires_grad_()
        (slope,) = torch.autograd.grad(half_square(unit(inside, outside), y), g)
        measured = -float(slope) / float(g.detach())
    layer = nn.Linear(x.shape[1], 1, bias=False).double()
    layer.weight.data.copy_(unit.layer.weight.data @ white.T)
    return layer, unit.norm, measured


def clean_unit(cell: Mapping[str, Any], images: ImageSet) -> dict[str, Any]:
    """Compare a unit without noise, its gain fixed, decayed or free, with the predicted ridge.

    ``cell`` has ``gain`` (``None``: trained) and ``decay``. For a fixed gain the prediction
    comes from the data and the gain, for a trained one it is the decay.
    """
    data = Pixels.of(images)
    layer, norm, measured = fit(data.x, data.y, gain=cell["gain"], decay=cell["decay"])
    found = bn_penalty(layer, data.x, norm=norm, targets=data.y)
    predicted = cell["decay"] if cell["gain"] is None else float(found.mu)
    covariance, cross = found.covariance[0], cross_of(data.x, data.y)
    explicit = ridge(covariance, cross, predicted)
    plain = ridge(covariance, cross, float(found.plain_strength), metric="plain")
    v = found.weight[0]
    return {
        "gain": float(norm.weight.detach()),
        "predicted_mu": predicted,
        "measured_mu": measured,
        "gap": float((v - explicit).abs().max() / v.norm()),
        "rank": int(found.rank[0]) if found.rank is not None else None,
        "plain_strength": float(found.plain_strength),
        "cosine_to_plain_ridge": _cosine(covariance, v, plain),
        "accuracy": _accuracy(data, v),
        "accuracy_plain_ridge": _accuracy(data, plain),
        "accuracy_least_squares": _accuracy(data, ridge(covariance, cross, 0.0)),
    }


def noisy_unit(cell: Mapping[str, Any], images: ImageSet) -> dict[str, Any]:
    """Train a unit with white noise on the inputs of loss and norm, or of the norm alone.

    ``cell`` has ``gain`` (fixed), ``tau`` (of the noise), ``where`` (``"data"`` or
    ``"statistics"``), ``copies`` (of each image, each with its own noise) and ``seed``.
    """
    data, tau, gain = Pixels.of(images), float(cell["tau"]), float(cell["gain"])
    generator = torch.Generator().manual_seed(cell["seed"])
    x, y = data.x.repeat(cell["copies"], 1), data.y.repeat(cell["copies"], 1)
    noisy = x + tau * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    signal, cross = covariance_of(data.x), cross_of(data.x, data.y)
    whole = signal + tau**2 * torch.eye(len(signal), dtype=torch.float64)
    if cell["where"] == "data":
        layer, norm, measured = fit(noisy, y, gain=gain, seed=cell["seed"])
        sample = ridge(covariance_of(noisy), cross_of(noisy, y), 0.0)
        in_sample = sample * gain / quadratic(covariance_of(noisy), sample[None]).sqrt()
        predicted = ridge(whole, cross, 0.0)
        mu = float(quadratic(whole, predicted[None]).sqrt()) / gain - 1
        predicted = predicted / (1 + mu)
    else:
        layer, norm, measured = fit(x, y, gain=gain, statistics=noisy, seed=cell["seed"])
        _, in_sample = constrained(signal, covariance_of(noisy), cross, gain)
        mu, predicted = constrained(signal, whole, cross, gain)
    known = bn_penalty(layer, noisy, norm=norm, noise=tau**2)
    again = data.x + tau * torch.randn(data.x.shape, generator=generator, dtype=torch.float64)
    noise = estimate_noise(layer, noisy[: len(again)], again)
    estimated = bn_penalty(layer, noisy, norm=norm, noise=noise)
    v = known.weight[0]
    classical = ridge(signal, cross, tau**2, metric="plain")
    return {
        "predicted_mu": mu,
        "measured_mu": measured,
        "gap_to_sample": float((v - in_sample).abs().max() / v.norm()),
        "gap_to_theory": float((quadratic(whole, (v - predicted)[None])).sqrt()) / gain,
        "noise_share": float(known.noise_share),
        "noise_share_predicted": tau**2 * float(predicted.square().sum()) / gain**2,
        "noise_share_estimated": float(estimated.noise_share),
        "noise_share_seen": 1 - float(quadratic(signal, v[None])) / float(known.variance),
        "noise_strength": measured * tau**2,
        "scale_to_classical_ridge": float(v @ signal @ classical / quadratic(signal, classical)),
        "cosine_to_classical_ridge": _cosine(signal, v, classical),
        "accuracy": _accuracy(data, v),
        "accuracy_classical_ridge": _accuracy(data, classical),
        "shrinkage": shrinkage(signal, cross, v, predicted),
    }


def _cosine(covariance: Tensor, one: Tensor, other: Tensor) -> float:
    """Return the correlation of the two units' outputs."""
    both = torch.stack([one, other])
    sizes = quadratic(covariance, both).sqrt()
    return float(one @ covariance @ other / sizes.prod())


def _accuracy(data: Pixels, v: Tensor) -> float:
    """Return the test accuracy; the threshold is half-way between the digits' means."""
    out, label = data.x @ v, data.y.squeeze(1) > 0
    middle = (out[label].mean() + out[~label].mean()) / 2
    return float(((data.test_x @ v > middle) == (data.test_y.squeeze(1) > 0)).double().mean())
