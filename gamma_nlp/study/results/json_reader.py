"""Values of a JSON file, read by key: what is missing or of another kind is named with its file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, shown
from gamma_nlp.files.read import read_json

_MISSING = object()


def read_object(file: Path) -> Reader:
    """Return a reader of a JSON file, none of whose numbers is larger than a float can be.

    Raises:
        GammaError: It cannot be read, is no object, or a number in it is too large.
    """
    found = Reader(file, read_json(file))
    _check_sizes(file, found.values, "")
    return found


def _check_sizes(file: Path, value: object, at: str) -> None:
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise GammaError(f"{file}: {at} is {shown(value)}, which is too large")
    if isinstance(value, Mapping):
        for key, one in value.items():
            _check_sizes(file, one, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            _check_sizes(file, one, f"{at}[{number}]")


class Reader:
    """Reads values of a JSON file by dotted paths; errors name the file and the path."""

    def __init__(self, file: Path, values: object, at: str = "") -> None:
        self.file, self.at = file, at
        if not isinstance(values, Mapping):
            raise GammaError(f"{file}: {at or 'the file'} must be an object, not {shown(values)}")
        self.values = values

    def get(
        self, key: str, kind: type | tuple[type, ...], what: str, default: Any = _MISSING
    ) -> Any:
        """Return ``values[key]``, which must be of a kind; null and absent are the default."""
        value = self.values.get(key)
        place = f"{self.at}.{key}" if self.at else key
        if value is None:
            if default is _MISSING:
                raise GammaError(f"{self.file}: {place} is missing; expected {what}")
            return default
        wrong = isinstance(value, bool) and kind is not bool
        if wrong or not isinstance(value, kind):
            raise GammaError(f"{self.file}: {place} must be {what}, not {shown(value)}")
        if isinstance(value, (int, float)) and not abs(value) <= sys.float_info.max:
            raise GammaError(f"{self.file}: {place} is {shown(value)}; expected {what}")
        return value

    def text(self, key: str, default: Any = _MISSING) -> Any:
        return self.get(key, str, "text", default)

    def number(self, key: str, default: Any = _MISSING) -> Any:
        return self.get(key, (int, float), "a number", default)

    def whole(self, key: str, default: Any = _MISSING) -> Any:
        return self.get(key, int, "a whole number", default)

    def true(self, key: str, default: Any = _MISSING) -> Any:
        return self.get(key, bool, "true or false", default)

    def object(self, key: str, default: Any = _MISSING) -> Any:
        return self.get(key, Mapping, "an object", default)

    def texts(self, key: str, default: Any = _MISSING) -> tuple[str, ...]:
        found = self.get(key, list, "a list of texts", default)
        if not all(isinstance(one, str) for one in found):
            raise GammaError(f"{self.file}: {key} must be a list of texts, not {shown(found)}")
        return tuple(found)

    def each(self, key: str) -> Iterator[Reader]:
        """Yield a reader for each object of a list."""
        for number, one in enumerate(self.get(key, list, "a list of objects")):
            yield Reader(self.file, one, f"{key}[{number}]")
