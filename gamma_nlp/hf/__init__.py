"""Everything that deals with Hugging Face's Trainer, hub and data loading.

Names are imported when they are first used, since transformers takes seconds to import. A name
whose packages are not installed is left out of ``dir()`` and ``__all__``; importing it raises an
ImportError that names the extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gamma_nlp.names import TRAINER, Needs, lazy_names

if TYPE_CHECKING:  # what type checkers and editors see; _PLACES is what Python sees
    from gamma_nlp.decay.saved_state import load_regrouped as load_regrouped
    from gamma_nlp.hf.audit_callback import AuditCallback as AuditCallback
    from gamma_nlp.hf.batches.budget import TokenBudget as TokenBudget
    from gamma_nlp.hf.batches.by_tokens import PairCollator as PairCollator
    from gamma_nlp.hf.batches.by_tokens import TokenBatches as TokenBatches
    from gamma_nlp.hf.batches.token_trainer import TokenBudgetMixin as TokenBudgetMixin
    from gamma_nlp.hf.models import keep_positions as keep_positions

_PLACES = {
    "AuditCallback": "gamma_nlp.hf.audit_callback",
    "PairCollator": "gamma_nlp.hf.batches.by_tokens",
    "TokenBatches": "gamma_nlp.hf.batches.by_tokens",
    "TokenBudget": "gamma_nlp.hf.batches.budget",
    "TokenBudgetMixin": "gamma_nlp.hf.batches.token_trainer",
    "keep_positions": "gamma_nlp.hf.models",
    "load_regrouped": "gamma_nlp.decay.saved_state",
}
_NUMPY = Needs("hf", ("numpy",))  # torch runs without it

if not TYPE_CHECKING:  # else any misspelt name would pass a type check
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        _PLACES,
        needs={
            **dict.fromkeys(("PairCollator", "TokenBatches", "TokenBudget"), _NUMPY),
            **dict.fromkeys(("AuditCallback", "TokenBudgetMixin"), TRAINER),
        },
    )
