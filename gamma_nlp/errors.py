"""The one exception of this library, and what every message is made with."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class GammaError(ValueError):
    """Something the user can put right: names it, what was expected, and what to type next."""


def one_line(error: BaseException, most: int = 300) -> str:
    """Return what an exception says as one line of at most ``most`` characters, never empty."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:most] or type(error).__name__


def listed(names: Iterable[str], most: int = 4) -> str:
    """Return names for a message, cut after ``most`` of them."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def close_to(word: str, names: Iterable[str], most: int = 1) -> str:
    """Return ``; did you mean 'name'?`` for the end of a message, empty where nothing is close."""
    close = difflib.get_close_matches(word, list(names), n=most, cutoff=0.4 if most > 1 else 0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def need(package: str, extra: str, purpose: str) -> Any:
    """Import a package that comes with an extra, and return the module.

    Args:
        package: What to import, such as ``sacrebleu``.
        extra: The extra of this package that brings it.
        purpose: Who needs it, with the verb: ``GLUE's scores need``.

    Raises:
        GammaError: It is not installed, or fails to import.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        install = f"pip install 'gamma_nlp[{extra}]'"
        if isinstance(error, ModuleNotFoundError) and error.name and error.name != package:
            name = name if error.name.startswith(name) else error.name
        elif not isinstance(error, ModuleNotFoundError):
            raise GammaError(
                f"{purpose} {name}, which cannot be imported ({one_line(error)}); "
                f"install it anew: {install}"
            ) from error
        raise GammaError(f"{purpose} {name}: {install}") from error
