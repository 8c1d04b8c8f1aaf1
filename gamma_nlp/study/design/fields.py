"""Read a YAML file key by key; every mistake names the file, the line and the key."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to, need, shown

Keys = tuple[str | int, ...]


def line_of(file: Path, keys: Keys) -> int | None:
    """Return the line of a key in a YAML file, or of the nearest key around it."""
    yaml = need("yaml", "recipes", "reading YAML files needs")
    line = None
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), yaml.SafeLoader)
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                name, node = next((k, v) for k, v in node.value if k.value == str(key))
                line = name.start_mark.line + 1
            else:
                node = node.value[key]
                line = node.start_mark.line + 1
    except (OSError, yaml.YAMLError, StopIteration, LookupError, TypeError, AttributeError):
        pass
    return line


class Fields:
    """A mapping in a YAML file.

    Attributes:
        file: The file.
        data: The mapping.
        keys: Where it stands in the file.
        typed: Keys of ``set`` that the command line gave, not the file.
    """

    def __init__(
        self,
        file: Path,
        data: Mapping[str, Any],
        keys: Keys = (),
        typed: frozenset[str] = frozenset(),
    ) -> None:
        self.file = file
        self.data = data
        self.keys = keys
        self.typed = typed

    def error(self, key: str | int | None, problem: str, *more: str | int) -> GammaError:
        """Return an error about one key, or about the mapping itself (``None``)."""
        keys = self.keys if key is None else (*self.keys, key, *more)
        if keys[:1] == ("set",) and keys[1:2] and keys[1] in self.typed:
            return GammaError(f"--set {'.'.join(map(str, keys[1:]))}: {problem}")
        line = line_of(self.file, keys)
        at = f"{self.file}:{line}" if line is not None else str(self.file)
        name = ".".join(map(str, keys))
        return GammaError(f"{at}: {name}: {problem}" if name else f"{at}: {problem}")

    def only(self, known: Iterable[str], what: str = "key") -> None:
        """Refuse keys that are not known."""
        known = list(known)
        for key in self.data:
            if not isinstance(key, str):
                raise self.error(
                    str(key), f"YAML reads this as {shown(key)}, no text; put it in quotes"
                )
            if key not in known:
                hint = close_to(key, known) or f"; it is one of {', '.join(known)}"
                raise self.error(key, f"unknown {what}{hint}")

    def has(self, key: str) -> bool:
        """Return whether a key has a value."""
        return self.data.get(key) is not None

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text; without a default it has to be there."""
        value = self.data.get(key)
        if value is None:
            if default is None:
                raise self.error(None, f"{key} is missing")
            return default
        if not isinstance(value, str):
            raise self.error(key, f"expected text, got {shown(value)}; put it in quotes")
        if not value.strip() or "\0" in value:
            raise self.error(key, f"expected text, got {shown(value)}")
        return value

    def number(self, key: str) -> float:
        """Return a finite number."""
        return number_of(self.data[key], lambda problem: self.error(key, problem))

    def whole(self, key: str, *, least: int) -> int:
        """Return a whole number of at least ``least``."""
        value = self.number(key)
        if value != int(value) or value < least:
            what = shown(self.data[key])
            raise self.error(key, f"expected a whole number from {least} on, got {what}")
        return int(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return a list of numbers; one number is a list of one."""
        value = self.data[key]
        values = value if isinstance(value, list) else [value]
        if not values:
            raise self.error(key, "the list is empty; leave the key out, or give a number")
        found = [
            number_of(one, lambda problem, i=index: self.error(key, problem, i), share=True)
            for index, one in enumerate(values)
        ]
        for index, one in enumerate(found):
            if one in found[:index]:
                raise self.error(key, f"{one:g} is there twice; leave one out", index)
        return tuple(found)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.data.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"expected true or false, got {shown(value)}")
        return value

    def mapping(self, key: str, example: str) -> Fields:
        """Return a mapping inside this one; an empty one where there is nothing."""
        value = self.data.get(key)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.error(key, f"expected keys and values such as {example}, got {shown(value)}")
        found = Fields(self.file, value, (*self.keys, key), self.typed)
        found.only([key for key in value if isinstance(key, str)])
        return found


def number_of(value: Any, error: Any, *, share: bool = False) -> float:
    """Return a finite number; YAML reads 1e-4 as text.

    Args:
        value: What the file holds.
        error: Makes the error of a problem.
        share: Whether it may be a share of 1, so that per cent can be put right.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            number, sign, _ = value.strip().partition("%")
            percent, hint = number.strip(), ""
            if share and sign and percent.replace(".", "", 1).isdecimal():
                hint = f"; write {float(percent) / 100:g}"
            raise error(f"expected a number, got {shown(value)}{hint}") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise error(f"expected a number, got {shown(value)}")
    if not abs(value) <= sys.float_info.max:  # nan, or beyond what a float can be
        raise error(f"expected a finite number, got {shown(value)}")
    return value
