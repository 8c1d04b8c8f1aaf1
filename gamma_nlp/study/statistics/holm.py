"""Holm's correction for several comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gamma_nlp.errors import need


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p, by statsmodels; nan stays nan and counts as no comparison."""
    values = np.array(p, dtype=np.float64)
    there = np.isfinite(values)
    if there.any():
        correct = need("statsmodels.stats.multitest", "study", "Holm's correction needs")
        values[there] = correct.multipletests(values[there], method="holm")[1]
    return [float(value) for value in values]
