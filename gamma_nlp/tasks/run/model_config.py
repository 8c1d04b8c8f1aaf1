"""A model described by config fields and nothing else: read, and checked against its type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to, one_line
from gamma_nlp.hf.limits import check_counts, limited_modules
from gamma_nlp.tasks.run.yaml_file import parse_yaml, read_yaml

_OF_ANY = ("attn_implementation", "dtype", "torch_dtype")
"""What every config takes without listing it."""

_COUNT = re.compile(r"(layers|heads|hidden_size|d_model|ffn_dim|intermediate_size|positions)$")
"""Fields of which a model without any would learn nothing, or not be a model."""


_ACTIVATION = re.compile(r"(^|_)(act|act_fn|activation|activation_function)$")
"""Fields that name an activation function."""


def model_fields(given: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return the fields of ``model_config``: keys in YAML, the same inline, or a file of them.

    Raises:
        GammaError: The text or the file holds no fields.
    """
    if not isinstance(given, str):
        return dict(given)
    if given.lstrip().startswith("{") or "\n" in given:
        return parse_yaml(given, "model_config")
    try:
        is_file = Path(given).expanduser().is_file()
    except (OSError, ValueError):  # too long for a name, or not one
        is_file = False
    if not is_file:
        raise GammaError(
            f"model_config: no file {given[:100]!r}; give a YAML file, or fields such as "
            "'{model_type: bert, hidden_size: 64}'"
        )
    return read_yaml(Path(given).expanduser())


def build_config(
    fields: Mapping[str, Any],
    *,
    fixed: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    why: str,
    example: str,
) -> Any:
    """Make the config that ``fields`` describe, with every mistake named.

    Args:
        fields: What the user gave; ``model_type`` is the architecture.
        fixed: Fields that the recipe sets, which a user cannot.
        defaults: Fields that hold unless the user sets them.
        why: What the fixed fields follow from.
        example: A model type to suggest where it is missing.

    Raises:
        GammaError: The type or a field is unknown or set by the recipe, or a value cannot be used.
    """
    import transformers

    given = dict(fields)
    kind = given.pop("model_type", None)
    if kind is None:
        raise GammaError(
            f"model_config: model_type is missing, for example `model_type: {example}`"
        )
    kinds = list(transformers.CONFIG_MAPPING.keys())
    if kind not in kinds:
        hint = close_to(str(kind), kinds) or f"; take for example {example!r}"
        version = transformers.__version__
        raise GammaError(
            f"model_config: cannot build {kind!r}: transformers {version} has no such model_type"
            f"{hint}"
        )
    for name in given:
        if name in fixed or name == "architectures":
            what = "the task" if name == "architectures" else why
            raise GammaError(f"model_config: {name} follows from {what}; leave it out")
    _check_names(kind, given)
    check_counts("model_config", given)
    try:
        return transformers.AutoConfig.for_model(kind, **{**(defaults or {}), **given, **fixed})
    except Exception as error:  # each config checks its fields in its own way
        raise GammaError(f"model_config: cannot build {kind!r}: {one_line(error)}") from error


def build_model(auto_class: Any, config: Any, *, what: str, instead: str) -> Any:
    """Build a randomly initialised model of an auto class from a config.

    Args:
        auto_class: Such as ``AutoModelForSequenceClassification``.
        config: From :func:`build_config`.
        what: What its models are, for the error.
        instead: Model types that work, for the error.

    Raises:
        GammaError: The architecture has no such model, or the fields do not fit it.
    """
    kind = config.model_type
    if type(config) not in auto_class._model_mapping:
        raise GammaError(f"model_config: cannot build {kind!r}: it is no {what}; take {instead}")
    try:
        with limited_modules("model_config"):
            return auto_class.from_config(config, trust_remote_code=False)
    except GammaError:
        raise
    except Exception as error:  # shapes that do not fit, in whatever way they fail
        raise GammaError(f"model_config: cannot build {kind!r}: {one_line(error)}") from error


def _check_names(kind: str, given: Mapping[str, Any]) -> None:
    import transformers

    config_class: Any = transformers.CONFIG_MAPPING[kind]
    usual = config_class().to_dict()
    known = {*usual, *getattr(config_class, "attribute_map", {}), *_OF_ANY}
    for name in given:
        if name not in known:
            hint = close_to(name, known) or f"; it has {_some(known)}"
            raise GammaError(f"model_config: {kind} has no field {name!r}{hint}")
        value = given[name]
        if _ACTIVATION.search(name) and isinstance(value, str) and value != usual.get(name):
            _check_activation(kind, name, value)
        if _COUNT.search(name) and isinstance(value, (int, float)) and value < 1:
            raise GammaError(f"model_config: {name} must be at least 1, not {value}")


def _check_activation(kind: str, name: str, value: str) -> None:
    from transformers.activations import ACT2FN

    if value not in ACT2FN:
        hint = close_to(value, ACT2FN) or f"; it is one of {', '.join(sorted(ACT2FN))}"
        raise GammaError(
            f"model_config: cannot build {kind!r}: {name}: there is no activation {value!r}{hint}"
        )


def _some(names: Iterable[str]) -> str:
    sizes = sorted(name for name in names if re.search(r"size|dim|layers|heads", name))
    return ", ".join(sizes[:8]) + ", ..."
