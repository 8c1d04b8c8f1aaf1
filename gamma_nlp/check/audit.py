"""Show what the stock Trainer's rule gets wrong in one model.

``transformers.Trainer`` spares a parameter from weight decay if its name contains ``bias`` or a
word such as ``layernorm``, or if it belongs to an ``nn.LayerNorm``. The rule is the installed
transformers' own, so the answer holds for that version.

An *accident* is what neither the rule nor anybody else means:

=============================  ====================================  ===========================
parameter                      the rule decays it                    the rule spares it
=============================  ====================================  ===========================
gain on a skip or head         accident                              as meant
gain in a branch               a heading of its own: the rule does   as meant
                               not mean it, ``guidelines`` does
shift, bias                    accident                              as meant
constant: rate, scale, gate    accident: Megatron spares vectors,    as meant
                               Mamba and S4 mark matrices
class token, latent query,     no accident: authors disagree         no accident
mixing matrix
weight, embedding              as meant                              accident
the same, marked by its        accident                              as meant
author
table of biases on scores      as meant                              no accident: Swin, BEiT and
                                                                     MViT spare it by name
=============================  ====================================  ===========================
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.peer_rules import stock_decayed
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import MIX, TOKENS, UNREACHED, Gain, GainTable
from gamma_nlp.rows import Row, align, merge_layers

SPARED_WORDS = ("bias", "layernorm", "rmsnorm", "norm")


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
        decayed_by_accident: Gains on a skip or head, shifts, biases and constants that it decays.
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
            _section("decayed by accident", self.decayed_by_accident),
            _section(
                "gains in a branch that decay, as under `guidelines`",
                self.decayed_as_under_guidelines,
            ),
            _section("spared by accident", self.spared_by_accident),
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
    decayed: list[Accident] = []
    in_branch: list[Accident] = []
    spared: list[Accident] = []
    offset: list[Accident] = []
    names = [name for name, p in model.named_parameters() if p.requires_grad and name in what]
    for name in names:
        entry = what[name]
        why = ""
        if name in stock and _is_meant_to_be_spared(entry, table.reasons.get(name)):
            why = table.reasons.get(name) or _why_decayed(type(owners[name.rpartition(".")[0]]))
            found = in_branch if _is_in_branch(entry) else decayed
        elif name not in stock and _is_meant_to_decay(entry, name):
            why, found = _why_spared(name), spared
        if why:
            accident = Accident(name=name, what=_what(entry), decayed=name in stock, why=why)
            found.append(accident)
        if isinstance(entry, Gain) and entry.offset:
            why = f"pulled to {entry.offset:g}, not 0; the stock rule "
            why += "decays it" if name in stock else "spares it"
            offset.append(Accident(name=name, what=_what(entry), decayed=name in stock, why=why))
    return Audit(
        model=table.model or type(model).__name__,
        rule=f"the Trainer of transformers {importlib.import_module('transformers').__version__}",
        decayed=sum(name in stock for name in names),
        spared=sum(name not in stock for name in names),
        decayed_by_accident=tuple(decayed),
        decayed_as_under_guidelines=tuple(in_branch),
        spared_by_accident=tuple(spared),
        unit_offset=tuple(offset),
    )


def _is_meant_to_be_spared(entry: Gain | Role, reason: str | None) -> bool:
    if isinstance(entry, Gain):
        return entry.category is not None  # an unused gain has no gradient, so nothing decays it
    return entry not in (Role.WEIGHT, Role.EMBEDDING) and reason not in (TOKENS, MIX, UNREACHED)


def _is_meant_to_decay(entry: Gain | Role, name: str) -> bool:
    return entry is Role.WEIGHT or (entry is Role.EMBEDDING and not _is_table_of_biases(name))


def _is_table_of_biases(name: str) -> bool:
    """Return whether an embedding's author calls it a bias: it is added to attention scores."""
    return "bias" in name.lower()


def _is_in_branch(entry: Gain | Role) -> bool:
    return isinstance(entry, Gain) and entry.category in (
        Category.BRANCH_LAST,
        Category.BRANCH_INNER,
    )


def _what(entry: Gain | Role) -> str:
    if isinstance(entry, Role):
        return entry.value
    return f"gain, {entry.category or 'unused'}"


def _why_decayed(owner: type[nn.Module]) -> str:
    return f"neither its name nor its module ({owner.__name__}) is one that the rule knows"


def _why_spared(name: str) -> str:
    word = next((word for word in SPARED_WORDS if word in name.lower()), None)
    return f"its name holds {word!r}" if word else "it belongs to an nn.LayerNorm"


def _section(title: str, accidents: Sequence[Accident]) -> str:
    if not accidents:
        return f"{title}: none"
    rows = merge_layers([Row(name=a.name, key=(a.what,), reason=a.why) for a in accidents])
    lines = [["  " + row.name, str(row.count), row.key[0], row.reason] for row in rows]
    return f"{title}: {len(accidents)}\n" + align(["  parameter", "n", "what", "why"], lines, {"n"})
