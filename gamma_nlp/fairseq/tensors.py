"""Names for the bare tensors that fairseq hands to an optimizer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from gamma_nlp.errors import GammaError, listed

UNFLATTEN = "with --fp16 add --fp16-no-flatten-grads, or use --memory-efficient-fp16 or --amp"


def match(
    params: list[torch.Tensor], own: Mapping[str, nn.Parameter]
) -> tuple[dict[str, nn.Parameter], bool]:
    """Name the tensors that fairseq hands to an optimizer.

    It hands over one of three things: the model's own parameters; float32 copies of them in the
    same order (``--fp16-no-flatten-grads``); or one flat float32 tensor that holds them all
    (``--fp16``), which is split into one view per parameter.

    Returns:
        The tensor to optimise for each name, and whether they are views of a flat one.

    Raises:
        GammaError: fairseq handed over something else.
    """
    if [id(p) for p in params] == [id(p) for p in own.values()]:
        return dict(own), False
    if [p.shape for p in params] == [p.shape for p in own.values()]:
        return dict(zip(own, params, strict=True)), False  # type: ignore[arg-type]
    if len(params) == 1 and params[0].dim() == 1:
        return _views(params[0], own), True
    raise GammaError(
        f"fairseq handed over {len(params)} tensors for the {len(own)} trained parameters "
        f"({listed(own)}), so decay cannot follow their names; {UNFLATTEN}"
    )


def _views(flat: torch.Tensor, own: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    total = sum(p.numel() for p in own.values())
    if flat.numel() != total or flat.grad is None or not flat.is_contiguous():
        raise GammaError(
            f"the flat tensor of --fp16 cannot be split into parameters: it has {flat.numel()} "
            f"elements for the model's {total}, or no gradient of its own; {UNFLATTEN}"
        )
    views, start = {}, 0
    for name, parameter in own.items():
        end = start + parameter.numel()
        view = nn.Parameter(flat.detach()[start:end].view(parameter.shape))
        view.grad = flat.grad[start:end].view(parameter.shape)
        views[name], start = view, end
    return views
