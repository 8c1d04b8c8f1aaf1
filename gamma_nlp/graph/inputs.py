"""The inputs that a model is called with: the user's own, or random ones that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.graph import messages

TOKENS = 8


def arguments(
    model: nn.Module, given: Any, function: str = "categorize"
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments of one forward pass.

    Args:
        model: The model, unwrapped.
        given: A tensor, a tuple of positional or a mapping of keyword arguments; ``None`` is
            enough for models of transformers.
        function: What the user called and will call again.

    Raises:
        GammaError: It is something else, or ``None`` for a model whose inputs are unknown.
    """
    if given is None:
        return (), random_inputs(model, function)
    if isinstance(given, torch.Tensor):
        return (given,), {}
    if isinstance(given, Mapping):
        return (), dict(given)
    if isinstance(given, Sequence) and not isinstance(given, str):
        return tuple(given), {}
    raise GammaError(
        f"inputs is a {type(given).__name__}; expected a tensor, a tuple of positional "
        "arguments or a dict of keyword arguments"
    )


def random_inputs(model: nn.Module, function: str = "categorize") -> dict[str, Any]:
    """Return random inputs for a model of transformers: eight token ids, or an image.

    Raises:
        GammaError: The model is not one of transformers, or reads something else.
    """
    config = getattr(model, "config", None)
    main = getattr(model, "main_input_name", None)
    if config is None or main is None:
        raise GammaError(messages.unknown_inputs(model, function))
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    inputs: dict[str, Any] = {}
    if main == "input_ids":
        inputs["input_ids"] = _token_ids(config, device)
        if getattr(config, "is_encoder_decoder", False) and hasattr(model, "get_decoder"):
            inputs["decoder_input_ids"] = _token_ids(config, device)
    elif main == "pixel_values":
        size = getattr(config, "image_size", 32)
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        shape = (1, getattr(config, "num_channels", 3), height, width)
        inputs["pixel_values"] = torch.rand(shape, generator=_generator()).to(device)
    else:
        raise GammaError(
            f"{type(model).__name__} reads {main!r}, which has no random inputs; pass it: "
            f"{function}(model, inputs={{{main!r}: x}})"
        )
    if hasattr(config, "use_cache"):
        inputs["use_cache"] = False
    return inputs


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _token_ids(config: Any, device: torch.device) -> torch.Tensor:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(text, "vocab_size", None) or getattr(config, "vocab_size", None) or 32
    special = {
        value
        for key, value in text.to_dict().items()
        if key.endswith("token_id") and isinstance(value, int)
    }
    allowed = [i for i in range(min(size, 1000)) if i not in special] or list(range(size))
    picks = torch.randint(len(allowed), (1, TOKENS), generator=_generator())
    ids = torch.tensor(allowed)[picks]
    end = getattr(text, "eos_token_id", None)
    if isinstance(end, int) and 0 <= end < size:
        ids[0, -1] = end  # classifiers on a decoder read the state of the end token
    return ids.to(device)
