"""Compute the ridge penalty that batch norm amounts to, and split it into signal and noise.

[S] Batch norm can be posed as a constrained optimisation over the other weights; its
regularisation parameter then follows from data statistics, and under noisy input it weighs signal
against noise (Annamalai & Thakur, arXiv:2209.07587).

[R] What follows is our reconstruction; the source's own derivation was not available. A unit w with
inputs of covariance S, then batch norm with gain g, computes v'x + constant with
v = g w / sqrt(w'Sw + eps). Without eps, v'Sv = g**2 whatever w is: a constraint, whose Lagrangian
L(v) + mu / 2 (v'Sv - g**2) holds a ridge penalty in the data's own metric. mu is not a knob.

* Any loss [D]: where training is at rest, dL/dv = -mu Sv, hence mu = -(dL/dg) / g:
  :func:`.multipliers.multipliers` measures it. A free gain ends at mu = 0; one with the penalty
  decay / 2 g**2 in the loss (coupled decay, plain SGD) at mu = decay.
* Squared loss E(y - v'x - b)**2 / 2, one linear unit, nothing after it [R]:
  v = S**-1 c / (1 + mu), 1 + mu = sqrt(c'S**-1 c) / abs(g), with c = Cov(x, y). Another loss has
  no such closed form. With twice this loss (``nn.MSELoss``) the measured mu is twice as large.
* Input noise of covariance N [R]: S = S_signal + N, and the penalty is
  mu / 2 (v'S_signal v + v'Nv). N = t**2 I makes the second part a plain ridge of strength mu t**2.

A mu below 0 means that the gain is larger than the loss asks for: the unit is enlarged, not shrunk.
Where only a ReLU stands between the norm and the next weights a, these can make up for any gain: a
fixed gain then binds only through their decay, mu = decay |a|**2 / g**2 at rest [D].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gamma_nlp.companions.batch_norm.covariance import RTOL, Moments, eigen, quadratic, ridge
from gamma_nlp.companions.batch_norm.input_noise import Noise, noise_covariance
from gamma_nlp.companions.batch_norm.layer_rows import (
    Layer,
    check_layer,
    input_rows,
    output_rows,
    pieces,
    weight_rows,
)
from gamma_nlp.errors import GammaError

Batches = Tensor | Iterable[Tensor]


@dataclass(frozen=True, kw_only=True)
class BatchNormPenalty:
    """The penalty of each unit; float64. d is the number of inputs of a unit.

    Attributes:
        weight: v, [units, d]: the plain linear units that layer and norm amount to.
        mu: The multiplier, [units], in loss per output squared; ``nan`` where it is unknown.
        signal: v'S_signal v, [units], output squared: variance of the output that is signal.
        noise: v'Nv, [units], output squared: variance of the output that is noise.
        covariance: S of the inputs, noise included, [groups, d, d].
        rank: Of S, [groups]; ``None`` without targets.
        ridge: The explicit ridge of the same ``mu`` in the data's metric, [units, d], for squared
            loss; ``None`` without targets. Least squares where ``mu`` is 0.
        samples: Number of rows behind S: examples, times places for a convolution.
    """

    weight: Tensor
    mu: Tensor
    signal: Tensor
    noise: Tensor
    covariance: Tensor = field(repr=False)
    rank: Tensor | None
    ridge: Tensor | None
    samples: int

    @property
    def variance(self) -> Tensor:
        """v'Sv, [units]: signal plus noise; the gain squared, up to eps."""
        return self.signal + self.noise

    @property
    def penalty(self) -> Tensor:
        """mu / 2 v'Sv, [units], in units of the loss."""
        return self.mu / 2 * self.variance

    @property
    def noise_share(self) -> Tensor:
        """The share of the penalty that falls on noise, [units], from 0 to 1."""
        return self.noise / self.variance

    @property
    def plain_strength(self) -> Tensor:
        """The coefficient a, [units], of the plain ridge a / 2 |v|**2 that is as large."""
        return self.mu * self.variance / self.weight.square().sum(-1)

    @property
    def noise_strength(self) -> Tensor:
        """The same for the noise's share alone, [units]; mu t**2 where N = t**2 I."""
        return self.mu * self.noise / self.weight.square().sum(-1)

    @property
    def gap(self) -> Tensor:
        """Largest difference between v and the explicit ridge over the norm of v, [units].

        Raises:
            GammaError: There were no targets to make a ridge from.
        """
        if self.ridge is None:
            raise GammaError("there is no ridge to compare with; call bn_penalty(..., targets=...)")
        away = (self.weight - self.ridge).abs().amax(-1)
        return away / torch.linalg.vector_norm(self.weight, dim=-1)


def bn_penalty(
    layer: nn.Module,
    inputs: Batches,
    *,
    norm: nn.Module | None = None,
    targets: Batches | None = None,
    multiplier: Tensor | None = None,
    noise: Noise = 0.0,
    rtol: float = RTOL,
) -> BatchNormPenalty:
    """Return the penalty that the batch norm after ``layer`` puts on its weights [R].

    Covariances are those of ``inputs``, not the norm's running statistics, and are summed up in
    float64 piece by piece. The layer's bias has no effect.

    Args:
        layer: ``nn.Linear`` (inputs [..., d]) or ``nn.Conv1d`` to ``nn.Conv3d`` (inputs
            [examples, channels, ...]), whose units see patches.
        inputs: Inputs of the layer, noise included; one tensor or batches.
        norm: The batch norm that follows; by default one with gain 1 and eps 0.
        targets: Targets of the units, in the shape of their outputs and batched like ``inputs``.
            They give ``mu`` under squared loss, and the explicit ridge.
        multiplier: mu [units] from :func:`.multipliers.multipliers`; takes precedence over the
            ``mu`` of targets.
        noise: Covariance of the noise that is part of ``inputs``: a variance, variances
            [channels] (independent from place to place), a matrix [d, d] or [groups, d, d], or
            :func:`.input_noise.estimate_noise` of repeated inputs.
        rtol: Directions below this fraction of the largest eigenvalue of S have no variance:
            v has 0 there in the closed forms (pseudo-inverse).

    Returns:
        :class:`BatchNormPenalty`. A unit whose output does not vary, without eps, has v = 0.

    Raises:
        GammaError: The layer or norm is of another type or width; inputs or targets have a wrong
            shape, are too few or not finite; there is more noise than variance; or ``rtol`` is not
            between 0 and 1.

    Example:
        >>> layer, norm = nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1, eps=0)
        >>> _ = nn.init.ones_(layer.weight)
        >>> x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> found = bn_penalty(layer, x, norm=norm, noise=0.5)
        >>> round(float(found.variance), 6), round(float(found.noise_share), 6)
        (1.0, 0.4)
    """
    layer = check_layer(layer)
    if not (isinstance(rtol, (int, float)) and 0 <= rtol < 1):
        raise GammaError(f"rtol must be a number from 0 to 1, got {rtol!r}")
    moments, noisy = _collect(layer, inputs, targets, noise)
    w, size = weight_rows(layer), layer.weight[0].numel()
    gain, eps = _gain_and_eps(layer, norm)
    joint = moments.covariance
    covariance, cross = joint[:, :size, :size], joint[:, :size, size:].mT
    scale = (quadratic(covariance, w) + eps).sqrt()
    v = torch.where(scale > 0, gain.view_as(scale) / scale, 0.0).unsqueeze(-1) * w
    variance, of_noise = quadratic(covariance, v), quadratic(noisy, v)
    if bool((of_noise > variance * (1 + 1e-9)).any()):
        raise GammaError(
            "noise is more than the whole variance of some unit; pass the noisy inputs, and as "
            "noise the covariance of the noise in them"
        )
    mu, rank, explicit = torch.full_like(scale, torch.nan), None, None
    if targets is not None:
        if moments.count <= size + 1:
            raise GammaError(
                f"targets need more than {size + 1} rows of inputs for units of {size} inputs, "
                f"got {moments.count}: any targets would fit"
            )
        best = ridge(covariance, cross, 0.0, rtol=rtol)
        mu = quadratic(covariance, best).sqrt() / variance.sqrt() - 1
        rank = eigen(covariance, rtol)[2].sum(-1)
    mu = mu if multiplier is None else _multiplier(multiplier, mu)
    if targets is not None:
        explicit = ridge(covariance, cross, mu, rtol=rtol).flatten(0, 1)
    return BatchNormPenalty(
        weight=v.flatten(0, 1),
        mu=mu.flatten(),
        signal=(variance - of_noise).flatten(),
        noise=of_noise.flatten(),
        covariance=covariance,
        rank=rank,
        ridge=explicit,
        samples=moments.count,
    )


def _collect(
    layer: Layer, inputs: Batches, targets: Batches | None, noise: Noise
) -> tuple[Moments, Tensor]:
    moments, last = Moments(), None
    for x, y in _pairs(inputs, targets):
        for part, target in pieces(layer, x, y):
            rows = input_rows(layer, part)
            if target is not None:
                rows = torch.cat([rows, output_rows(layer, target)], dim=-1)
            moments.add(rows)
            last = part
    if last is None or moments.count < 2:
        raise GammaError(f"inputs have {moments.count} rows; a covariance needs at least 2")
    return moments, noise_covariance(layer, noise, last)


def _pairs(inputs: Batches, targets: Batches | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    xs = _batches(inputs, "inputs")
    if targets is None:
        yield from ((x, None) for x in xs)
        return
    ys = iter(_batches(targets, "targets"))
    for x in xs:
        y = next(ys, None)
        if y is None:
            raise GammaError(
                "targets end before inputs; pass a batch of targets for each batch of inputs"
            )
        yield x, y
    if next(ys, None) is not None:
        raise GammaError(
            "inputs end before targets; pass a batch of targets for each batch of inputs"
        )


def _batches(value: Batches, what: str) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if not isinstance(value, Iterable):
        raise GammaError(f"{what} must be a tensor or batches of tensors, got {value!r}")
    return value


def _gain_and_eps(layer: Layer, norm: nn.Module | None) -> tuple[Tensor, float]:
    """Return the gains [units] and eps of the norm."""
    units = len(layer.weight)
    ones = torch.ones(units, dtype=torch.float64, device=layer.weight.device)
    if norm is None:
        return ones, 0.0
    if not isinstance(norm, _BatchNorm):
        raise GammaError(f"norm is a {type(norm).__name__}; expected a batch norm of torch.nn")
    if norm.num_features != units:
        raise GammaError(f"norm has {norm.num_features} features, the layer {units} units")
    if not norm.affine:
        return ones, norm.eps
    if not bool(norm.weight.isfinite().all()):
        raise GammaError("the norm's weight is not finite everywhere")
    return norm.weight.detach().double(), norm.eps


def _multiplier(multiplier: Tensor, like: Tensor) -> Tensor:
    if not isinstance(multiplier, Tensor) or multiplier.shape != (like.numel(),):
        raise GammaError(
            f"multiplier must be a tensor [{like.numel()}], one number for each unit of the layer"
        )
    return multiplier.detach().to(like).view_as(like)
