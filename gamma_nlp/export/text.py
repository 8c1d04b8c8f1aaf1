"""The text of an export: a head that says what was decided, then lines to paste; or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.schedule import LR
from gamma_nlp.export.engine import Engine, Rules
from gamma_nlp.export.names import folded
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.rows import align

MADE_BY = "gamma-nlp export"
"""What every file starts with, so that a later export may replace it."""

MOST_LETTERS = 60
"""Of names beside a pattern; the first is there whatever its length."""

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
    plainly: bool = False,
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
        plainly: Whether patterns hold only where nothing wraps the model or its blocks.
    """
    count = len({*rules.others, *rules.spared, *(n for rule in rules.rules for n in rule.names)})
    names = "the names of its own model code" if own else "the model's own names"
    decay = f"weight decay {rules.weight_decay:g}" + (", in the gradient" if rules.coupled else "")
    lines = [
        f"{MADE_BY}: {source} ({table.model}), policy {policy.name}, {decay}",
        f"for {engine.title}, under {names}; {_versions()}",
        f"checked by {whose}: all {count} parameters decay as the policy says",
        "",
        *_table(rules),
    ]
    if plainly:
        lines += ["", "these patterns hold without activation checkpointing and wrappers only"]
    low = sorted({gain.dtype for gain in table} & set(_LOW))
    if low and policy.rounding == "defer":
        lines += [
            "",
            f"decay that {low[0]} would round away is not gathered there: keep float32 weights",
        ]
    head = [f"# {line}".rstrip() for line in lines]
    return "\n".join([*head, "", *engine.write(rules)]) + "\n"


def _table(rules: Rules) -> list[str]:
    rows = [
        [
            str(len(rule.names)),
            f"{rules.number(rule.multiplier):g}",
            rule.pattern,
            _some(rule.names),
        ]
        for rule in rules.rules
    ]
    if rules.spares_vectors:
        rows.append([str(len(rules.spared)), "0", "weight_decay_exclude_1d", _some(rules.spared)])
    if rules.others:
        rows.append([str(len(rules.others)), f"{rules.base:g}", "all others", ""])
    head = ["parameters", "weight decay", "pattern", "names"]
    return align(head, rows, {"parameters", "weight decay"}).splitlines()


def _some(names: Iterable[str]) -> str:
    found = folded(names)
    shown = found[:1]
    for name in found[1:]:
        if len(", ".join([*shown, name])) > MOST_LETTERS:
            break
        shown.append(name)
    more = f" and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
    return ", ".join(shown) + more


def _versions() -> str:
    transformers = sys.modules.get("transformers")
    also = f", transformers {transformers.__version__}" if transformers is not None else ""
    return f"gamma_nlp {sys.modules['gamma_nlp'].__version__}{also}"


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
        "center": decay.center,
        "mode": decay.mode,
        "schedule": "lr" if decay.schedule == LR else asdict(decay.schedule),
        "rounding": decay.rounding,
    }
