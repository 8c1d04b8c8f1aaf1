"""A model with its weights, for checks that run it: what :mod:`gamma_nlp.hf.hub` leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.hf import hub

if TYPE_CHECKING:
    from torch import nn


def load_with_weights(name: str, *, trust_remote_code: bool = False) -> nn.Module:
    """Load the model that ``name`` (a folder or a name on the hub) stands for, in eval mode.

    Raises:
        GammaError: The model is not found, cannot be built, or has no weights where it lies.
    """
    config = hub.read_config(name, trust_remote_code=trust_remote_code)
    path = Path(name)
    try:
        model: nn.Module = hub.model_class(config).from_pretrained(
            path.parent if path.is_file() else name, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise GammaError(
            f"the weights of {name!r} do not load ({type(error).__name__}: {reason}). Name a "
            "folder that save_pretrained wrote, or add --random-weights to check the architecture"
        ) from error
    return model.eval()


def with_random_weights(name: str, *, trust_remote_code: bool = False) -> nn.Module:
    """Build the model from its config alone, with random weights that are the same every time.

    Raises:
        GammaError: The model is not found or cannot be built.
    """
    config = hub.read_config(name, trust_remote_code=trust_remote_code)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return hub.build(config, name, trust_remote_code, device="cpu").eval()
