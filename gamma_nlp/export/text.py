"""The text of an export: a head that says what was decided, then lines to paste; or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import gamma_nlp
from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.export.engine import Engine, Rules
from gamma_nlp.export.names import folded
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.rows import align

MADE_BY = "gamma-nlp export"
"""What every file starts with, so that a later export may replace it."""

MOST_NAMES = 3
_LOW = ("bfloat16", "float16")


def snippet(
    source: str,
    policy: DecayPolicy,
    table: GainTable,
    engine: Engine,
    rules: Rules,
    *,
    whose: str,
    own: bool,
) -> str:
    """Return the lines to paste below a head of comments.

    Args:
        source: What the user calls the model.
        policy: The policy.
        table: Its gain table.
        engine: The engine.
        rules: The decision.
        whose: Whose code applied the rules to check them.
        own: Whether the names are those of the engine's own model code.
    """
    count = len(rules.others) + len({name for rule in rules.rules for name in rule.names})
    names = "the names of its own model code" if own else "the model's own names"
    decay = f"weight decay {rules.weight_decay:g}" + (", in the gradient" if rules.coupled else "")
    lines = [
        f"{MADE_BY}: {source} ({table.model}), policy {policy.name}, {decay}",
        f"for {engine.title}, under {names}; {_versions()}",
        f"checked by {whose}: all {count} parameters decay as the policy says",
        "",
        *_table(rules),
    ]
    low = sorted({gain.dtype for gain in table} & set(_LOW))
    if low and policy.rounding == "defer" and any(gain_decays(table, rules)):
        lines += [
            "",
            f"decay that {low[0]} would round away is not gathered there: keep float32 weights",
        ]
    head = [f"# {line}".rstrip() for line in lines]
    return "\n".join([*head, "", *engine.write(rules)]) + "\n"


def gain_decays(table: GainTable, rules: Rules) -> Iterable[bool]:
    """Say for each value that is not 0 that something decays by it."""
    return (value > 0 for value in (*rules.by_value(), rules.default if rules.others else 0.0))


def _table(rules: Rules) -> list[str]:
    rows = [
        [str(len(rule.names)), f"{rules.number(rule.multiplier):g}", rule.pattern, _some(rule.names)]
        for rule in rules.rules
    ]
    if rules.spares_vectors:
        note = "vectors and biases do not decay: the engine's own rule"
        rows.append(["", "0", "", note])
    if rules.others:
        rows.append([str(len(rules.others)), f"{rules.base:g}", "all others", ""])
    head = ["parameters", "weight decay", "pattern", "names"]
    return align(head, rows, {"parameters", "weight decay"}).splitlines()


def _some(names: Iterable[str]) -> str:
    found = folded(names)
    more = f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
    return ", ".join(found[:MOST_NAMES]) + more


def _versions() -> str:
    transformers = sys.modules.get("transformers")
    also = f", transformers {transformers.__version__}" if transformers is not None else ""
    return f"gamma_nlp {gamma_nlp.__version__}{also}"


def listing(
    source: str,
    policy: DecayPolicy,
    weight_decay: float,
    table: GainTable,
    decays: Mapping[str, Decay],
) -> str:
    """Return every trained parameter as JSON: what it is, how it decays, and why it is that."""
    rows: dict[str, Gain | Any] = {gain.name: gain for gain in table} | dict(table.roles)
    data = {
        "made_by": MADE_BY,
        "model": source,
        "class": table.model,
        "policy": policy.name,
        "weight_decay": weight_decay,
        "versions": _versions(),
        "parameters": [
            {"name": name, **_what(rows[name], table.reasons.get(name)), **_how(decay)}
            for name, decay in decays.items()
        ],
    }
    return json.dumps(data, indent=2) + "\n"


def _what(row: Any, reason: str | None) -> dict[str, Any]:
    if not isinstance(row, Gain):
        return {"role": row.value} | ({"reason": reason} if reason else {})
    category = row.category.value if row.category is not None else "unused"
    return {"category": category, "kind": row.kind, "offset": row.offset, "reason": row.reason}


def _how(decay: Decay) -> dict[str, Any]:
    if not decay.coefficient:
        return {"weight_decay": 0.0}
    return {
        "weight_decay": decay.coefficient,
        "toward": decay.center,
        "mode": decay.mode,
        "schedule": asdict(decay.schedule),
        "rounding": decay.rounding,
    }
