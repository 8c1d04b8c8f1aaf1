"""The one exception of this library, what every message is made with, and names behind an extra."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


class GammaError(ValueError):
    """Something the user can put right: names it, what was expected, and what to type next."""


class MissingExtra(GammaError, ImportError):
    """A package is missing that comes with an extra of this library; the message names both."""


class MissingName(GammaError, AttributeError):
    """A public name whose extra is missing, asked for as ``module.name``: ``hasattr`` is false."""


_NEEDED = {
    "hf": ("transformers", "accelerate"),
    "plot": ("matplotlib",),
    "translation": ("sacrebleu", "sacremoses", "subword_nmt"),
}
"""What the public names behind an extra import; an extra may bring more."""

_IMPORT_SYSTEM = ("importlib._bootstrap", "_frozen_importlib")


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


def is_installed(package: str) -> bool:
    """Say whether a package can be found, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:  # a package that is hidden on purpose
        return False


def need(package: str, extra: str, purpose: str) -> Any:
    """Import a package that comes with an extra, and return the module.

    Args:
        package: What to import, such as ``sacrebleu``.
        extra: The extra of this package that brings it.
        purpose: Who needs it, with the verb: ``GLUE's scores need``.

    Raises:
        MissingExtra: It is not installed, or fails to import.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(_how_to_get(package, extra, purpose, error)) from error


def need_installed(packages: Iterable[str], extra: str, purpose: str) -> None:
    """Check that packages are installed, without importing them: before a long run starts.

    Raises:
        MissingExtra: One of them is not; the first is named.
    """
    for package in packages:
        if not is_installed(package):
            raise MissingExtra(f"{purpose} {package}: {_install(extra)}")


def _install(extra: str) -> str:
    return f"pip install 'gamma_nlp[{extra}]'"


def _how_to_get(package: str, extra: str, purpose: str, error: ImportError) -> str:
    if isinstance(error, MissingExtra):
        return str(error)
    name = package.partition(".")[0]
    if not isinstance(error, ModuleNotFoundError):
        return (
            f"{purpose} {name}, which cannot be imported ({one_line(error)}); "
            f"install it anew: {_install(extra)}"
        )
    if error.name and error.name != package and not error.name.startswith(name):
        name = error.name
    return f"{purpose} {name}: {_install(extra)}"


def lazy_names(
    package: str,
    places: Mapping[str, str],
    *,
    extras: Mapping[str, str] | None = None,
    folders: Sequence[str] = (),
    moved: Mapping[str, tuple[str, str]] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make ``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports names on demand.

    Names whose extra is missing stay out of ``__dir__`` and ``__all__``, so that whatever walks
    over all names (``help``, ``inspect.getmembers``, tab completion, ``import *``) works without
    the extra. Asking for one by name says which extra to install.

    Args:
        package: The package's ``__name__``.
        places: The module that defines each public name.
        extras: The extra that a name needs, for those that need one.
        folders: Subpackages that are reached as attributes without an import of their own.
        moved: Old names, with where they are public now and the module that defines them. They
            work with a ``DeprecationWarning`` and are not listed.
    """
    extras, moved = extras or {}, moved or {}
    ready = {e: all(map(is_installed, _NEEDED[e])) for e in set(extras.values())}
    public = sorted(name for name in places if ready.get(extras.get(name, ""), True))

    def load(name: str, module: str, by_import: bool) -> Any:
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError as error:
            if name not in extras or (error.name or "").startswith("gamma_nlp"):
                raise
            # `hasattr` is false on an AttributeError only. `from package import name` asks by
            # `hasattr` too, and would then raise an ImportError that does not name the extra.
            kind = MissingExtra if by_import else MissingName
            extra = extras[name]
            text = _how_to_get(_NEEDED[extra][0], extra, f"{name} needs", error)
            raise kind(text) from error

    def __getattr__(name: str) -> Any:
        by_import = sys._getframe(1).f_globals.get("__name__") in _IMPORT_SYSTEM
        if name in folders:
            return importlib.import_module(f"{package}.{name}")
        if name in places:
            value = load(name, places[name], by_import)
            setattr(sys.modules[package], name, value)
            return value
        if name in moved:
            home, module = moved[name]
            value = load(name, module, by_import)
            if not by_import:  # `from package import name` asks again, for the caller's line
                message = f"{package}.{name} is called {home}.{name} now"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
            return value
        hint = "" if name.startswith("_") else close_to(name, public)
        raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")

    def __dir__() -> list[str]:
        own = [name for name in vars(sys.modules[package]) if name.startswith("__")]
        return sorted({*own, *public, *folders})

    return __getattr__, __dir__, public
