"""Holm's correction for several comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p; nan stays nan and counts as no comparison.

    As statsmodels' ``multipletests(p, method="holm")``, which collects the garbage of the whole
    process at every call.
    """
    values = np.array(p, dtype=np.float64)
    there = np.flatnonzero(np.isfinite(values))
    order = there[np.argsort(values[there], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    values[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in values]
