"""What the probe says of one gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gamma_nlp.gains.category import Category

Verdict = Literal["agrees", "contradicts", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the probe measured for one gain.

    Attributes:
        name: The parameter.
        claimed: The category in the table.
        measured: The category that the experiments give; ``None`` where the gain is not used.
        verdict: ``agrees``, ``contradicts`` or ``inconclusive``.
        deviation: The relative movement of what should move. For ``branch_last`` what is left of
            the summand when the gain is 0.
        tolerance: What the deviation is held against.
        why: The experiment that settled it, in words.
    """

    name: str
    claimed: Category | None
    measured: Category | None
    verdict: Verdict
    deviation: float
    tolerance: float
    why: str
