"""Weight decay for normalisation gains, by where each gain sits in the model.

>>> from torch import nn
>>> import gamma_nlp
>>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))

``gamma_nlp.categorize(model)`` places every gain, ``gamma_nlp.param_groups`` and
``gamma_nlp.make_optimizer`` turn the places into decay, ``gamma_nlp.GammaTrainer`` trains with
it. torch alone is enough for all but the trainers, which need ``pip install 'gamma_nlp[hf]'``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gamma_nlp.audit import audit
from gamma_nlp.categorize import categorize
from gamma_nlp.category import Category, Role
from gamma_nlp.companions.bn_penalty import bn_penalty
from gamma_nlp.companions.compressed import load_compressed, save_compressed
from gamma_nlp.companions.effective import effective_lr
from gamma_nlp.companions.invariance import scale_invariant
from gamma_nlp.companions.multipliers import multipliers
from gamma_nlp.companions.sparsity import sparsity_report
from gamma_nlp.companions.strong import StrongRegularizer
from gamma_nlp.companions.unit_norm import UnitNorm
from gamma_nlp.dose import decay_dose
from gamma_nlp.errors import GammaError
from gamma_nlp.gains import Gain, GainTable
from gamma_nlp.groups import param_groups
from gamma_nlp.optim import make_optimizer
from gamma_nlp.policy import DecayPolicy
from gamma_nlp.precision import gains_to_fp32
from gamma_nlp.probe import ProbeReport, probe

if TYPE_CHECKING:
    from gamma_nlp.companions.rates import EffectiveRateCallback
    from gamma_nlp.companions.strong_log import StrongCallback
    from gamma_nlp.token_batches import PairCollator, TokenBatches
    from gamma_nlp.token_budget import TokenBudget
    from gamma_nlp.token_trainer import TokenBudgetMixin
    from gamma_nlp.trainer import GammaSeq2SeqTrainer, GammaTrainer, GammaTrainerMixin

__version__ = "0.1.0"

__all__ = [
    "Category",
    "DecayPolicy",
    "EffectiveRateCallback",
    "Gain",
    "GainTable",
    "GammaError",
    "GammaSeq2SeqTrainer",
    "GammaTrainer",
    "GammaTrainerMixin",
    "PairCollator",
    "ProbeReport",
    "Role",
    "StrongCallback",
    "StrongRegularizer",
    "TokenBatches",
    "TokenBudget",
    "TokenBudgetMixin",
    "UnitNorm",
    "__version__",
    "audit",
    "bn_penalty",
    "categorize",
    "decay_dose",
    "effective_lr",
    "gains_to_fp32",
    "load_compressed",
    "make_optimizer",
    "multipliers",
    "param_groups",
    "probe",
    "save_compressed",
    "scale_invariant",
    "sparsity_report",
]

_FOR_TRAINING = {
    "EffectiveRateCallback": "companions.rates",
    "GammaSeq2SeqTrainer": "trainer",
    "GammaTrainer": "trainer",
    "GammaTrainerMixin": "trainer",
    "PairCollator": "token_batches",
    "StrongCallback": "companions.strong_log",
    "TokenBatches": "token_batches",
    "TokenBudget": "token_budget",
    "TokenBudgetMixin": "token_trainer",
}


def __getattr__(name: str) -> Any:
    """Import what training needs when it is asked for: transformers takes seconds to import."""
    if name not in _FOR_TRAINING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"gamma_nlp.{_FOR_TRAINING[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("gamma_nlp"):
            raise
        raise GammaError(f"{name} needs {error.name}: pip install 'gamma_nlp[hf]'") from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
