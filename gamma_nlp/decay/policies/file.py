"""A policy as a JSON or YAML file: the fields of ``DecayPolicy`` as flat keys, and ``base``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from gamma_nlp.decay.policies.keys import CATEGORY_KEYS, suggestion
from gamma_nlp.decay.policies.presets import PRESET_FIELDS
from gamma_nlp.errors import GammaError, shown
from gamma_nlp.files.read import read_json
from gamma_nlp.files.yaml_file import read_yaml

SUFFIXES = (".json", ".yaml", ".yml")
_MAPPINGS = ("kinds", "patterns", "targets", "schedules")


def read_policy(path: Path, fields: Collection[str]) -> tuple[str, dict[str, Any]]:
    """Return the preset that a file starts from, and what it says besides.

    Args:
        path: The file.
        fields: The keys that it may have, next to ``base``.

    Raises:
        GammaError: It is missing or malformed, a key is unknown, or there is no such preset.
    """
    data = _content(path)
    if not isinstance(data, dict):
        got = "an empty file" if data is None else shown(data)
        raise GammaError(f"{path}: expected keys such as 'branch_inner: 1.0', got {got}")
    for key in data:
        if key not in fields and key != "base":
            raise GammaError(
                f"{path}: unknown key {shown(key)}{suggestion(str(key), [*fields, 'base'])}"
            )
    base = data.pop("base", "guidelines")
    if not isinstance(base, str) or base not in PRESET_FIELDS:
        hint = suggestion(base if isinstance(base, str) else "", PRESET_FIELDS)
        raise GammaError(f"{path}: base: unknown preset {shown(base)}{hint}")
    for key in _MAPPINGS:
        if data.get(key, "") is None:  # a YAML key with nothing below it
            del data[key]
    return base, data


def decayed_categories(source: str) -> list[str]:
    """Return the gain categories that a policy file sets above 0 by name; none for a preset.

    Args:
        source: A preset's name, or a file that ``DecayPolicy.load`` has read.
    """
    if source in PRESET_FIELDS:
        return []
    data = _content(Path(source))
    return [key for key in CATEGORY_KEYS if data.get(key, 0) > 0]


def _content(path: Path) -> Any:
    if not path.exists():
        raise GammaError(f"policy file {str(path)!r} does not exist")
    if path.suffix.lower() == ".json":
        return read_json(path)
    return read_yaml(path, f"{path}: JSON needs no package, YAML needs")
