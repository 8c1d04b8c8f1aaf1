"""Arguments that few models have: boxes, points, prompts, states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from gamma_nlp.graph.guess.audio import waveform_inputs
from gamma_nlp.graph.guess.reader import ANY, AUDIO, IMAGE, Reader, ones, random
from gamma_nlp.graph.guess.text import TOKENS, token_ids

STEPS = 4


def extra_inputs(reader: Reader) -> dict[str, Any]:
    """Return what a model needs besides text, images, audio and series."""
    wanted = [n for n in MAKERS if reader.needs(n) or (n in OFTEN and reader.takes(n))]
    if "query_embeds" in wanted:  # queries read an encoder
        wanted.append("encoder_hidden_states")
    if "context_hidden_states" in wanted:  # as long as both together
        wanted.append("attention_mask")
    return {name: MAKERS[name](reader) for name in wanted if name not in reader.found}


def _box(reader: Reader) -> torch.Tensor:
    return torch.tensor([0, 0, 1, 1]).expand(1, reader.found["input_ids"].shape[1], 4)


def _width(reader: Reader, *names: str) -> int:
    return reader.number(*names, "hidden_size", "d_model", of=ANY)


def _flat_patches(reader: Reader) -> torch.Tensor:
    width = reader.number("patch_embed_hidden_size", of=IMAGE)
    side = reader.number("patch_size", of=IMAGE, default=16)
    places = torch.cartesian_prod(torch.arange(1, 4), torch.arange(1, 4)).float()
    channels = max(1, width // side**2) if width % side**2 == 0 else 3
    return torch.cat([places, random(9, channels * side**2)], dim=1)[None]


def _states(reader: Reader) -> torch.Tensor:
    return random(1, STEPS, reader.number("state_dim"))


def _image_places(reader: Reader) -> torch.Tensor:
    """Return where the latent queries of an image go, and make room for them."""
    count = reader.number("latent_query_num")
    reader.found["input_ids"] = token_ids(reader, length=TOKENS + count)
    places = torch.arange(TOKENS + count)[None]
    return (places > 0) & (places <= count)


def _hidden(reader: Reader) -> torch.Tensor:
    """Return what a part of a codec reads: a waveform, or the states made of one."""
    if str(reader.config.model_type).endswith("tokenizer_encoder"):
        return next(iter(waveform_inputs(reader).values()))
    return random(1, _width(reader), TOKENS)


MAKERS: Mapping[str, Callable[[Reader], Any]] = {
    "bbox": _box,
    "query_embeds": lambda r: random(1, STEPS, _width(r)),
    "encoder_hidden_states": lambda r: random(1, STEPS, _width(r, "encoder_hidden_size")),
    "inputs_embeds": lambda r: random(1, TOKENS, _width(r)),
    "qformer_input_ids": lambda r: token_ids(r, "qformer"),
    "visual_feats": lambda r: random(1, STEPS, r.number("visual_feat_dim")),
    "visual_pos": lambda r: random(1, STEPS, r.number("visual_pos_dim")),
    "visual_embeds": lambda r: random(1, STEPS, r.number("visual_embedding_dim")),
    "states": _states,
    "actions": lambda r: random(
        1, r.number("chunk_size", default=STEPS), r.number("act_dim", "max_action_dim")
    ),
    "rewards": lambda r: random(1, STEPS, 1),
    "returns_to_go": lambda r: random(1, STEPS, 1),
    "timesteps": lambda r: torch.arange(STEPS)[None],
    "state": lambda r: random(1, r.number("max_state_dim")),
    "action_embeds": lambda r: random(1, STEPS, r.number("hidden_size", of=("dit", ""))),
    "prompt_pixel_values": lambda r: r.found["pixel_values"].flip(-1),
    "prompt_masks": lambda r: r.found["pixel_values"].flip(-2),
    "high_res_pixel_values": lambda r: random(
        1, 3, *[r.number("image_size", of=("high_res",), default=1024)] * 2
    ),
    "task_inputs": lambda r: token_ids(r, length=r.number("task_seq_len", default=TOKENS)),
    "flattened_patches": _flat_patches,
    "hidden_states": _hidden,
    "image_embeds_position_mask": _image_places,
    "latents": lambda r: random(1, _width(r), TOKENS),
    "input_points": lambda r: torch.full((1, 1, 1, 2), 5.0),
    "input_labels": lambda r: ones(1, 1, 1),
    "decoder_input_values": lambda r: random(1, TOKENS, r.number("num_mel_bins", default=80)),
    "speaker_embeddings": lambda r: random(1, r.number("speaker_embedding_dim", default=512)),
    "audio_mel": lambda r: random(1, 64, r.number("input_feat_size", of=AUDIO)),
    "audio_mel_mask": lambda r: torch.zeros(1, 64, dtype=torch.bool),
    "noise_embeds": lambda r: random(1, r.number("block_size", default=STEPS), _width(r)),
    "context_hidden_states": lambda r: random(
        1, STEPS, _width(r) * len(r.get("target_layer_ids", default=[0]))
    ),
    "attention_mask": lambda r: ones(1, STEPS + r.number("block_size", default=STEPS)),
    "marks": lambda r: torch.full((1, 1), TOKENS // 2),
    "num_options": lambda r: torch.full((1, 1), 2),
    "question_type_ids": lambda r: torch.zeros(1, 1, dtype=torch.long),
    "bool_masked_pos": lambda r: torch.arange(_positions(r))[None] % 2 == 0,
}
"""How to make each argument."""

OFTEN = {
    "bbox", "visual_feats", "visual_pos", "visual_embeds", "states", "actions", "rewards",
    "returns_to_go", "timesteps", "flattened_patches", "input_points", "input_labels",
    "decoder_input_values", "image_embeds_position_mask",
}  # fmt: skip
"""Those that have a default and yet are read."""


def _positions(reader: Reader) -> int:
    frames, _, height, width = reader.found["pixel_values"].shape[1:]
    side = reader.number("patch_size", of=IMAGE, default=16)
    tubes = frames // reader.number("tubelet_size", default=1)
    return int(tubes * (height // side) * (width // side))
