"""Treat linear and convolutional layers as one matrix that is applied to rows of their inputs.

A convolution is a linear layer on patches: each place that its kernel visits gives one row. With
groups there are several such matrices side by side, so everything here has a dimension for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp.errors import GammaError

CHUNK = 2**24
"""Most elements in one piece of rows: 128 MiB in float64."""

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def check_layer(layer: nn.Module) -> Layer:
    """Return ``layer``, checked.

    Raises:
        GammaError: It is neither ``nn.Linear`` nor a plain convolution, or its weights are not
            finite.
    """
    if not isinstance(layer, (nn.Linear, *_CONVOLUTIONS)):
        raise GammaError(
            f"layer is a {type(layer).__name__}; expected nn.Linear, nn.Conv1d, nn.Conv2d or "
            "nn.Conv3d"
        )
    if not bool(layer.weight.isfinite().all()):
        raise GammaError("the layer's weight is not finite everywhere")
    return layer


def groups(layer: Layer) -> int:
    """Return how many matrices the layer is: 1, except for grouped convolutions."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def weight_rows(layer: Layer) -> Tensor:
    """Return the layer's weights, [groups, units of a group, inputs of a unit], float64."""
    return layer.weight.detach().double().flatten(1).unflatten(0, (groups(layer), -1))


def input_rows(layer: Layer, inputs: Tensor) -> Tensor:
    """Return what a unit sees at each place, [groups, rows, inputs of a unit], float64.

    ``input_rows(layer, x) @ weight_rows(layer).mT`` is what the layer computes, without its bias.
    """
    x = inputs.detach().double()
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, layer.in_features)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    sizes = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    for place, (kernel, stride, dilation) in enumerate(sizes):
        x = x.unfold(2 + place, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
    around = len(layer.kernel_size)
    x = x.flatten(2, 1 + around).flatten(3)  # [examples, channels, places, kernel]
    x = x.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2, 4)
    return x.reshape(layer.groups, -1, layer.weight[0].numel())


def output_rows(layer: Layer, outputs: Tensor) -> Tensor:
    """Reshape values like the layer's outputs to [groups, rows, units of a group], float64."""
    y = outputs.detach().double()
    if isinstance(layer, nn.Linear):
        return y.reshape(1, -1, layer.out_features)
    y = y.flatten(2).unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2)
    return y.reshape(layer.groups, -1, layer.out_channels // layer.groups)


def pieces(
    layer: Layer, inputs: Tensor, targets: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Check inputs and targets, and yield them in pieces of bounded memory.

    Raises:
        GammaError: A shape does not fit the layer, or a value is not finite.
    """
    _check_inputs(layer, inputs)
    if not len(inputs):
        return
    shape = _output_shape(layer, inputs)
    if targets is not None:
        if not isinstance(targets, Tensor) or targets.is_complex():
            raise GammaError("targets must be tensors of real numbers")
        if targets.shape == shape[:-1] and shape[-1] == 1:
            targets = targets.unsqueeze(-1)
        if targets.shape != shape:
            raise GammaError(
                f"targets are {tuple(targets.shape)}; expected {tuple(shape)}, one value for each "
                "output of the layer"
            )
        if not bool(targets.isfinite().all()):
            raise GammaError("targets are not finite everywhere")
    rows = shape.numel() // _units(layer) // len(inputs)
    size = max(1, CHUNK // max(1, rows * groups(layer) * layer.weight[0].numel()))
    parts = None if targets is None else iter(targets.split(size))
    for part in inputs.split(size):
        yield part, None if parts is None else next(parts)


def _units(layer: Layer) -> int:
    return len(layer.weight)


def _check_inputs(layer: Layer, inputs: Tensor) -> None:
    if not isinstance(inputs, Tensor):
        raise GammaError(f"inputs must be tensors, got {type(inputs).__name__}")
    if inputs.is_complex():
        raise GammaError("inputs must be real numbers, got complex ones")
    if isinstance(layer, nn.Linear):
        expected = f"[..., {layer.in_features}]"
        fits = inputs.dim() > 1 and inputs.shape[-1] == layer.in_features
    else:
        around = len(layer.kernel_size)
        expected = f"[examples, {layer.in_channels}, {around} of space]"
        fits = inputs.dim() == 2 + around and inputs.shape[1] == layer.in_channels
    if not fits:
        raise GammaError(f"inputs are {tuple(inputs.shape)}; the layer takes {expected}")
    if not bool(inputs.isfinite().all()):
        raise GammaError("inputs are not finite everywhere")


def _output_shape(layer: Layer, inputs: Tensor) -> torch.Size:
    if isinstance(layer, nn.Linear):
        return torch.Size((*inputs.shape[:-1], layer.out_features))
    pads = layer._reversed_padding_repeated_twice[::-1]
    space = []
    for place, size in enumerate(inputs.shape[2:]):
        reach = layer.dilation[place] * (layer.kernel_size[place] - 1) + 1
        room = size + pads[2 * place] + pads[2 * place + 1] - reach
        if room < 0:
            raise GammaError(
                f"inputs are {tuple(inputs.shape)}; the layer's kernel needs {reach} in "
                f"dimension {2 + place}"
            )
        space.append(room // layer.stride[place] + 1)
    return torch.Size((len(inputs), layer.out_channels, *space))
