"""Gains that are unlike the same gain in other layers, by a rule that few cannot bend.

The gains of one row of a folded table are peers; those of a row of few layers are compared with
their whole category and kind.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gamma_nlp.diagnose.measures import Measure
from gamma_nlp.gains.table import Gain

DEVIATIONS = 5.0
FLOOR = 0.02
PEERS = 5
_NORMAL = 1.4826  # median absolute deviation -> standard deviation, for normal values
RULE = (
    f"outlier: rms or largest more than {DEVIATIONS:g} deviations from the median of its peers, "
    f"where there are {PEERS} or more:\nthe same gain in other layers, else its category and kind; "
    f"a deviation is {_NORMAL} x the median absolute\ndeviation, at least {100 * FLOOR:g} % of the "
    "median"
)
"""The rule in words, for the foot of a table."""


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """A gain with a value that its peers have not.

    Attributes:
        gain: Which gain.
        what: ``rms`` or ``largest``.
        value: Its value.
        usual: The median of its peers, itself among them.
        deviations: How many deviations it lies above, or below, the median.
        channel: The channel of its largest value.
    """

    gain: Gain
    what: str
    value: float
    usual: float
    deviations: float
    channel: int | None


def outliers(gains: Sequence[Gain], measures: Sequence[Measure]) -> list[Outlier]:
    """Return the outliers among gains, the farthest first; those that are broken are left out."""
    whole = [i for i in range(len(gains)) if not measures[i].broken]
    by_place = _grouped(whole, lambda i: (place_of(gains[i].name), *_sort(gains[i])))
    by_sort = _grouped(whole, lambda i: _sort(gains[i]))
    found = []
    for i in whole:
        place = (place_of(gains[i].name), *_sort(gains[i]))
        peers = by_place[place] if len(by_place[place]) >= PEERS else by_sort[_sort(gains[i])]
        if len(peers) < PEERS:
            continue
        for what in ("rms", "largest"):
            values = [float(getattr(measures[peer], what)) for peer in peers]
            value, usual = float(getattr(measures[i], what)), statistics.median(values)
            spread = _NORMAL * statistics.median(abs(one - usual) for one in values)
            spread = max(spread, FLOOR * usual)
            distance = (value - usual) / spread if spread else math.copysign(math.inf, value)
            if value != usual and abs(distance) > DEVIATIONS:
                found.append(
                    Outlier(
                        gain=gains[i],
                        what=what,
                        value=value,
                        usual=usual,
                        deviations=distance,
                        channel=measures[i].channel,
                    )
                )
    order = {gain.name: i for i, gain in enumerate(gains)}
    return sorted(found, key=lambda one: (-abs(one.deviations), order[one.gain.name], one.what))


def _grouped(numbers: Sequence[int], key: Callable[[int], object]) -> dict[object, list[int]]:
    groups: dict[object, list[int]] = {}
    for i in numbers:
        groups.setdefault(key(i), []).append(i)
    return groups


def _sort(gain: Gain) -> tuple[object, str]:
    return gain.category, gain.kind


def place_of(name: str) -> str:
    """Return a name that is the same in every layer."""
    return ".".join("#" if part.isdecimal() else part for part in name.split("."))
