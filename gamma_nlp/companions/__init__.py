"""Three companion methods, one folder each: what weight decay does besides the gains.

* ``effective_rate``: the effective learning rate of scale-invariant weights, and unit norm.
* ``strong``: L1 and L2 only at the steps at which learning survives them; sparse files.
* ``batch_norm``: the ridge penalty that a batch norm amounts to, and its multipliers.

A name is imported when it is first used. torch is enough for all but the two callbacks, which need
``pip install 'gamma_nlp[hf]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gamma_nlp.names import TRAINER, lazy_names

if TYPE_CHECKING:  # what type checkers and editors see; _PLACES is what Python sees
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

_PLACES = {
    "EffectiveRateCallback": f"{__name__}.effective_rate.callback",
    "StrongCallback": f"{__name__}.strong.callback",
    "StrongRegularizer": f"{__name__}.strong.regularizer",
    "UnitNorm": f"{__name__}.effective_rate.unit_norm",
    "bn_penalty": f"{__name__}.batch_norm.penalty",
    "effective_lr": f"{__name__}.effective_rate.rate",
    "load_compressed": f"{__name__}.strong.compressed",
    "multipliers": f"{__name__}.batch_norm.multipliers",
    "save_compressed": f"{__name__}.strong.compressed",
    "scale_invariant": f"{__name__}.effective_rate.invariance",
    "sparsity_report": f"{__name__}.strong.sparsity",
}
_CALLBACKS = ("EffectiveRateCallback", "StrongCallback")

if not TYPE_CHECKING:  # else any misspelt name would pass a type check
    __getattr__, __dir__, __all__ = lazy_names(
        __name__, _PLACES, needs=dict.fromkeys(_CALLBACKS, TRAINER)
    )
