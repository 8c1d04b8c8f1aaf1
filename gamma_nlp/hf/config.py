"""A model's config: read, checked, and the class of transformers that it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to, listed, need, one_line, shown
from gamma_nlp.hf.hub import HUB_TIMEOUT, find_config, read_settings
from gamma_nlp.hf.limits import check_counts


def read_config(name: str, *, trust_remote_code: bool, timeout: float = HUB_TIMEOUT) -> Any:
    """Return the config of a model, found as :func:`.load_model` finds it.

    Raises:
        GammaError: As :func:`.load_model`.
    """
    need("transformers", "hf", "loading a model by name needs")
    return _read_config(find_config(name, timeout=timeout), name, trust_remote_code)


def _read_config(where: Path, name: str, trust_remote_code: bool) -> Any:
    import transformers

    content = read_settings(where)
    _check_settings(where, content)
    kind, version = content["model_type"], transformers.__version__
    brings_code = bool(content.get("auto_map"))
    if kind not in transformers.CONFIG_MAPPING and not brings_code:
        hint = close_to(kind, transformers.CONFIG_MAPPING, most=3)
        raise GammaError(
            f"{name}: transformers {version} knows no model type {shown(kind)}"
            f"{hint or '; check the config'}, or use a newer transformers: "
            "pip install --upgrade transformers"
        )
    origin = str(where)
    if trust_remote_code and brings_code:
        module = str(content["auto_map"].get("AutoConfig", "")).partition(".")[0]
        own_code = (where.parent / f"{module}.py").is_file()
        origin = str(where.parent) if own_code else name
    try:
        return transformers.AutoConfig.from_pretrained(origin, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise cannot(
            "read the config of", name, kind, error, brings_code, trust_remote_code
        ) from error


def _check_settings(where: Path, content: dict[str, Any]) -> None:
    """Check what decides the model's class; transformers checks the rest.

    Raises:
        GammaError: A value has the wrong type, or a count would never be built.
    """
    if "model_type" not in content:
        raise GammaError(
            f'{where} has no "model_type", so nothing says which model it configures; '
            "give a config.json that save_pretrained wrote"
        )
    kind, classes, code = (content.get(key) for key in ("model_type", "architectures", "auto_map"))
    if not isinstance(kind, str):
        raise GammaError(f'{where}: model_type must be a name such as "bert", got {shown(kind)}')
    if not isinstance(classes or [], list) or not all(isinstance(c, str) for c in classes or []):
        raise GammaError(
            f'{where}: architectures must be a list of classes such as ["BertForMaskedLM"], got '
            f"{shown(classes)}"
        )
    if not isinstance(code or {}, dict):
        raise GammaError(f"{where}: auto_map must map auto classes to names, got {shown(code)}")
    check_counts(where, content)


def model_class(config: Any, name: str) -> Any:
    """Return the class that a config's ``architectures`` name, or the auto class that finds it.

    Raises:
        GammaError: transformers has no such model, or it takes another config.
    """
    import transformers

    wanted = (getattr(config, "architectures", None) or [None])[0]
    remote = getattr(config, "auto_map", None) or {}
    if remote:
        autos = [key for key, value in remote.items() if str(value).endswith(f".{wanted}")]
        return getattr(transformers, autos[0] if autos else "AutoModel", transformers.AutoModel)
    if wanted is None or not type(config).__module__.startswith("transformers."):
        if type(config) not in transformers.MODEL_MAPPING:  # AutoModel would list hundreds
            hint = listed(_classes(config.model_type)) or "its class"
            raise GammaError(
                f"{name}: type {config.model_type!r} has no base model; name {hint} under "
                '"architectures" in its config'
            )
        return transformers.AutoModel
    try:
        cls: Any = getattr(transformers, wanted, None)
    except Exception:  # a class whose own imports fail
        cls = None
    if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        hint = close_to(wanted, _classes(config.model_type), most=2)
        raise GammaError(
            f"{name}: architectures: transformers {transformers.__version__} has no model "
            f"{shown(wanted)}"
            f"{hint or ';'} correct it in the config, or take architectures out for the base model"
        )
    own = getattr(cls, "config_class", None)
    if own is not None and not (isinstance(config, own) or issubclass(own, type(config))):
        hint = listed(_classes(config.model_type)) or "no class of transformers"
        raise GammaError(
            f"{name}: architectures: {wanted} is no model of type {config.model_type!r}, which has "
            f"{hint}; correct either in the config"
        )
    return cls


def _classes(model_type: str) -> list[str]:
    """Return the classes of a model type, the base model first."""
    from transformers.models.auto import modeling_auto

    found: dict[str, None] = {}
    for name, mapping in vars(modeling_auto).items():
        if re.fullmatch("MODEL_.*MAPPING_NAMES", name) and model_type in mapping:
            entry = mapping[model_type]
            found |= dict.fromkeys([entry] if isinstance(entry, str) else entry)
    return list(found)


def cannot(
    what: str, name: str, kind: str, error: Exception, brings_code: bool, trusted: bool
) -> GammaError:
    """Return the error for what transformers raised, one line with the one remedy that helps."""
    import transformers

    version = transformers.__version__
    text = f"cannot {what} {name!r} (model type {shown(kind)}) with transformers {version}"
    if brings_code and not trusted:
        remedy = "it comes with its own Python files; to run them, add --trust-remote-code"
    else:
        remedy = one_line(error, file=True)
    return GammaError(f"{text}: {remedy}")
