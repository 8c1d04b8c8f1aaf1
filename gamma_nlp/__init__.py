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

from gamma_nlp.check.audit import audit
from gamma_nlp.check.probe.probe import probe
from gamma_nlp.check.probe.report import ProbeReport
from gamma_nlp.companions.batch_norm.multipliers import multipliers
from gamma_nlp.companions.batch_norm.penalty import bn_penalty
from gamma_nlp.companions.effective_rate.invariance import scale_invariant
from gamma_nlp.companions.effective_rate.rate import effective_lr
from gamma_nlp.companions.effective_rate.unit_norm import UnitNorm
from gamma_nlp.companions.strong.compressed import load_compressed, save_compressed
from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from gamma_nlp.companions.strong.sparsity import sparsity_report
from gamma_nlp.decay.dose import decay_dose
from gamma_nlp.decay.groups import param_groups
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.precision import gains_to_fp32
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import Gain, GainTable

if TYPE_CHECKING:
    from gamma_nlp.companions.effective_rate.callback import EffectiveRateCallback
    from gamma_nlp.companions.strong.callback import StrongCallback
    from gamma_nlp.hf.batches.budget import TokenBudget
    from gamma_nlp.hf.batches.by_tokens import PairCollator, TokenBatches
    from gamma_nlp.hf.batches.token_trainer import TokenBudgetMixin
    from gamma_nlp.hf.trainer import GammaSeq2SeqTrainer, GammaTrainer, GammaTrainerMixin

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
    "EffectiveRateCallback": "companions.effective_rate.callback",
    "GammaSeq2SeqTrainer": "hf.trainer",
    "GammaTrainer": "hf.trainer",
    "GammaTrainerMixin": "hf.trainer",
    "PairCollator": "hf.batches.by_tokens",
    "StrongCallback": "companions.strong.callback",
    "TokenBatches": "hf.batches.by_tokens",
    "TokenBudget": "hf.batches.budget",
    "TokenBudgetMixin": "hf.batches.token_trainer",
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
