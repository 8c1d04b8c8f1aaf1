"""Random audio: a waveform, or frames of a spectrogram."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from gamma_nlp.graph.guess.reader import AUDIO, Reader, ones, random

FRAMES = 64
"""Frames of a spectrogram, and what the strides of an encoder leave of a waveform."""
HOP = 320
"""Samples in a frame, where no config says it."""

_BINS = (
    "num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "input_feat_size",
    "num_mel_channels", "input_dim", "mel_bins", "n_mels", "feature_size",
)  # fmt: skip
_STRIDES = ("conv_stride", "downsampling_ratios", "upsampling_ratios")
_MASKS = ("input_features_mask", "feature_attention_mask")

# What no config says, by model type.
FLAT = ("moonshine", "muse_spark")  # waveforms of (batch, samples), without a channel
BINS = {"gemma4_audio": 128}
UNMASKED = {"granite_speech", "granite_speech_plus"}  # their mask is of the projector's vectors
EMBEDDED = {"pop2piano"}  # frames as wide as the model, in place of token ids
STACKED, STACKED_IN = 4, {"granite_speech5_encoder"}  # frames beside each other


def waveform_inputs(reader: Reader, name: str = "input_values") -> dict[str, Any]:
    """Return samples of a waveform, or the frames that some models read under this name."""
    bins, length = reader.number("num_mel_bins", of=AUDIO), reader.number("max_length", of=AUDIO)
    strides = reader.get(*_STRIDES, of=AUDIO) or reader.get("patch_sizes", of=AUDIO)
    if bins and length and not strides:  # a picture of a spectrogram
        return {name: random(1, length, bins)}
    samples = FRAMES * math.prod(int(stride) for stride in strides or (HOP,))
    kind = str(reader.config.model_type)
    flat = reader.get("conv_stride", of=("", "encoder")) or kind.startswith(FLAT)
    found = {name: random(1, samples) if flat else random(1, 1, samples)}
    if reader.needs("padding_mask"):
        found["padding_mask"] = ones(1, samples).bool()
    return found


def spectrogram_inputs(reader: Reader) -> dict[str, Any]:
    """Return frames of a spectrogram, with the bins before or after them as the model reads it."""
    known = next((BINS[kind] for kind in reader.kinds if kind in BINS), 80)
    stacked = STACKED if STACKED_IN & set(reader.kinds) else 1
    bins = reader.number(*_BINS, of=AUDIO, default=known)
    if EMBEDDED & set(reader.kinds):
        bins = reader.number("d_model")
    bins *= reader.number("num_stacked_frames", of=AUDIO, default=stacked)
    frames = FRAMES
    picture = reader.number("spec_size", of=AUDIO)
    if picture:
        return {"input_features": random(1, 1, picture * (picture // bins), bins)}
    window = reader.number("n_window", of=AUDIO)
    positions = reader.number("max_source_positions", of=AUDIO)
    if window:
        frames = 2 * window
    elif positions:
        frames = 2 * positions
    if window or reader.takes("feature_attention_mask") or _bins_first(reader, bins):
        shape = (1, bins, frames)
    else:
        frames = FRAMES
        shape = (1, frames, bins)
    masks = [name for name in _MASKS if reader.takes(name) and not UNMASKED & set(reader.kinds)]
    return {
        "input_features": random(*shape),
        **{mask: _mask(mask, frames) for mask in masks},
    }


def _mask(name: str, frames: int) -> torch.Tensor:
    return ones(1, frames).bool() if name == "input_features_mask" else ones(1, frames)


def _bins_first(reader: Reader, bins: int) -> bool:
    """Whether a model begins with a convolution over time, whose channels are the bins."""
    if reader.get("input_feat_per_channel", of=AUDIO):
        return False  # turns the frames itself
    convolutions = {
        name: module
        for name, module in reader.model.named_modules()
        if isinstance(module, (nn.Conv1d, nn.Conv2d))
    }
    own = [m for name, m in convolutions.items() if any(word in name for word in AUDIO[:3])]
    first = next(iter(own or convolutions.values()), None)
    return isinstance(first, nn.Conv1d) and first.in_channels == bins
