"""Weight decay for normalisation gains, by where each gain sits in the model.

>>> import torch
>>> from torch import nn
>>> import gamma_nlp
>>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
>>> table = gamma_nlp.categorize(model, inputs=torch.randn(3, 4))
>>> groups = gamma_nlp.param_groups(model, weight_decay=0.1, policy="guidelines", table=table)
>>> optimizer = torch.optim.AdamW(groups, lr=1e-3)

``gamma_nlp.categorize(model)`` places every gain, ``gamma_nlp.param_groups`` and
``gamma_nlp.make_optimizer`` turn the places into decay, ``gamma_nlp.GammaTrainer`` trains with
it. ``gamma_nlp.audit`` and ``gamma_nlp.probe`` check. torch alone is enough for all but the audit
and the trainers, which need ``pip install 'gamma_nlp[hf]'``.

More names are in ``gamma_nlp.companions`` (three related methods) and
``gamma_nlp.hf`` (batches by tokens). Nothing is imported before it is used, not even torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gamma_nlp.names import MOVED, TRAINER, lazy_names

if TYPE_CHECKING:  # what type checkers and editors see; _PLACES is what Python sees
    from gamma_nlp.check.audit.compare import audit as audit
    from gamma_nlp.check.probe.probe import probe as probe
    from gamma_nlp.check.probe.report import ProbeReport as ProbeReport
    from gamma_nlp.decay.dose import decay_dose as decay_dose
    from gamma_nlp.decay.groups import param_groups as param_groups
    from gamma_nlp.decay.optimizer import make_optimizer as make_optimizer
    from gamma_nlp.decay.policy import DecayPolicy as DecayPolicy
    from gamma_nlp.decay.precision import gains_to_fp32 as gains_to_fp32
    from gamma_nlp.errors import GammaError as GammaError
    from gamma_nlp.gains.category import Category as Category
    from gamma_nlp.gains.category import Role as Role
    from gamma_nlp.gains.placement import categorize as categorize
    from gamma_nlp.gains.table import Gain as Gain
    from gamma_nlp.gains.table import GainTable as GainTable
    from gamma_nlp.hf.trainer import GammaSeq2SeqTrainer as GammaSeq2SeqTrainer
    from gamma_nlp.hf.trainer import GammaTrainer as GammaTrainer
    from gamma_nlp.hf.trainer import GammaTrainerMixin as GammaTrainerMixin

__version__ = "0.1.0"

_PLACES = {
    "Category": "gamma_nlp.gains.category",
    "DecayPolicy": "gamma_nlp.decay.policy",
    "Gain": "gamma_nlp.gains.table",
    "GainTable": "gamma_nlp.gains.table",
    "GammaError": "gamma_nlp.errors",
    "GammaSeq2SeqTrainer": "gamma_nlp.hf.trainer",
    "GammaTrainer": "gamma_nlp.hf.trainer",
    "GammaTrainerMixin": "gamma_nlp.hf.trainer",
    "ProbeReport": "gamma_nlp.check.probe.report",
    "Role": "gamma_nlp.gains.category",
    "audit": "gamma_nlp.check.audit.compare",
    "categorize": "gamma_nlp.gains.placement",
    "decay_dose": "gamma_nlp.decay.dose",
    "gains_to_fp32": "gamma_nlp.decay.precision",
    "make_optimizer": "gamma_nlp.decay.optimizer",
    "param_groups": "gamma_nlp.decay.groups",
    "probe": "gamma_nlp.check.probe.probe",
}
_BEHIND_HF = (
    *("GammaSeq2SeqTrainer", "GammaTrainer", "GammaTrainerMixin", "EffectiveRateCallback"),
    *("PairCollator", "StrongCallback", "TokenBatches", "TokenBudget", "TokenBudgetMixin"),
)

if not TYPE_CHECKING:  # else any misspelt name would pass a type check
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        _PLACES,
        needs=dict.fromkeys(_BEHIND_HF, TRAINER),
        folders=("companions", "hf"),
        moved=MOVED,
    )
