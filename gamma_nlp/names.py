"""Public names: imported on demand, dependent on an extra, or renamed.

Old names work for one release and say what they are called now.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from gamma_nlp.errors import MissingExtra, MissingName, close_to, how_to_get, is_installed

F = TypeVar("F", bound=Callable[..., Any])

_IMPORT_SYSTEM = ("importlib._bootstrap", "_frozen_importlib")


class Needs(NamedTuple):
    """An extra, and the packages of it that a name imports."""

    extra: str
    packages: tuple[str, ...]


TRAINER = Needs("hf", ("transformers", "accelerate"))

_COMPANIONS, _HF = "gamma_nlp.companions", "gamma_nlp.hf"

MOVED = {
    "EffectiveRateCallback": (_COMPANIONS, f"{_COMPANIONS}.effective_rate.callback"),
    "StrongCallback": (_COMPANIONS, f"{_COMPANIONS}.strong.callback"),
    "StrongRegularizer": (_COMPANIONS, f"{_COMPANIONS}.strong.regularizer"),
    "UnitNorm": (_COMPANIONS, f"{_COMPANIONS}.effective_rate.unit_norm"),
    "bn_penalty": (_COMPANIONS, f"{_COMPANIONS}.batch_norm.penalty"),
    "effective_lr": (_COMPANIONS, f"{_COMPANIONS}.effective_rate.rate"),
    "load_compressed": (_COMPANIONS, f"{_COMPANIONS}.strong.compressed"),
    "multipliers": (_COMPANIONS, f"{_COMPANIONS}.batch_norm.multipliers"),
    "save_compressed": (_COMPANIONS, f"{_COMPANIONS}.strong.compressed"),
    "scale_invariant": (_COMPANIONS, f"{_COMPANIONS}.effective_rate.invariance"),
    "sparsity_report": (_COMPANIONS, f"{_COMPANIONS}.strong.sparsity"),
    "PairCollator": (_HF, f"{_HF}.batches.by_tokens"),
    "TokenBatches": (_HF, f"{_HF}.batches.by_tokens"),
    "TokenBudget": (_HF, f"{_HF}.batches.budget"),
    "TokenBudgetMixin": (_HF, f"{_HF}.batches.token_trainer"),
}
"""Names that stood at the top of ``gamma_nlp``: where they are public now, and their module."""


def lazy_names(
    package: str,
    places: Mapping[str, str],
    *,
    needs: Mapping[str, Needs] | None = None,
    folders: Sequence[str] = (),
    moved: Mapping[str, tuple[str, str]] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make ``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports names on demand.

    Names whose extra is missing stay out of ``__dir__`` and ``__all__``, so that anything that goes
    through all names (``help``, ``inspect.getmembers``, tab completion, ``import *``) works without
    the extra. Asking for one by name says which extra to install.

    Args:
        package: The package's ``__name__``.
        places: The module that defines each public name.
        needs: What a name needs besides torch, for those that need something.
        folders: Subpackages that are reached as attributes without an import of their own.
        moved: Old names, with where they are public now and the module that defines them. They
            work with a ``DeprecationWarning`` and are not listed.
    """
    needs, moved = needs or {}, moved or {}
    ready = {need: all(map(is_installed, need.packages)) for need in set(needs.values())}
    public = sorted(name for name in places if name not in needs or ready[needs[name]])

    def load(name: str, module: str, by_import: bool) -> Any:
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError as error:
            if name not in needs or (error.name or "").startswith("gamma_nlp"):
                raise
            # `hasattr` is false on an AttributeError only. `from package import name` asks by
            # `hasattr` too, and would then raise an ImportError that does not name the extra.
            kind = MissingExtra if by_import else MissingName
            extra, packages = needs[name]
            text = how_to_get(packages[0], extra, f"{name} needs", error)
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


def renamed_arguments(**names: str) -> Callable[[F], F]:
    """Let a function take keyword arguments by their old names too: ``old="new"``.

    The old name gives a DeprecationWarning at the caller's line; both at once are a TypeError, as
    an argument that is given twice always is.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                new, what = names[old], function.__qualname__.removesuffix(".__init__")
                if new in kwargs:
                    raise TypeError(f"{what} got {new}= twice: {old}= is its old name")
                message = f"{what}: {old}= is called {new}= now"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
