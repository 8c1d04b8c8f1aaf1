"""The inputs that a model is called with: the user's own, or random ones that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.graph import input_messages
from gamma_nlp.graph.guess.guess import guess
from gamma_nlp.wrappers import library_model


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
    """Return random inputs for a model of transformers: text, images, audio, series, or several.

    Args:
        model: The model, unwrapped.
        function: What the user called and will call again.

    Raises:
        GammaError: The model is not one of transformers, has no forward pass, or reads what its
            config does not describe.
    """
    if getattr(model, "config", None) is None or not hasattr(model, "main_input_name"):
        raise GammaError(input_messages.unknown_inputs(model, function))
    try:
        found = guess(library_model(model))
    except Exception as error:  # a config that its model contradicts, or a tower that fails
        raise GammaError(input_messages.unguessed(model, error, function)) from error
    if not found:
        raise GammaError(input_messages.unknown_inputs(model, function))
    return found
