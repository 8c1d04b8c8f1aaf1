"""Whether a policy has an effect on this model, said in words where it has none.

The default policy spares every gain of a post-norm model, and adapters freeze all of them. Such a
run is no test of the policy, whatever its name says in the report.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from fnmatch import fnmatchcase

from torch import distributed

from gamma_nlp.decay.policy import PRESETS, DecayPolicy
from gamma_nlp.errors import listed
from gamma_nlp.gains.table import Gain, GainTable

logger = logging.getLogger("gamma_nlp")


def decayed_gains(
    policy: DecayPolicy, table: GainTable, trained: Collection[str] | None = None
) -> list[str]:
    """Return the gains among ``trained`` (``None``: all) that ``policy`` decays."""
    return [
        gain.name
        for gain in table
        if (trained is None or gain.name in trained) and policy.multiplier(gain.name, gain) > 0
    ]


def without_effect(policy: DecayPolicy, table: GainTable, trained: Collection[str]) -> list[str]:
    """Return a sentence for each part of a policy that changes nothing on this model.

    Args:
        policy: The policy.
        table: The model's gain table.
        trained: The names in ``table`` that are not frozen.
    """
    notes = []
    if policy.decays_gains and not decayed_gains(policy, table, trained):
        note = f"policy {policy.name!r} decays no gain of this model: {_why(table, trained)}"
        if _equals_none(policy, table, trained):
            note += "; here it equals the policy 'none'"
        notes.append(note)
    present = {gain.kind for gain in table}
    if missing := [kind for kind in policy.kinds if kind not in present]:
        notes.append(
            f"policy {policy.name!r} sets {listed(missing)} under kinds, which has no effect: the "
            f"gains of this model are {listed(sorted(present)) or 'none'}"
        )
    left = [*(gain.name for gain in table), *table.roles]
    for pattern in policy.patterns:
        matched = [name for name in left if fnmatchcase(name, pattern)]
        if not matched:
            notes.append(
                f"policy {policy.name!r}: pattern {pattern!r} has no effect: earlier patterns "
                "match all of its parameters, and the first match wins; put it before them"
            )
        left = [name for name in left if name not in matched]
    return notes


def say_without_effect(policy: DecayPolicy, table: GainTable, trained: Collection[str]) -> None:
    """Warn of each part of a policy without effect, on one process of a run."""
    if distributed.is_available() and distributed.is_initialized() and distributed.get_rank():
        return
    for note in without_effect(policy, table, trained):
        logger.warning(note)


def _why(table: GainTable, trained: Collection[str]) -> str:
    if not len(table):
        return "it has none"
    if not (gains := [gain for gain in table if gain.name in trained]):
        return f"all {len(table)} are frozen" if len(table) > 1 else "its one gain is frozen"
    counts = Counter(_place(gain) for gain in gains)
    frozen = len(table) - len(gains)
    places = ", ".join(f"{number} {place}" for place, number in counts.items())
    return f"it trains {places}" + (f"; {frozen} are frozen" if frozen else "")


def _place(gain: Gain) -> str:
    return "unused" if gain.category is None else gain.category.value


def _equals_none(policy: DecayPolicy, table: GainTable, trained: Collection[str]) -> bool:
    rows = {gain.name: gain for gain in table} | dict(table.roles)
    none = PRESETS["none"]
    same = ("mode", "schedule", "schedules")
    return all(getattr(policy, key) == getattr(none, key) for key in same) and all(
        policy.multiplier(name, rows[name]) == none.multiplier(name, rows[name]) for name in trained
    )
