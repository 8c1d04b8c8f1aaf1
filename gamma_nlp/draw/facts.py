"""What is known of each gain besides its place: what a dot tells when it is pointed at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from gamma_nlp.draw.stream import Dot
from gamma_nlp.gains.table import Gain, GainTable, dose_text
from gamma_nlp.rows import collapse, with_ranges, without_numbers


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of gains, by parameter name.

    Attributes:
        coefficients: Decay coefficients under a policy.
        doses: Predicted pulls of a planned run, ``None`` where there is no closed form.
        rms: Root mean square of each gain, offset added; empty where there are no weights.
    """

    coefficients: Mapping[str, float] = field(default_factory=dict)
    doses: Mapping[str, float | None] = field(default_factory=dict)
    rms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line about a dot: gains that agree in all that is shown.

    Attributes:
        gain: Their names, runs of layers in braces, with their number.
        facts: What is known of them, by what it is; the values are ready to be read.
    """

    gain: str
    facts: Mapping[str, str]


def sizes(model: nn.Module, table: GainTable) -> dict[str, float]:
    """Return the root mean square of each gain; without those on the meta device."""
    known = dict(model.named_parameters())
    found = {}
    for gain in table:
        parameter = known[gain.name]
        if parameter.device.type != "meta" and parameter.numel():
            value = parameter.detach().to(torch.float64) + gain.offset
            found[gain.name] = float(value.square().mean().sqrt())
    return found


def entries(dot: Dot, table: Mapping[str, Gain], facts: Facts) -> list[Entry]:
    """Return what to tell of a dot: one entry where all its gains agree."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name in dot.gains:
        gain = table[name]
        coefficient = facts.coefficients.get(name)
        key = (
            str(gain.category),
            gain.kind,
            f"{gain.offset:g}",
            gain.dtype,
            "" if coefficient is None else f"{coefficient:g}",
            dose_text(facts.doses[name], coefficient, gain.dtype) if name in facts.doses else "",
            without_numbers(gain.reason),
        )
        alike.setdefault(key, []).append(name)
    found = []
    for (category, kind, offset, dtype, coefficient_text, dose, _), names in alike.items():
        shown = {
            "category": category,
            "kind": kind,
            "offset": offset,
            "dtype": dtype,
            "coefficient": coefficient_text,
            "dose": dose,
            "root mean square": _range([facts.rms[n] for n in names if n in facts.rms]),
            "why": with_ranges([table[name].reason for name in names]),
        }
        if dot.placed is not dot.category:
            shown["here"] = f"{dot.placed}: another use of the same parameter decides"
        kept = {what: text for what, text in shown.items() if text}
        found.append(Entry(gain=", ".join(collapse(names)), facts=kept))
    return found


def _range(values: list[float]) -> str:
    if not values:
        return ""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
