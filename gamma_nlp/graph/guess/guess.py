"""Guess the inputs of a model of transformers from its signature and its config."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import listed
from gamma_nlp.graph.guess import audio, extras, images, series, text, towers
from gamma_nlp.graph.guess.reader import Reader, arguments, tower


def guess(model: nn.Module) -> dict[str, Any]:
    """Return random keyword arguments for one forward pass: small, the same at every call.

    Raises:
        LookupError: Nothing describes an argument that has no default.
        Exception: Whatever a tower raises that a text cannot do without.
    """
    reader = Reader.of(model)
    found = reader.found
    found |= text.text_inputs(reader)
    if reader.takes("past_values"):
        found |= series.series_inputs(reader)
    pictures = _pictures(reader)
    if pictures:
        found |= images.image_inputs(reader, pictures)
    sound = _sound(reader)
    required = arguments(model.forward)[1]
    instead = sound if reader.config.model_type in audio.EMBEDDED else sound & reader.required
    if instead and not reader.pairs and "input_ids" not in required:
        found.pop("input_ids", None)  # sound takes the place of text
    if "input_features" in sound:
        found |= audio.spectrogram_inputs(reader)
    if "input_values" in sound:
        found |= audio.waveform_inputs(reader)
    found |= extras.extra_inputs(reader)
    if "input_ids" in found:
        if pictures:
            films = tower(model, "image") is None and tower(model, "video")
            towers.insert(reader, "video" if films else "image")
        if sound:
            towers.insert(reader, "audio")
    found |= text.decoder_inputs(reader)
    reads_text = not found.keys().isdisjoint(("input_ids", "decoder_input_ids"))
    if reads_text and _caches(reader):
        found["use_cache"] = False
    unknown = sorted(required - found.keys())
    if unknown:
        raise LookupError(f"nothing describes {listed(unknown)}")
    device = reader.device
    return {n: v.to(device) if isinstance(v, torch.Tensor) else v for n, v in found.items()}


def _caches(reader: Reader) -> bool:
    """Return whether a forward pass takes the switch of the cache, itself or for a part of it."""
    if reader.takes("use_cache"):
        return True
    try:
        source = inspect.getsource(reader.model.forward)
    except OSError:  # typed in, or compiled
        source = ""
    if "use_cache=" in source:
        return False  # it sets the switch itself
    kinds = [p.kind for p in inspect.signature(reader.model.forward).parameters.values()]
    passes_on = inspect.Parameter.VAR_KEYWORD in kinds
    inner = getattr(reader.config, "text_config", None)
    return hasattr(reader.config, "use_cache") or (passes_on and hasattr(inner, "use_cache"))


def _pictures(reader: Reader) -> str | None:
    """Return the argument that takes images or videos."""
    if getattr(reader.config, "vision_config", reader) is None:
        return None
    if {"hidden_states", "grid_thw"} <= reader.required:  # a vision tower on its own
        return "hidden_states"
    return reader.first("pixel_values", "pixel_values_videos")


def _sound(reader: Reader) -> set[str]:
    """Return the arguments that take audio."""
    if getattr(reader.config, "audio_config", reader) is None:
        return set()
    taken = {name for name in ("input_features", "input_values") if reader.takes(name)}
    encoder = getattr(getattr(reader.model, "encoder", None), "main_input_name", None)
    if getattr(reader.model, "main_input_name", None) == "inputs" and encoder in taken:
        return {encoder}
    if reader.takes("input_values_cutoffs"):  # audio only to prompt a voice with
        return set()
    return {name for name in taken if reader.needs(name)} or taken
