"""Gains that are unlike the others of their category and kind, by a rule that few cannot bend."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gamma_nlp.diagnose.measures import Measure
from gamma_nlp.gains.table import Gain

DEVIATIONS = 5.0
FLOOR = 0.02
PEERS = 5
_NORMAL = 1.4826  # median absolute deviation -> standard deviation, for normal values
RULE = (
    f"outlier: rms or largest more than {DEVIATIONS:g} deviations from the median of its category "
    f"and kind,\nwhere there are {PEERS} or more; a deviation is {_NORMAL} x the median absolute "
    f"deviation, at least {100 * FLOOR:g} % of the median"
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
    peers: dict[object, list[int]] = {}
    for i, gain in enumerate(gains):
        if not measures[i].broken:
            peers.setdefault((gain.category, gain.kind), []).append(i)
    found = []
    for own in peers.values():
        if len(own) < PEERS:
            continue
        for what in ("rms", "largest"):
            values = [float(getattr(measures[i], what)) for i in own]
            usual = statistics.median(values)
            spread = _NORMAL * statistics.median(abs(value - usual) for value in values)
            spread = max(spread, FLOOR * usual)
            for i, value in zip(own, values, strict=True):
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
