"""Everything that speaks to Hugging Face's Trainer, hub and data loading.

Names are imported when they are first used, since transformers takes seconds to import. A name
whose packages are not installed is left out of ``dir()`` and ``__all__``; importing it raises an
ImportError that names the extra.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gamma_nlp.errors import GammaError, need

if TYPE_CHECKING:
    from gamma_nlp.decay.saved_state import load_regrouped
    from gamma_nlp.hf.batches.budget import TokenBudget
    from gamma_nlp.hf.batches.by_tokens import PairCollator, TokenBatches
    from gamma_nlp.hf.batches.token_trainer import TokenBudgetMixin
    from gamma_nlp.hf.models import keep_positions

    __all__ = [
        "PairCollator",
        "TokenBatches",
        "TokenBudget",
        "TokenBudgetMixin",
        "keep_positions",
        "load_regrouped",
    ]

_HOMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "PairCollator": ("gamma_nlp.hf.batches.by_tokens", ("numpy",)),
    "TokenBatches": ("gamma_nlp.hf.batches.by_tokens", ("numpy",)),
    "TokenBudget": ("gamma_nlp.hf.batches.budget", ("numpy",)),
    "TokenBudgetMixin": (
        "gamma_nlp.hf.batches.token_trainer",
        ("numpy", "transformers", "accelerate"),
    ),
    "keep_positions": ("gamma_nlp.hf.models", ()),
    "load_regrouped": ("gamma_nlp.decay.saved_state", ()),
}
"""The module of each name, and the packages beside torch that it needs."""


class MissingPackage(GammaError, ImportError):
    """A name was imported whose packages are not installed."""


def _available() -> list[str]:
    return [name for name, (_, packages) in _HOMES.items() if all(map(find_spec, packages))]


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return _available()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, packages = _HOMES[name]
    for package in packages:
        try:
            need(package, "hf", f"{__name__}.{name} needs")
        except GammaError as error:
            # Not an AttributeError, whose text `from gamma_nlp.hf import ...` would throw away.
            raise MissingPackage(str(error)) from error
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), "__all__", *_available()})
