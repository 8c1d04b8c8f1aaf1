"""What to call the small models with: token ids, and pictures or sound for their towers."""

from __future__ import annotations

from typing import Any

from torch import nn

from gamma_nlp import trace


def inputs(model_type: str, model: nn.Module) -> dict[str, Any]:
    """Keyword arguments of one forward pass."""
    return trace.example_inputs(model)
