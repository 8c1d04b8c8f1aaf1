"""A diagnosis for machines: JSON, and one CSV row per gain and checkpoint."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from gamma_nlp.diagnose.diagnosis import Diagnosis, category_of
from gamma_nlp.diagnose.measures import Measure
from gamma_nlp.diagnose.report import layer_of

_COLUMNS = ("checkpoint", "step", "gain", "layer", "category", "kind", "offset", "elements")
_MEASURES = ("rms", "largest", "channel", "near_zero", "broken")


def to_json(found: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as plain data; what is not finite is ``null``."""
    return {
        "model": found.model,
        "placed_by": str(found.placed_by),
        "near_zero_below": found.near,
        "checkpoints": [
            {"label": state.label, "path": str(state.path), "step": state.step}
            for state in found.states
        ],
        "categories": {
            name: {
                "gains": len(gains),
                "elements": sum(gain.numel for gain in gains),
                "growth": _number(found.growth(gains)),
                "checkpoints": [_measure(one) for one in found.over(gains)],
            }
            for name, gains in found.categories.items()
        },
        "gains": [
            {
                "name": gain.name,
                "layer": layer_of(gain.name),
                "category": None if gain.category is None else gain.category.value,
                "kind": gain.kind,
                "offset": gain.offset,
                "elements": gain.numel,
                "growth": _number(found.growth([gain])),
                "checkpoints": [_measure(state.measures[gain.name]) for state in found.states],
            }
            for gain in found.gains
        ],
        "outliers": [
            {
                "name": one.gain.name,
                "layer": layer_of(one.gain.name),
                "category": category_of(one.gain),
                "what": one.what,
                "value": one.value,
                "usual": one.usual,
                "deviations": _number(one.deviations),
                "channel": one.channel,
            }
            for one in found.outliers
        ],
        "not_finite": [
            {"name": gain.name, "checkpoint": str(state.path)} for state, gain in found.broken
        ],
    }


def to_csv(found: Diagnosis) -> str:
    """Return a header and one row per gain and checkpoint."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*_COLUMNS, *_MEASURES])
    for state in found.states:
        for gain in found.gains:
            one = state.measures[gain.name]
            step = "" if state.step is None else state.step
            rows.writerow(
                [state.path, step, gain.name, layer_of(gain.name), category_of(gain), gain.kind]
                + [gain.offset, gain.numel]
                + [getattr(one, name) for name in _MEASURES]
            )
    return text.getvalue()


def _measure(one: Measure) -> dict[str, Any]:
    return {name: _number(getattr(one, name)) for name in _MEASURES}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
