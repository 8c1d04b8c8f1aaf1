"""Build a small model of any type that transformers knows, from its config alone.

The config class says which fields there are. Those that are sizes are cut down to the values in
``small_models.ini``, nested configs included; layer patterns are cut to the shortest piece that
shows every kind of layer; special tokens move into the small vocabulary. What a type needs beyond
that stands in a section of its own there.
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError

MAPPINGS = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM", "SEQUENCE_CLASSIFICATION")
VOCABULARY = 128


def text_types() -> dict[str, list[str]]:
    """The text model types of transformers, each with the classes that its mappings name."""
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


def text_classes(types: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """Type and class of every model of these types, by default of all.

    Raises:
        GammaError: A type that transformers does not list.
    """
    known = text_types()
    chosen = list(dict.fromkeys(known if types is None else types))
    for model_type in chosen:
        if model_type not in known:
            raise GammaError(
                f"{model_type!r} is no text model type of this transformers; see "
                "gamma_nlp.check.sweep.small_models.text_types()"
            )
    return [(model_type, name) for model_type in chosen for name in known[model_type]]


def build(model_type: str, class_name: str) -> nn.Module:
    """A small model with random weights, the same at every call, in eval mode.

    Raises:
        Exception: Whatever transformers raises where a type cannot be built.
    """
    import transformers

    cls = getattr(transformers, class_name)
    config = small_config(model_type, class_name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cls(config)
        randomise(model)
    return model.eval()


def randomise(model: nn.Module) -> None:
    """Move every parameter that is constant off its value, so that no path is silent."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.numel() > 0:
                first = parameter.flatten()[0]
                if bool((parameter == first).all()) or not bool(torch.isfinite(parameter).all()):
                    parameter.nan_to_num_(0.0).add_(torch.randn_like(parameter) * 0.1)


def small_config(model_type: str, class_name: str) -> Any:
    """The small config that a class of this type takes."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    cls = CONFIG_MAPPING[model_type]
    overrides = options(model_type, class_name)
    for key in ("inputs", "placeholders"):
        overrides.pop(key, None)
    wanted = getattr(getattr(transformers, class_name), "config_class", None)
    for name, sub in getattr(cls, "sub_configs", {}).items():
        if sub is wanted:  # the mapping names the text model of a larger one
            cls, overrides = sub, overrides.get(name, {})
    return cls(**_fields(cls, _TokenIds(), overrides))


def options(model_type: str, class_name: str = "") -> dict[str, Any]:
    """What ``small_models.ini`` says of a type, and of one class of it, as nested fields."""
    return _nested({**_section(model_type), **_section(f"{model_type} {class_name}")})


class _TokenIds:
    """Moves token ids into the small vocabulary, equal ids to equal places."""

    def __init__(self) -> None:
        self.moved: dict[int, int] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self(item) for item in value]
        if not isinstance(value, int) or isinstance(value, bool) or value < VOCABULARY:
            return value
        return self.moved.setdefault(value, VOCABULARY - 1 - len(self.moved))


def _fields(cls: Any, token_ids: _TokenIds, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that make a small config of class ``cls``."""
    try:
        defaults = cls()
    except Exception:  # some types have no valid defaults
        defaults = cls(**overrides)
    nested = getattr(cls, "sub_configs", {})
    sizes = _sizes()
    fields: dict[str, Any] = {}
    for name, value in defaults.to_dict().items():
        if name in nested or name in ("model_type", "id2label", "label2id"):
            continue
        if name in sizes and isinstance(value, int) and not isinstance(value, bool):
            if value > sizes[name]:
                fields[name] = sizes[name]
            if name == "num_key_value_heads" and value == _heads(defaults):
                fields.pop(name, None)  # as many as query heads, whatever their number
                if "num_attention_heads" in sizes and value > sizes["num_attention_heads"]:
                    fields[name] = sizes["num_attention_heads"]
        elif name.endswith(("token_id", "token_index")):
            moved = token_ids(value)
            if moved != value:
                fields[name] = moved
    _cut_layers(defaults, fields)
    for name, sub in nested.items():
        inner = overrides.get(name, {})
        found = getattr(defaults, name, None)
        if found is None and not inner:
            continue
        if found is not None and not isinstance(found, dict):
            sub = type(found)
        fields[name] = {**_fields(sub, token_ids, inner), "model_type": sub.model_type}
    for name, value in overrides.items():
        if name not in nested:
            fields[name] = value
    return fields


def _heads(config: Any) -> Any:
    return config.to_dict().get("num_attention_heads")


def _cut_layers(defaults: Any, fields: dict[str, Any]) -> None:
    """Cut lists with an entry per layer to the shortest start that shows every kind of layer."""
    name = next((n for n in ("num_hidden_layers", *_DEPTHS) if n in fields), None)
    depth = getattr(defaults, name, None) if name else None
    if name is None or not isinstance(depth, int):
        return
    lists = {
        key: value
        for key, value in defaults.to_dict().items()
        if isinstance(value, list) and len(value) == depth
    }
    # Positions of layers, not kinds of layers: those that stay.
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


_DEPTHS = ("num_layers", "n_layer", "n_layers", "depth", "num_blocks", "decoder_layers")


@cache
def _ini() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(resources.files(__package__).joinpath("small_models.ini").read_text())
    return parser


def _sizes() -> dict[str, int]:
    return {name: int(value) for name, value in _ini()["sizes"].items()}


def _section(model_type: str) -> dict[str, Any]:
    if not _ini().has_section(model_type):
        return {}
    found = {}
    for name, value in _ini()[model_type].items():
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError as error:
            raise GammaError(
                f"small_models.ini, [{model_type}] {name} = {value}: not JSON ({error})"
            ) from None
    return found


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in dotted.items():
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return tree
