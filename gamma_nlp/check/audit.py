"""Show what the stock Trainer's rule gets wrong in one model.

``transformers.Trainer`` spares a parameter from weight decay if its name contains ``bias`` or a
word such as ``layernorm``, or if it belongs to an ``nn.LayerNorm``. The rule is the installed
transformers' own, so the answer holds for that version. What counts as an accident is in
:mod:`gamma_nlp.check.judge`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from gamma_nlp.check.judge import Heading, Judge
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.peer_rules import stock_decayed
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.rows import Row, align, merge_layers


@dataclass(frozen=True, kw_only=True)
class Accident:
    """A parameter that the stock rule misjudges.

    Attributes:
        name: The parameter.
        what: Its role; for a gain, ``gain`` and the category.
        decayed: Whether the rule decays it.
        why: What in its name or module makes the rule decay or spare it.
    """

    name: str
    what: str
    decayed: bool
    why: str

    @property
    def is_gain(self) -> bool:
        return self.what.startswith("gain")


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The stock rule compared with a gain table; print it, or call :meth:`to_json`.

    Attributes:
        model: The model's class.
        rule: Whose rule it is, with the version.
        decayed: Number of trainable parameters that the rule decays.
        spared: Number of trainable parameters that it spares.
        decayed_by_accident: Gains on a skip or head, gates, shifts, biases and constants that it
            decays.
        decayed_as_by_some_authors: Gains on a skip or head that it decays as it does all batch or
            group norms of the model, and constants that their authors decay too.
        decayed_as_under_guidelines: Gains in a branch that it decays, although it means to spare
            gains; the default policy of this package decays them too.
        spared_by_accident: Weights and embeddings that it spares, tables of biases left out.
        unit_offset: Gains stored as ``offset + w``: plain decay of w pulls them to the offset
            instead of 0. The stock rule may spare them; any rule that decays them does this.
    """

    model: str
    rule: str
    decayed: int
    spared: int
    decayed_by_accident: tuple[Accident, ...]
    decayed_as_by_some_authors: tuple[Accident, ...]
    decayed_as_under_guidelines: tuple[Accident, ...]
    spared_by_accident: tuple[Accident, ...]
    unit_offset: tuple[Accident, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the audit as plain data, with a list of accidents per heading."""
        data = asdict(self)
        data.update({key: list(value) for key, value in data.items() if isinstance(value, tuple)})
        return data

    def __str__(self) -> str:
        head = f"{self.model}: {self.rule} decays {self.decayed} parameters, spares {self.spared}"
        parts = [
            _section(Heading.ACCIDENT.value, self.decayed_by_accident),
            _section(Heading.SOME_AUTHORS.value, self.decayed_as_by_some_authors),
            _section(Heading.GUIDELINES.value, self.decayed_as_under_guidelines),
            _section(Heading.SPARED.value, self.spared_by_accident),
            _section("gain = offset + w, so plain decay pulls it to the offset", self.unit_offset),
        ]
        return "\n\n".join([head, *parts])


def audit(model: nn.Module, table: GainTable | None = None) -> Audit:
    """Compare the parameters that the stock Trainer decays with what the parameters are.

    Args:
        model: Any module, also on the meta device. Frozen parameters are left out, since the
            Trainer does not train them.
        table: The model's gain table; by default ``categorize(model)``.

    Raises:
        GammaError: transformers is not installed, or the model's gains cannot be placed.
    """
    stock = stock_decayed(model)
    table = categorize(model) if table is None else table
    what: dict[str, Gain | Role] = {**{gain.name: gain for gain in table}, **table.roles}
    owners = dict(model.named_modules(remove_duplicate=False))
    found: dict[Heading, list[Accident]] = {heading: [] for heading in Heading}
    offset: list[Accident] = []
    names = [name for name, p in model.named_parameters() if p.requires_grad and name in what]
    judge = Judge(table, stock, names)
    for name in names:
        entry = what[name]
        judged = judge(name, owners[name.rpartition(".")[0]])
        if judged is not None:
            heading, why = judged
            accident = Accident(name=name, what=_what(entry), decayed=name in stock, why=why)
            found[heading].append(accident)
        if isinstance(entry, Gain) and entry.offset:
            why = f"pulled to {entry.offset:g}, not 0; the stock rule "
            why += "decays it" if name in stock else "spares it"
            offset.append(Accident(name=name, what=_what(entry), decayed=name in stock, why=why))
    return Audit(
        model=table.model or type(model).__name__,
        rule=f"the Trainer of transformers {importlib.import_module('transformers').__version__}",
        decayed=sum(name in stock for name in names),
        spared=sum(name not in stock for name in names),
        decayed_by_accident=tuple(found[Heading.ACCIDENT]),
        decayed_as_by_some_authors=tuple(found[Heading.SOME_AUTHORS]),
        decayed_as_under_guidelines=tuple(found[Heading.GUIDELINES]),
        spared_by_accident=tuple(found[Heading.SPARED]),
        unit_offset=tuple(offset),
    )


def _what(entry: Gain | Role) -> str:
    if isinstance(entry, Role):
        return entry.value
    return f"gain, {entry.category or 'unused'}"


def _section(title: str, accidents: Sequence[Accident]) -> str:
    if not accidents:
        return f"{title}: none"
    rows = merge_layers([Row(name=a.name, key=(a.what,), reason=a.why) for a in accidents])
    lines = [["  " + row.name, str(row.count), row.key[0], row.reason] for row in rows]
    return f"{title}: {len(accidents)}\n" + align(["  parameter", "n", "what", "why"], lines, {"n"})
