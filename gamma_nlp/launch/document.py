"""A file of settings whose values are read one by one, each with its line for an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to, need, shown
from gamma_nlp.files.read import read_json, read_text
from gamma_nlp.files.yaml_file import read_yaml

AUTO = "auto"
"""What DeepSpeed's users write for a value that the Trainer or accelerate fills in."""

_DEPTH = 4
_TRUE, _FALSE = ("true", "1", "yes", "y", "t", "on"), ("false", "0", "no", "n", "f", "off")


@dataclass(frozen=True, kw_only=True)
class Document:
    """The settings of a YAML or JSON file; a key is the words that lead to it.

    Attributes:
        path: The file, as it was typed.
        data: What it holds.
        lines: The line of each key, where it is known.
    """

    path: Path
    data: Mapping[str, Any]
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def at(self, *key: str) -> str:
        """Return ``file:line`` of a key, or of the section that lacks it."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.lines:
                return f"{self.path}:{self.lines[key[:length]]}"
        return str(self.path)

    def get(self, *key: str) -> Any:
        """Return a value as it stands in the file; ``None`` where it is missing."""
        value: Any = self.data
        for depth, word in enumerate(key):
            if value is None:
                return None
            if not isinstance(value, Mapping):
                raise self.wrong("a section of `key: value` lines", *key[:depth])
            value = value.get(word)
        return value

    def has(self, *key: str) -> bool:
        """Return whether a key is there with a value."""
        return self.get(*key) is not None

    def section(self, *key: str) -> Mapping[str, Any]:
        """Return a section; empty where it is missing."""
        value = self.get(*key)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong("a section of `key: value` lines", *key)
        return value or {}

    def whole(self, *key: str, default: int, least: int = 1, as_text: bool = False) -> int:
        """Return a whole number; ``as_text`` where accelerate reads one in quotes as well."""
        value = self.get(*key)
        if value is None or value == AUTO:
            return default
        if as_text and isinstance(value, str) and value.strip().lstrip("-").isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.wrong(f"a whole number of at least {least}", *key)
        return value

    def flag(self, *key: str, default: bool = False) -> bool:
        """Return true or false, in any spelling that accelerate reads."""
        value = self.get(*key)
        if value is None or value == AUTO:
            return default
        text = str(value).lower()
        if isinstance(value, bool | int | str) and text in _TRUE + _FALSE:
            return text in _TRUE
        raise self.wrong("true or false", *key)

    def word(self, *key: str, valid: Iterable[str], default: str) -> str:
        """Return one of some words, in any case; YAML's own reading of ``no`` is explained."""
        value, valid = self.get(*key), list(valid)
        if value is None:
            return default
        if value is False and "no" in map(str.lower, valid):
            text = next(word for word in valid if word.lower() == "no")
            raise GammaError(
                f"{self.at(*key)}: {key[-1]}: YAML reads {text} without quotes as false; write "
                f"{key[-1]}: '{text}'"
            )
        if isinstance(value, str):
            for one in valid:
                if value.lower() == one.lower():
                    return one
        hint = close_to(value, valid) if isinstance(value, str) else ""
        raise self.wrong(f"one of {', '.join(valid)}", *key, hint=hint)

    def wrong(self, expected: str, *key: str, hint: str = "") -> GammaError:
        """Return the error for a value that is not what was expected."""
        name, value = ".".join(key), self.get(*key)
        return GammaError(f"{self.at(*key)}: {name} must be {expected}, got {shown(value)}{hint}")


def read_document(path: Path) -> Document:
    """Read a file that holds a mapping: JSON if its name ends in ``.json``, else YAML.

    Raises:
        GammaError: It cannot be read, is malformed, is empty, or holds something else.
    """
    reads = read_json if path.suffix.lower() == ".json" else read_yaml
    data = reads(path)
    if data is None:
        raise GammaError(f"{path} is empty; give a config of accelerate or DeepSpeed")
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise GammaError(
            f"{path} holds {shown(data)}; expected `key: value` lines, as in a config of "
            "accelerate or DeepSpeed"
        )
    return Document(path=path, data=data, lines=_lines(read_text(path)))


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Return the line of each key; JSON is nearly always YAML too, and else has no lines."""
    yaml = need("yaml", "recipes", "reading YAML files needs")
    found: dict[tuple[str, ...], int] = {}

    def walk(node: Any, key: tuple[str, ...]) -> None:
        if not isinstance(node, yaml.MappingNode) or len(key) == _DEPTH:
            return
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                own = (*key, name.value)
                found[own] = name.start_mark.line + 1
                walk(value, own)

    try:
        walk(yaml.compose(text, yaml.SafeLoader), ())
    except (yaml.YAMLError, RecursionError):
        return {}
    return found
