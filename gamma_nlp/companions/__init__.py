"""Three companion methods, one folder each: what weight decay does besides the gains.

* ``effective_rate``: the effective learning rate of scale-invariant weights, and unit norm.
* ``strong``: L1 and L2 only at the steps at which learning survives them; sparse files.
* ``batch_norm``: the ridge penalty that a batch norm amounts to, and its multipliers.

A name is imported when it is first used. torch is enough for all but the two callbacks, which need
``pip install 'gamma_nlp[hf]'``.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from gamma_nlp.errors import GammaError, need

if TYPE_CHECKING:
    from gamma_nlp.companions.batch_norm.multipliers import multipliers as multipliers
    from gamma_nlp.companions.batch_norm.penalty import bn_penalty as bn_penalty
    from gamma_nlp.companions.effective_rate.callback import (
        EffectiveRateCallback as EffectiveRateCallback,
    )
    from gamma_nlp.companions.effective_rate.invariance import scale_invariant as scale_invariant
    from gamma_nlp.companions.effective_rate.rate import effective_lr as effective_lr
    from gamma_nlp.companions.effective_rate.unit_norm import UnitNorm as UnitNorm
    from gamma_nlp.companions.strong.callback import StrongCallback as StrongCallback
    from gamma_nlp.companions.strong.compressed import load_compressed as load_compressed
    from gamma_nlp.companions.strong.compressed import save_compressed as save_compressed
    from gamma_nlp.companions.strong.regularizer import StrongRegularizer as StrongRegularizer
    from gamma_nlp.companions.strong.sparsity import sparsity_report as sparsity_report

_MODULES = {
    "EffectiveRateCallback": "effective_rate.callback",
    "StrongCallback": "strong.callback",
    "StrongRegularizer": "strong.regularizer",
    "UnitNorm": "effective_rate.unit_norm",
    "bn_penalty": "batch_norm.penalty",
    "effective_lr": "effective_rate.rate",
    "load_compressed": "strong.compressed",
    "multipliers": "batch_norm.multipliers",
    "save_compressed": "strong.compressed",
    "scale_invariant": "effective_rate.invariance",
    "sparsity_report": "strong.sparsity",
}
_CALLBACKS = ("EffectiveRateCallback", "StrongCallback")

__all__ = [
    name
    for name in _MODULES
    if name not in _CALLBACKS or importlib.util.find_spec("transformers") is not None
]


class MissingExtra(GammaError, ImportError):
    """A name needs a package that is not installed; ``except ImportError`` catches it too."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _CALLBACKS:
        try:
            need("transformers", "hf", f"{name} needs")
        except GammaError as error:
            raise MissingExtra(str(error)) from error
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
