"""Random images and videos, in the layout that a model reads: pictures, frames, or flat patches."""

from __future__ import annotations

from typing import Any

import torch

from gamma_nlp.graph.guess.reader import IMAGE, Reader, ones, pair, random

SIZE = 64
"""Height and width for a model that takes any: every stage of a deep network keeps some pixels."""

FRAMES = 4
SIDE = 4
"""Patches in a row, where a model takes any number."""

# What no config says, by model type: the layout of ``pixel_values``.
PAIRS = ("superglue", "lightglue", "efficientloftr")  # (batch, 2, channels, height, width)
VIDEOS = ("videomae", "timesformer", "vivit", "xclip", "tvp", "instructblipvideo")
SQUARES = ("paddleocr_vl", "kimi_k25", "kimi_k25_vision")  # patches that are not flat
LINE = (48, 320)  # a line of text to recognise
LISTS = ("idefics", "pi0")  # a list of pictures for each text


def image_inputs(reader: Reader, name: str) -> dict[str, Any]:
    """Return one image (or video) as the argument ``name``, and what is read beside it."""
    kind = str(reader.config.model_type)
    channels, height, width = picture = _picture(reader)
    grid = reader.first("image_grid_thw", "grid_thw", "image_grid_hw")
    if grid is not None:
        return _grid(reader, name, grid)
    if reader.takes("spatial_shapes"):
        return {
            name: random(1, SIDE * SIDE, _patch_width(reader)),
            "pixel_attention_mask": ones(1, SIDE * SIDE),
            "spatial_shapes": torch.tensor([[SIDE, SIDE]]),
        }
    positions = reader.first("image_position_ids", "pixel_position_ids")
    if positions is not None:
        side = 2 * reader.number("pooling_kernel_size", of=IMAGE, default=1)
        places = torch.cartesian_prod(torch.arange(side), torch.arange(side)).flip(1)
        return {name: random(1, side * side, _patch_width(reader)), positions: places[None]}
    if reader.takes("target_sizes") and kind.startswith("minicpm"):  # patches side by side
        patch, _ = pair(reader.get("patch_size", of=IMAGE, default=14))
        strip = random(1, channels, patch, patch * SIDE * SIDE)
        return {name: strip, "target_sizes": torch.tensor([[SIDE, SIDE]], dtype=torch.int32)}
    if name.endswith("videos") or kind in VIDEOS:
        frames = reader.number("num_frames", "frames_per_clip", of=IMAGE, default=FRAMES)
        return {name: random(1, frames, *picture)}
    if kind in PAIRS:
        return {name: random(1, 2, *picture)}
    if reader.get("image_grid_pinpoints", of=IMAGE):
        return _tiles(reader, name, picture)
    if reader.takes("input_ids") and (reader.takes("pixel_attention_mask") or kind in LISTS):
        return _list_of_one(reader, name, picture)
    if reader.takes("prompt_pixel_values"):  # two pictures make one of this size
        height //= 2
    found: dict[str, Any] = {name: random(1, channels, height, width)}
    if reader.needs("image_sizes"):
        found["image_sizes"] = torch.tensor([[height, width]])
    return found


def _channels(reader: Reader) -> int:
    return reader.number("num_channels", "in_channels", "in_chans", of=IMAGE, default=3)


def _picture(reader: Reader) -> tuple[int, int, int]:
    """Return channels, height and width of an image."""
    fields = ("image_size", "img_size", "input_size", "crop_size", "max_img_size")
    size = reader.get(*fields, of=IMAGE, default=SIZE)
    ratios = reader.get("scaled_images_ratios")
    if ratios:  # the smallest copy of the image is one patch
        size = round(reader.number("patch_size") / min(ratios))
    if str(reader.config.model_type).endswith("_rec"):
        size = LINE
    return (_channels(reader), *pair(size))


def _patch_width(reader: Reader) -> int:
    """Return the width of one flattened patch, all frames that it spans included."""
    height, width = pair(reader.get("patch_size", of=IMAGE, default=16))
    frames = reader.number("temporal_patch_size", "patch_temporal", of=IMAGE, default=1)
    return _channels(reader) * frames * height * width


def _grid(reader: Reader, name: str, grid: str) -> dict[str, Any]:
    """Return the patches of an image, row by row, and the grid that they form."""
    kind = str(reader.config.model_type)
    fields = ("spatial_merge_size", "merge_size", "merge_kernel_size", "downsample_factor")
    merge, _ = pair(reader.get(*fields, of=IMAGE, default=1))
    patch, _ = pair(reader.get("patch_size", of=IMAGE, default=16))
    side = max(SIDE, 2 * merge)
    shape: tuple[int, ...] = (side * side, _patch_width(reader))
    if kind in SQUARES:
        shape = (side * side, _channels(reader), patch, patch)
    elif kind.startswith("inkling2"):
        side, shape = 2, (4, patch * merge, patch * merge, _channels(reader))
    elif kind == "colqwen2":
        shape = (1, *shape)
    sides = [side, side] if grid.endswith("_hw") else [1, side, side]
    found = {name: random(*shape), grid: torch.tensor([sides])}
    if reader.takes("images_per_sample"):  # the last grid is that of the picture to be drawn
        found |= {grid: torch.tensor([sides, sides]), "images_per_sample": torch.tensor([2])}
    sizes = reader.first("merge_sizes", "image_merge_sizes")
    return found if sizes is None else {**found, sizes: torch.tensor([merge])}


def _tiles(reader: Reader, name: str, picture: tuple[int, int, int]) -> dict[str, Any]:
    """Return a picture in tiles: the whole, and as many as the smallest grid has."""
    points = [pair(point) for point in reader.get("image_grid_pinpoints", of=IMAGE)]
    height, width = min(points, key=lambda point: point[0] * point[1])
    tiles = -(-height // picture[1]) * -(-width // picture[2])
    return {name: random(1, tiles + 1, *picture), "image_sizes": torch.tensor([[height, width]])}


def _list_of_one(reader: Reader, name: str, picture: tuple[int, int, int]) -> dict[str, Any]:
    """Return a list of pictures with one picture in it."""
    found: dict[str, Any] = {name: random(1, 1, *picture)}
    if str(reader.config.model_type).startswith(("granite_docling", "pi0")):
        found["pixel_attention_mask"] = ones(1, 1).bool()
    if reader.takes("image_attention_mask"):
        found["image_attention_mask"] = ones(1, reader.found["input_ids"].shape[1], 1)
    return found
