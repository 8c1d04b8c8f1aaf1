"""Get the covariance of the noise in a layer's inputs: from variances, a matrix, or repeats."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gamma_nlp.companions.arguments import is_number
from gamma_nlp.companions.batch_norm.covariance import Moments
from gamma_nlp.companions.batch_norm.layer_rows import (
    Layer,
    check_layer,
    groups,
    input_rows,
    pieces,
)
from gamma_nlp.errors import GammaError

Noise = float | Tensor


def estimate_noise(
    layer: nn.Module, first: Tensor | Iterable[Tensor], second: Tensor | Iterable[Tensor]
) -> Tensor:
    """Return the covariance of the noise from inputs that were observed twice.

    It is half the covariance of the differences [D], provided that the noise of the two is
    independent, of mean 0 and of the same size.

    Args:
        layer: The layer that takes the inputs; a convolution sees patches of them.
        first: Inputs of the layer, one tensor or batches.
        second: The same inputs with other noise, in the same shapes.

    Returns:
        [groups, d, d] in float64, as :func:`.penalty.bn_penalty` takes it.

    Raises:
        GammaError: Shapes or numbers of batches differ, or the inputs do not fit the layer.
    """
    layer = check_layer(layer)
    ones = [first] if isinstance(first, Tensor) else first
    others = iter([second] if isinstance(second, Tensor) else second)
    moments = Moments()
    for one in ones:
        other = next(others, None)
        if other is None or other.shape != one.shape:
            raise GammaError(
                "second must repeat first, batch by batch; it "
                + ("ends" if other is None else f"has {tuple(other.shape)}")
                + f" where first has {tuple(one.shape)}"
            )
        for part, _ in pieces(layer, one.double() - other.double()):
            moments.add(input_rows(layer, part))
    if next(others, None) is not None:
        raise GammaError("second must repeat first, batch by batch; it has more batches")
    if moments.count < 2:
        raise GammaError(f"first has {moments.count} rows; a covariance needs at least 2")
    return moments.covariance / 2


def noise_covariance(layer: Layer, noise: Noise, inputs: Tensor) -> Tensor:
    """Return the noise's covariance in the rows that the layer's units see, [groups, d, d].

    Args:
        layer: Linear or convolutional.
        noise: One variance, variances [channels], or matrices [d, d] or [groups, d, d].
        inputs: Some of the layer's inputs, for their size: the padding's zeros have no noise.

    Raises:
        GammaError: The noise has another shape, or is negative, not finite or not symmetric.
    """
    count, size = groups(layer), layer.weight[0].numel()
    if not (is_number(noise) or isinstance(noise, Tensor)):
        raise GammaError(f"noise must be a number or a tensor, got {noise!r}")
    values = torch.as_tensor(noise, dtype=torch.float64, device=inputs.device).detach()
    channels = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    if not bool(values.isfinite().all()):
        raise GammaError("noise is not finite everywhere")
    if values.shape in ((size, size), (count, size, size)):
        if not torch.allclose(values, values.mT, rtol=1e-6, atol=0.0):
            raise GammaError("noise is a matrix that is not symmetric; expected a covariance")
        if bool((values.diagonal(dim1=-2, dim2=-1) < 0).any()):
            raise GammaError("noise has negative variances")
        return values.expand(count, size, size)
    if values.shape not in ((), (channels,)):
        raise GammaError(
            f"noise is {tuple(values.shape)}; expected a number, [{channels}] variances or a "
            f"covariance [{size}, {size}]"
        )
    if bool((values < 0).any()):
        raise GammaError("noise has negative variances")
    if not isinstance(layer, nn.Linear) and layer.padding_mode != "zeros" and bool(values.any()):
        raise GammaError(
            f"with padding_mode {layer.padding_mode!r} noise comes twice in a patch; pass "
            "noise=estimate_noise(layer, inputs, the_same_with_other_noise)"
        )
    # The share of places at which an input lies on the image and not on the padding around it.
    share = torch.ones_like(inputs[:1], dtype=torch.float64)
    along = -1 if isinstance(layer, nn.Linear) else 1
    variance = (share.movedim(along, -1) * values).movedim(-1, along)
    return torch.diag_embed(input_rows(layer, variance).mean(1))
