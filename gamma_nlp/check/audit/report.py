"""What an audit found: objects, text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gamma_nlp.check.judge import Heading
from gamma_nlp.rows import Row, align, merge_layers


@dataclass(frozen=True, kw_only=True)
class Accident:
    """A parameter that a rule misjudges, or that is listed under another heading of an audit.

    Attributes:
        name: The parameter.
        what: Its role; for a gain, ``gain`` and the category.
        decayed: Whether the rule decays it.
        why: What in its name, module or shape makes the rule decay or spare it.
    """

    name: str
    what: str
    decayed: bool
    why: str

    @property
    def is_gain(self) -> bool:
        return self.what.startswith("gain")


@dataclass(frozen=True, kw_only=True)
class Part:
    """The trainable parameters of one category or role.

    Attributes:
        what: The role; for gains, ``gain`` and the category.
        trained: How many there are.
        decayed: How many of them decay.
    """

    what: str
    trained: int
    decayed: int


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A rule compared with a gain table; print it, or call :meth:`to_json`.

    Attributes:
        model: The model's class.
        rule: Whose rule it is, with the version.
        decayed: Number of trainable parameters that the rule decays.
        spared: Number of trainable parameters that it spares.
        decayed_by_accident: Gains on a skip or head, gates, shifts, biases and constants that it
            decays.
        decayed_as_by_some_authors: Gains on a skip or head that it decays as it does all batch or
            group norms of the model, and constants that their authors decay too; under a rule that
            decays everything on purpose, all of these but what the model's author marked.
        decayed_as_under_guidelines: Gains in a branch that it decays; the default policy of this
            package decays them too.
        spared_by_accident: Weights and embeddings that it spares, tables of biases left out.
        unit_offset: Gains stored as ``offset + w``: plain decay of w pulls them to the offset
            instead of 0. The rule may spare them; any rule that decays them does this.
        spared_as_by_some_authors: Weights and embeddings that it spares on purpose.
        parts: How many parameters of each category and role decay.
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
    spared_as_by_some_authors: tuple[Accident, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def accidents(self) -> tuple[Accident, ...]:
        """What neither the rule nor anybody else means."""
        return (*self.decayed_by_accident, *self.spared_by_accident)

    def to_json(self) -> dict[str, Any]:
        """Return the audit as plain data: a list per heading, ``accidents`` by name."""
        names = [accident.name for accident in self.accidents]
        return {**_plain(asdict(self)), "accidents": names}

    def __str__(self) -> str:
        head = f"{self.model}: {self.rule} decays {self.decayed} parameters, spares {self.spared}"
        lines = [[part.what, str(part.trained), str(part.decayed)] for part in self.parts]
        table = align(["what", "n", "decayed"], lines, {"n", "decayed"})
        return "\n\n".join([head, table, *self._sections()])

    def _sections(self) -> list[str]:
        found = [
            section(Heading.ACCIDENT.value, self.decayed_by_accident),
            section(Heading.SOME_AUTHORS.value, self.decayed_as_by_some_authors),
            section(Heading.GUIDELINES.value, self.decayed_as_under_guidelines),
            section(Heading.SPARED.value, self.spared_by_accident),
        ]
        if self.spared_as_by_some_authors:
            found.append(section(Heading.SPARED_BY_SOME.value, self.spared_as_by_some_authors))
        title = "gain = offset + w, so plain decay pulls it to the offset"
        return [*found, section(title, self.unit_offset)]


def section(title: str, accidents: Sequence[Accident]) -> str:
    """Return a heading with its number, and a line per parameter; layers that agree share one."""
    if not accidents:
        return f"{title}: none"
    rows = merge_layers([Row(name=a.name, key=(a.what,), reason=a.why) for a in accidents])
    common = rows[0].reason if len(rows) > 1 and len({row.reason for row in rows}) == 1 else ""
    head = ["  parameter", "n", "what"] + ([] if common else ["why"])
    lines = [
        ["  " + row.name, str(row.count), *row.key, *([] if common else [row.reason])]
        for row in rows
    ]
    text = f"{title}: {len(accidents)}\n" + align(head, lines, {"n"})
    return f"{text}\n  all: {common}" if common else text


def _plain(value: Any) -> Any:
    """Return what JSON reads back as it was."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
