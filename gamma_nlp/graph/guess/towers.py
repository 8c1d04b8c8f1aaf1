"""Put images, videos and audio into a text: a placeholder token for each vector of a tower."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from gamma_nlp.graph.guess.reader import ANY, Reader, tower

PLACEHOLDERS = {
    "image": ("image_token_id", "image_token_index", "media_placeholder_token_id"),
    "video": ("video_token_id", "video_token_index"),
    "audio": ("audio_token_id", "audio_token_index"),
}


INPUTS = {
    "image": (
        "pixel_values", "image_grid_thw", "image_grid_hw", "image_sizes", "image_merge_sizes",
        "target_sizes", "image_position_ids", "spatial_shapes", "pixel_attention_mask",
    ),
    "video": ("pixel_values", "pixel_values_videos", "video_grid_thw"),
    "audio": (
        "input_features", "input_values", "input_features_mask", "feature_attention_mask",
        "padding_mask",
    ),
}  # fmt: skip


def insert(reader: Reader, kind: str) -> None:
    """Insert the placeholder tokens of a tower after the first token of ``input_ids``.

    Where a model can do without, and its config does not say enough for the tower, or has no values
    (on the meta device), it reads text alone.
    """
    token = reader.get(*PLACEHOLDERS[kind], of=ANY)
    method = tower(reader.model, kind)
    optional = reader.required.isdisjoint(INPUTS[kind])
    if token is None and (method is None or kind == "audio"):
        return  # compares texts with images, or adds sound to text
    if optional and (method is None or token is None or reader.device.type == "meta"):
        return _leave_out(reader, kind)
    if method is None or token is None:
        return
    try:
        count = _count(reader, method)
    except Exception:
        if optional:
            return _leave_out(reader, kind)
        raise
    ids = reader.found["input_ids"]
    places = torch.full((1, count), int(token), dtype=ids.dtype)
    reader.found["input_ids"] = torch.cat([ids[:, :1], places, ids[:, 1:]], dim=1)
    for name in ("mm_token_type_ids", "token_type_ids"):
        if reader.takes(name) and kind == "image":
            reader.found[name] = (reader.found["input_ids"] == token).long()
        elif name in reader.found:
            types = reader.found[name]
            others = torch.zeros((1, count), dtype=types.dtype)
            reader.found[name] = torch.cat([types[:, :1], others, types[:, 1:]], dim=1)


def _leave_out(reader: Reader, kind: str) -> None:
    for name in INPUTS[kind]:
        reader.found.pop(name, None)


def _count(reader: Reader, method: Callable[..., Any]) -> int:
    """Return how many vectors a tower gives for the inputs found so far."""
    wanted = inspect.signature(method).parameters
    given = {name: value for name, value in reader.found.items() if name in wanted}
    with _quiet(reader.model):
        answer = method(**given)
    vectors: Any = getattr(answer, "pooler_output", None)
    if vectors is None:
        vectors = getattr(answer, "last_hidden_state", answer)
    leaves = torch.utils._pytree.tree_leaves(vectors)
    return sum(t.numel() // t.shape[-1] for t in leaves if isinstance(t, torch.Tensor))


@contextlib.contextmanager
def _quiet(model: nn.Module) -> Iterator[None]:
    """Run without dropout, gradients or a trace in the random states."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False  # and not eval(): some models merge weights there
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, training in modes:
            module.training = training
