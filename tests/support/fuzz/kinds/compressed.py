"""Weights that are stored without their zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError
from tests.support.fuzz.kind import Kind, made


def small() -> nn.Module:
    """A model of which some tensors are stored without their zeros."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 40)).bfloat16().append(nn.BatchNorm1d(5))


def _compressed(folder: Path) -> None:
    from gamma_nlp.companions.strong.compressed import load_compressed

    model = small()
    before = [value.clone() for value in model.state_dict().values()]
    try:
        load_compressed(folder / "model.safetensors", model)
    except GammaError:
        after = model.state_dict().values()
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        raise


def _compressed_files() -> tuple[dict[str, bytes], ...]:
    from gamma_nlp.companions.strong.compressed import save_compressed

    model: Any = small()
    with torch.no_grad():
        model[0].weight[:, 1:] = 0
        model[1].weight[torch.rand(40, 9) < 0.7] = 0
    return (made(lambda folder: save_compressed(model, folder / "model.safetensors")),)


COMPRESSED = Kind(good=_compressed_files, read=_compressed, share=4)
