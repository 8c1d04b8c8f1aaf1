"""Build a small model of any type that transformers knows, from its config class alone.

Fields that are sizes are cut down to the values in ``small_models.yaml``, nested configs included.
Lists with an entry per layer are cut to the shortest one that shows every kind of layer, and
special tokens move into the small vocabulary. What a type needs beyond that has an entry of its own
in the file.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Collection, Container, Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError, close_to

MAPPINGS = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM", "SEQUENCE_CLASSIFICATION")
OTHERS = (
    *(
        f"MODEL_FOR_{task}_MAPPING_NAMES"
        for task in (
            "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "SPEECH_SEQ_2_SEQ", "CTC", "RNNT", "TDT",
            "OBJECT_DETECTION", "ZERO_SHOT_OBJECT_DETECTION", "UNIVERSAL_SEGMENTATION",
            "SEMANTIC_SEGMENTATION", "DEPTH_ESTIMATION", "IMAGE_CLASSIFICATION",
            "VIDEO_CLASSIFICATION", "AUDIO_CLASSIFICATION", "VISUAL_QUESTION_ANSWERING",
            "ZERO_SHOT_IMAGE_CLASSIFICATION", "IMAGE_TO_IMAGE", "IMAGE_MATTING", "POSE_ESTIMATION",
            "TIME_SERIES_PREDICTION", "TIME_SERIES_CLASSIFICATION",
        )
    ),
    "MODEL_MAPPING_NAMES",
    *(
        f"MODEL_FOR_{task}_MAPPING_NAMES"
        for task in (
            "KEYPOINT_MATCHING", "KEYPOINT_DETECTION", "TEXT_TO_WAVEFORM", "TEXT_RECOGNITION",
            "TABLE_RECOGNITION", "INSTANCE_SEGMENTATION", "DECISION", "RETRIEVAL", "BACKBONE",
            "PRETRAINING",
        )
    ),
)  # fmt: skip
"""Where to look up the class of a type without text: a head first, which holds its base."""

VOCABULARY = 128
STAGE = 2
"""Blocks in a stage of a hierarchical model."""


def text_types() -> dict[str, list[str]]:
    """Return the text model types of transformers, each with its classes in the mappings."""
    from transformers.models.auto import modeling_auto

    found: dict[str, list[str]] = {}
    for mapping in MAPPINGS:
        names = getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES")
        for model_type, entry in names.items():
            classes = found.setdefault(model_type, [])
            for name in (entry,) if isinstance(entry, str) else entry:
                if name not in classes:
                    classes.append(name)
    return dict(sorted(found.items()))


def other_types() -> dict[str, list[str]]:
    """Return the types without text, or with more than text, each with the class to build."""
    from transformers.models.auto import modeling_auto

    text = text_types()
    found: dict[str, list[str]] = {}
    for mapping in OTHERS:
        for model_type, entry in getattr(modeling_auto, mapping).items():
            if model_type not in text:
                name = entry if isinstance(entry, str) else entry[0]
                found.setdefault(model_type, [name])
    return dict(sorted(found.items()))


def types_of(kind: str) -> dict[str, list[str]]:
    """Return the model types of one of :data:`gamma_nlp.check.sweep.KINDS`, with their classes."""
    text = text_types() if kind != "other" else {}
    other = other_types() if kind != "text" else {}
    return dict(sorted((text | other).items()))


def classes(types: Iterable[str] | None = None, kind: str = "all") -> list[tuple[str, str]]:
    """Return type and class of every model of these types, by default of all of a kind.

    Raises:
        GammaError: transformers does not list a type.
    """
    known = types_of(kind)
    chosen = list(dict.fromkeys(known if types is None else types))
    for model_type in chosen:
        if model_type not in known:
            what = "" if kind == "all" else f" of the kind {kind!r}"
            raise GammaError(
                f"{model_type!r} is not a model type{what} of this transformers"
                f"{close_to(model_type, known) or '.'} To list them in Python: from "
                f"gamma_nlp.check.sweep.small_models import types_of; print(*types_of({kind!r}))"
            )
    return [(model_type, name) for model_type in chosen for name in known[model_type]]


def build(model_type: str, class_name: str) -> nn.Module:
    """Return a small model in eval mode, with the same random weights at every call.

    Raises:
        Exception: Whatever transformers raises if a type cannot be built.
    """
    cls = _class(model_type, class_name)
    config = small_config(model_type, class_name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cls(config)
        randomise(model)
    return model.eval()


def _class(model_type: str, class_name: str) -> Any:
    """Return a class of transformers; some are listed, but not exported."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if hasattr(transformers, class_name):
        return getattr(transformers, class_name)
    module = CONFIG_MAPPING[model_type].__module__.replace(".configuration_", ".modeling_")
    return getattr(importlib.import_module(module), class_name)


def randomise(model: nn.Module) -> None:
    """Put noise on every constant parameter, so that every path carries a signal.

    Tables that are saved as buffers count too: a codebook of zeros stands for one not yet trained.
    """
    saved = model.state_dict()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            table = name in saved and buffer.is_floating_point() and buffer.dim() == 2
            if table and not bool(buffer.any()):
                buffer.copy_(torch.randn_like(buffer))
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.numel() > 0:
                first = parameter.flatten()[0]
                if bool((parameter == first).all()) or not bool(torch.isfinite(parameter).all()):
                    parameter.nan_to_num_(0.0).add_(torch.randn_like(parameter) * 0.1)


def small_config(model_type: str, class_name: str) -> Any:
    """Return the small config that a class of this type takes."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    cls = CONFIG_MAPPING[model_type]
    overrides = options(model_type, class_name)
    for key in ("inputs", "passed_on", "placeholders"):
        overrides.pop(key, None)
    wanted = getattr(_class(model_type, class_name), "config_class", None)
    for name, sub in getattr(cls, "sub_configs", {}).items():
        if sub is wanted:  # the mapping names the text model inside a larger one
            cls, overrides = sub, overrides.get(name, {})
    return cls(**_fields(cls, _TokenIds(), overrides))


def options(model_type: str, class_name: str = "") -> dict[str, Any]:
    """Return what ``small_models.yaml`` says about a type, and about one class of it."""
    known = _file()
    own = {**known.get(model_type, {}), **known.get(f"{model_type} {class_name}", {})}
    return copy.deepcopy(own)  # configs keep what they are given


class _TokenIds:
    """Moves token ids into the small vocabulary; equal ids stay equal."""

    def __init__(self) -> None:
        self.moved: dict[int, int] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self(item) for item in value]
        if not isinstance(value, int) or isinstance(value, bool) or value < VOCABULARY:
            return value
        return self.moved.setdefault(value, VOCABULARY - 1 - len(self.moved))


def _fields(
    cls: Any, token_ids: _TokenIds, overrides: Mapping[str, Any], outer: Any = None
) -> dict[str, Any]:
    """Return the arguments that make a small config of class ``cls``.

    Args:
        cls: The class.
        token_ids: Moves the special tokens.
        overrides: What ``small_models.yaml`` says, which wins.
        outer: The config of this class that an outer config has by default, if there is one.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        plain = cls()
    except Exception:  # some types have no valid defaults
        plain = cls(**overrides)
    defaults = plain if outer is None else outer
    nested = getattr(cls, "sub_configs", {})
    fields = _differences(defaults, plain, nested)
    fields |= _small_values(defaults, nested, token_ids)
    _cut_layers(defaults, fields)
    _cut_stages(defaults, fields)
    for name, sub in nested.items():
        inner = overrides.get(name, {})
        found = getattr(defaults, name, None)
        if found is None and not inner:
            continue
        if "model_type" in inner:
            sub = CONFIG_MAPPING[inner["model_type"]]
        elif found is not None and not isinstance(found, dict):
            sub = type(found)
        given = found if isinstance(found, sub) else None
        small = _fields(sub, token_ids, inner, given)
        fields[name] = {**small, "model_type": sub.model_type}
    own = {name: value for name, value in overrides.items() if name not in nested}
    return {**fields, **own}


def _differences(config: Any, plain: Any, nested: Collection[str]) -> dict[str, Any]:
    """Return the fields that an outer config sets otherwise than their class does by default."""
    usual = plain.to_dict()
    skip = {*nested, "model_type", "id2label", "label2id", "stage_names"}
    return {
        name: value
        for name, value in config.to_dict().items()
        if name not in skip and name in usual and value != usual[name]
    }


def _small_values(defaults: Any, nested: Container[str], token_ids: _TokenIds) -> dict[str, Any]:
    """Return the sizes and token ids that must differ from a config's defaults."""
    sizes = _file()["sizes"]
    fields: dict[str, Any] = {}
    for name, value in defaults.to_dict().items():
        if name in nested or name in ("model_type", "id2label", "label2id"):
            continue
        if name in sizes and isinstance(value, int) and not isinstance(value, bool):
            if value > sizes[name]:
                fields[name] = sizes[name]
            if name == "num_key_value_heads" and value == _heads(defaults):
                # No grouped queries: as many as query heads, whatever their number is.
                fields.pop(name, None)
                if value > sizes["num_attention_heads"]:
                    fields[name] = sizes["num_attention_heads"]
        elif name.endswith(("token_id", "token_index")):
            moved = token_ids(value)
            if moved != value:
                fields[name] = moved
        elif isinstance(value, dict) and "mrope_section" in value:
            fields[name] = _cut_sections(value, sizes["head_dim"])
        elif name == "deepstack_visual_indexes" and isinstance(value, list):
            fields[name] = list(range(min(len(value), sizes["depth"])))
        elif name == "depths" and isinstance(value, list):
            fields[name] = [min(depth, STAGE) for depth in value]
    return fields


def _cut_sections(rope: Mapping[str, Any], width: int) -> dict[str, Any]:
    """Share half of a head's rotary width out among time, height and width."""
    half = int(width * rope.get("partial_rotary_factor", 1)) // 2
    third = half // 3
    return {**rope, "mrope_section": [half - 2 * third, third, third]}


def _heads(config: Any) -> Any:
    return config.to_dict().get("num_attention_heads")


def _cut_layers(defaults: Any, fields: dict[str, Any]) -> None:
    """Cut lists with an entry per layer to the fewest layers that show every kind.

    ``[a, a, a, b, a, a, a, b]`` with three layers becomes ``[a, a, b]``: the first of each kind,
    then the earliest others. A column of several lists is one kind.
    """
    name = next((n for n in ("num_hidden_layers", *_DEPTHS) if n in fields), None)
    depth = getattr(defaults, name, None) if name else None
    if name is None or not isinstance(depth, int):
        return
    if len(fields.get("depths", ())) == depth:  # stages, whose widths and heads are lists
        del fields[name]
        return
    lists = {
        key: value
        for key, value in defaults.to_dict().items()
        if isinstance(value, list) and len(value) == depth
    }
    # Lists of layer numbers, not of kinds: keep the numbers of the layers that stay.
    indices = [
        k for k, v in lists.items() if all(isinstance(i, int) for i in v) and v == sorted(set(v))
    ]
    for key in indices:
        fields[key] = [i for i in lists.pop(key) if i < fields[name]]
    columns = list(zip(*lists.values(), strict=True)) if lists else []
    first: dict[str, int] = {}
    for index, column in enumerate(columns):
        first.setdefault(repr(column), index)
    chosen = sorted(first.values())
    small = fields[name]
    chosen += [i for i in range(depth) if i not in chosen][: max(0, small - len(chosen))]
    fields[name] = max(small, len(chosen)) if lists else small
    for key, value in lists.items():
        fields[key] = [value[i] for i in sorted(chosen)]


def _cut_stages(defaults: Any, fields: dict[str, Any]) -> None:
    """Take what a backbone hands on from the last layers that are left."""
    stages = getattr(defaults, "out_indices", None)
    if "num_hidden_layers" not in fields or not stages or "depths" in fields:
        return
    count = len(stages)
    depth = fields["num_hidden_layers"] = max(fields["num_hidden_layers"], count)
    fields["out_indices"] = list(range(depth - count + 1, depth + 1))
    fields["out_features"] = [f"stage{index}" for index in fields["out_indices"]]


_DEPTHS = ("num_layers", "n_layer", "n_layers", "depth", "num_blocks", "decoder_layers")


@cache
def _file() -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for name in ("small_models.yaml", "small_others.yaml"):
        text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
        found |= yaml.safe_load(text)
    return found
