"""Make the inputs of the small models: random ones, or what ``small_models.yaml`` says.

Most come from :func:`gamma_nlp.graph.inputs.random_inputs`, which every user has. Below ``inputs``,
each argument has the shape of a random tensor, or a mapping that :func:`_tensor` reads; below
``passed_on``, those that forward takes as further keywords. Below
``placeholders``, each config field that holds a token id says how often this token occurs among the
token ids: the model replaces it by a tower's output.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gamma_nlp.check.sweep import small_models
from gamma_nlp.graph.guess.reader import Reader
from gamma_nlp.graph.guess.text import token_ids
from gamma_nlp.graph.inputs import random_inputs
from gamma_nlp.graph.obstacles import refuse_obstacles

ENCODED = 6
"""Number of encoder states for a decoder that runs without its encoder."""


def inputs(model_type: str, model: nn.Module) -> dict[str, Any]:
    """Return the keyword arguments of one forward pass, random but the same at every call."""
    refuse_obstacles(model)
    config: Any = model.config
    options = small_models.options(model_type, type(model).__name__)
    wanted = inspect.signature(model.forward).parameters
    own = {name: value for name, value in options.get("inputs", {}).items() if name in wanted}
    own |= options.get("passed_on", {})
    generator = torch.Generator().manual_seed(0)
    placeholders = options.get("placeholders", {})
    if "inputs_embeds" in own or "inputs" in own:
        found = {}
    elif placeholders and set(own) & _TOWERS:
        found = {"input_ids": token_ids(Reader.of(model))}
        _insert(found, config, placeholders)
    else:
        found = random_inputs(model)
    for name, value in own.items():
        found[name] = _tensor(value, generator)
    if "encoder_hidden_states" in wanted and _reads_an_encoder(model):
        width = getattr(config, "cross_attention_hidden_size", None) or config.hidden_size
        shape = [1, ENCODED, width]
        found.setdefault("encoder_hidden_states", torch.randn(shape, generator=generator))
    return found


_TOWERS = {
    *("pixel_values", "image_pixel_values", "image_patches"),
    *("input_features", "input_values", "audio_input_ids"),
}


def _insert(found: dict[str, Any], config: Any, placeholders: Mapping[str, Any]) -> None:
    """Insert placeholder tokens after the first token."""
    for field, count in placeholders.items():
        token = getattr(config, field)
        if isinstance(count, Mapping):
            _insert(found, token, count)
            continue
        ids = found["input_ids"]
        places = torch.full((ids.shape[0], count), token, dtype=ids.dtype)
        found["input_ids"] = torch.cat([ids[:, :1], places, ids[:, 1:]], dim=1)


def _reads_an_encoder(model: nn.Module) -> bool:
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return bool(names & {"encoder_attn", "crossattention", "cross_attn"})


def _tensor(value: Any, generator: torch.Generator) -> Any:
    """Make a tensor, or a tuple or mapping of tensors, from its description.

    ====================================  =====================================
    ``[2, 8]``                            random floats of this shape
    ``{value: [[0, 1]]}``                 these values
    ``{fill: 1, shape: [2, 8]}``          one value everywhere
    ``{ids: 100, shape: [2, 8]}``         random integers below 100
    ``{..., bool: true}``                 the same as booleans
    ``{tuple: [...]}``, other mappings    nested descriptions
    ====================================  =====================================
    """
    if isinstance(value, list):
        return torch.randn(value, generator=generator)
    if not isinstance(value, Mapping):
        return value
    if "tuple" in value:
        return tuple(_tensor(item, generator) for item in value["tuple"])
    if "value" in value:
        tensor = torch.tensor(value["value"])
    elif "fill" in value:
        tensor = torch.full(value["shape"], value["fill"])
    elif "ids" in value:
        tensor = torch.randint(value["ids"], value["shape"], generator=generator)
    else:
        return {name: _tensor(item, generator) for name, item in value.items()}
    return tensor.bool() if value.get("bool") else tensor
