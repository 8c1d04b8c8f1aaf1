"""Whether a policy has an effect on this model, said in words where it has none.

The default policy spares every gain of a post-norm model, and adapters freeze all of them. Such a
run is no test of the policy, whatever its name says in the report.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase

from torch import distributed

from gamma_nlp.decay.policies.keys import NORMALIZED
from gamma_nlp.decay.policy import PRESETS, DecayPolicy
from gamma_nlp.decay.schedule import LR, Schedule
from gamma_nlp.errors import listed, shown
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.table import Gain, GainTable

logger = logging.getLogger("gamma_nlp")

Rows = Mapping[str, Gain | Role]


def decayed_gains(
    policy: DecayPolicy,
    table: GainTable,
    trained: Collection[str] | None = None,
    spared: Collection[str] | None = None,
) -> list[str]:
    """Return the gains among ``trained`` (``None``: all) that ``policy`` decays.

    ``spared`` is what :func:`gamma_nlp.decay.assign.spared_in` returns.
    """
    return [
        gain.name
        for gain in table
        if (trained is None or gain.name in trained)
        and policy.multiplier(gain.name, gain, spared) > 0
    ]


def without_effect(
    policy: DecayPolicy,
    table: GainTable,
    trained: Collection[str],
    spared: Collection[str] | None = None,
) -> list[str]:
    """Return a sentence for each part of a policy that changes nothing on this model.

    Args:
        policy: The policy.
        table: The model's gain table.
        trained: The names in ``table`` that are not frozen.
        spared: What :func:`gamma_nlp.decay.assign.spared_in` returns.
    """
    rows: Rows = {gain.name: gain for gain in table} | dict(table.roles)
    decayed = {
        name: rows[name]
        for name in rows
        if name in trained and policy.multiplier(name, rows[name], spared) > 0
    }
    notes = [
        *_about_gains(policy, table, trained, spared, decayed),
        *_about_kinds(policy, table),
        *_about_patterns(policy, rows),
        *_about_targets(policy, decayed),
        *_about_schedules(policy, decayed, table.normalized or ()),
    ]
    return [f"policy {shown(policy.name)} {note}" for note in notes]


def say_without_effect(
    policy: DecayPolicy,
    table: GainTable,
    trained: Collection[str],
    spared: Collection[str] | None = None,
) -> None:
    """Warn of each part of a policy without effect, on one process of a run."""
    if distributed.is_available() and distributed.is_initialized() and distributed.get_rank():
        return
    for note in without_effect(policy, table, trained, spared):
        logger.warning(note)


def _about_gains(
    policy: DecayPolicy,
    table: GainTable,
    trained: Collection[str],
    spared: Collection[str] | None,
    decayed: Rows,
) -> Iterator[str]:
    if any(isinstance(what, Gain) for what in decayed.values()) or not policy.decays_gains:
        return
    equal = _equals_none(policy, table, trained, spared)
    if policy.rule != "position":  # to spare gains is what it is for
        if equal:
            yield "decays what the policy 'none' decays on this model"
        return
    note = f"decays no gain of this model: {_why(table, trained)}"
    yield note + ("; here it equals the policy 'none'" if equal else "")


def _about_kinds(policy: DecayPolicy, table: GainTable) -> Iterator[str]:
    if any(policy.kinds is preset.kinds for preset in PRESETS.values()):
        return  # a preset's, not the user's words
    present = {gain.kind for gain in table}
    if missing := [kind for kind in policy.kinds if kind not in present]:
        yield (
            f"sets {listed(missing)} under kinds, which has no effect: the gains of this model are "
            f"{listed(sorted(present)) or 'none'}"
        )


def _about_patterns(policy: DecayPolicy, rows: Rows) -> Iterator[str]:
    left = list(rows)
    for pattern in policy.patterns:
        matched = [name for name in left if fnmatchcase(name, pattern)]
        if not matched:
            yield (
                f"sets pattern {pattern!r}, which has no effect: earlier patterns match all of its "
                "parameters, and the first match wins; put it before them"
            )
        left = [name for name in left if name not in matched]


def _about_targets(policy: DecayPolicy, decayed: Rows) -> Iterator[str]:
    deciding = {policy.target_key(name, what) for name, what in decayed.items()}
    if unused := [key for key in policy.targets if key not in deciding]:
        yield f"sets {listed(unused)} under targets, which has no effect: {_NOT_REACHED}"
    default = [
        name
        for name, what in decayed.items()
        if isinstance(what, Gain) or (what is Role.SHIFT and policy.target == "start")
        if policy.target_key(name, what) is None
    ]
    gains = any(isinstance(what, Gain) for what in decayed.values())
    said = policy.decays_gains and not gains  # that it decays no gain of this model
    if policy.target not in ("zero", "stored") and not default and not said:
        yield f"sets target {policy.target!r}, which has no effect: {_NO_OTHER.format('gain')}"


def _about_schedules(
    policy: DecayPolicy, decayed: Rows, normalized: Collection[str]
) -> Iterator[str]:
    deciding = {
        policy.schedule_key(name, what, normalized=name in normalized)
        for name, what in decayed.items()
    }
    unused = [key for key in policy.schedules if key not in deciding]
    if NORMALIZED in unused and not normalized:
        unused.remove(NORMALIZED)
        yield (
            f"sets {NORMALIZED!r} under schedules, which has no effect: no weight of this model "
            "is followed by a norm on every way to the output"
        )
    if unused:
        yield f"sets {listed(unused)} under schedules, which has no effect: {_NOT_REACHED}"
    if policy.schedule != LR and None not in deciding:
        kind = Schedule.read(policy.schedule).kind
        yield f"sets schedule {kind!r}, which has no effect: {_NO_OTHER.format('parameter')}"


_NOT_REACHED = "nothing that decays here is one of these, or another key decides for it"
_NO_OTHER = "no {} decays here that has none of its own"


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


def _equals_none(
    policy: DecayPolicy,
    table: GainTable,
    trained: Collection[str],
    spared: Collection[str] | None,
) -> bool:
    """Return whether each parameter decays as under ``none``; no gain of it does."""
    rows: Rows = {gain.name: gain for gain in table} | dict(table.roles)
    none, normalized = PRESETS["none"], table.normalized or ()
    if policy.mode != none.mode:
        return False
    for name, what in rows.items():
        if name not in trained:
            continue
        multiplier = policy.multiplier(name, what, spared)
        if multiplier != none.multiplier(name, what):
            return False
        if multiplier and policy.schedule_of(name, what, normalized=name in normalized) != LR:
            return False
    return True
