"""Old names, which work for one release and say what they are called now."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

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
