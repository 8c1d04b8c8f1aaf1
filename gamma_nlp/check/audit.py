"""What the stock Trainer's rule gets wrong in one model.

``transformers.Trainer`` spares a parameter from weight decay when its name holds ``bias`` or a
word such as ``layernorm``, or when it belongs to an ``nn.LayerNorm``. A gain with another name
decays by accident; a weight with such a name is spared by accident. The rule is asked of the
installed transformers, not copied, so that the answer holds for the version at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.rows import Row, align, merge_layers

SPARED_WORDS = ("bias", "layernorm", "rmsnorm", "norm")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One parameter: what it is, whether the stock rule decays it, and why that is an accident."""

    name: str
    what: str
    decayed: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The stock rule held against a gain table; ``str`` reads well, :meth:`to_json` is data.

    Attributes:
        model: The model's class.
        rule: Whose rule was asked, with its version.
        decayed: Trainable parameters that the rule decays.
        spared: Trainable parameters that it spares.
        decayed_by_accident: Gains, shifts, biases and ``other`` parameters that it decays.
        spared_by_accident: Weights and embeddings that it spares.
        unit_offset: Gains stored as ``offset + w``: plain decay of w pulls them to the offset
            instead of 0. The stock rule may spare them; any rule that decays them does this.
    """

    model: str
    rule: str
    decayed: int
    spared: int
    decayed_by_accident: tuple[Finding, ...]
    spared_by_accident: tuple[Finding, ...]
    unit_offset: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, a list of findings per heading."""
        data = asdict(self)
        data.update({key: list(value) for key, value in data.items() if isinstance(value, tuple)})
        return data

    def __str__(self) -> str:
        head = f"{self.model}: {self.rule} decays {self.decayed} parameters, spares {self.spared}"
        parts = [
            _section("decayed by accident", self.decayed_by_accident),
            _section("spared by accident", self.spared_by_accident),
            _section("gain = offset + w, so plain decay pulls it to the offset", self.unit_offset),
        ]
        return "\n\n".join([head, *parts])


def audit(model: nn.Module, table: GainTable | None = None) -> Audit:
    """Hold the stock Trainer's choice of decayed parameters against what the parameters are.

    Args:
        model: Any module, on the meta device too. Frozen parameters are left out, since the
            Trainer trains none.
        table: The model's gain table, if it is at hand already.

    Raises:
        GammaError: if transformers is missing, or the model's gains cannot be placed.
    """
    stock = stock_decayed(model)
    table = categorize(model) if table is None else table
    what: dict[str, Gain | Role] = {**{gain.name: gain for gain in table}, **table.roles}
    owners = dict(model.named_modules(remove_duplicate=False))
    decayed: list[Finding] = []
    spared: list[Finding] = []
    offset: list[Finding] = []
    names = [name for name, p in model.named_parameters() if p.requires_grad and name in what]
    for name in names:
        entry = what[name]
        # A gain, shift or bias that the rule spares is what it means to do.
        wanted = entry in (Role.WEIGHT, Role.EMBEDDING)
        if (name in stock) != wanted:
            owner = type(owners[name.rpartition(".")[0]]).__name__
            why = _why_decayed(owner) if name in stock else _why_spared(name)
            found = Finding(name=name, what=_what(entry), decayed=name in stock, why=why)
            (decayed if name in stock else spared).append(found)
        if isinstance(entry, Gain) and entry.offset:
            why = f"pulled to {entry.offset:g}, not 0; the stock rule "
            why += "decays it" if name in stock else "spares it"
            offset.append(Finding(name=name, what=_what(entry), decayed=name in stock, why=why))
    return Audit(
        model=table.model or type(model).__name__,
        rule=f"the Trainer of transformers {_version()}",
        decayed=sum(name in stock for name in names),
        spared=sum(name not in stock for name in names),
        decayed_by_accident=tuple(decayed),
        spared_by_accident=tuple(spared),
        unit_offset=tuple(offset),
    )


def stock_decayed(model: nn.Module) -> set[str]:
    """Names of the parameters that the installed ``transformers.Trainer`` would decay."""
    try:
        from transformers import Trainer
    except ImportError as error:
        raise GammaError(
            "the audit asks the Trainer of transformers: pip install 'gamma_nlp[hf]'"
        ) from error
    # The method reads nothing of its trainer, and making one would need a run's arguments.
    nobody: Any = None
    return set(Trainer.get_decay_parameter_names(nobody, model))


def _version() -> str:
    import transformers

    return str(transformers.__version__)


def _what(entry: Gain | Role) -> str:
    if isinstance(entry, Role):
        return entry.value
    return f"gain, {entry.category or 'unused'}"


def _why_decayed(owner: str) -> str:
    return f"neither its name nor its module ({owner}) is one that the rule knows"


def _why_spared(name: str) -> str:
    word = next((word for word in SPARED_WORDS if word in name.lower()), None)
    return f"its name holds {word!r}" if word else "it belongs to an nn.LayerNorm"


def _section(title: str, findings: Sequence[Finding]) -> str:
    if not findings:
        return f"{title}: none"
    rows = merge_layers([Row(name=f.name, key=(f.what,), reason=f.why) for f in findings])
    lines = [["  " + row.name, str(row.count), row.key[0], row.reason] for row in rows]
    return f"{title}: {len(findings)}\n" + align(["  parameter", "n", "what", "why"], lines, {"n"})
