"""YAML files of settings: a mapping whose keys are words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.files import yaml_file


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        GammaError: It cannot be read, is not YAML, holds something else, or a key twice.
    """
    return _mapping(yaml_file.read_yaml(path), str(path))


def parse_yaml(text: str, origin: str) -> dict[str, Any]:
    """Read YAML text that holds a mapping.

    Args:
        text: The text.
        origin: What to call it in an error: the option it was given to.

    Raises:
        GammaError: It is not YAML, holds something else, or a key twice.
    """
    return _mapping(yaml_file.parse_yaml(text, origin, lines="\n" in text), origin)


def _mapping(content: Any, origin: str) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise GammaError(f"{origin}: expected `key: value` lines")
    try:
        json.dumps(content, default=str)  # as the run notes it
    except (ValueError, TypeError, RecursionError) as error:
        raise GammaError(f"{origin}: cannot use these values: {one_line(error)}") from error
    return content
