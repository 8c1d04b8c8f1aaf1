"""What an audit of an optimizer found: objects, text and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gamma_nlp.check.audit.report import Accident, Audit, section
from gamma_nlp.check.judge import Heading
from gamma_nlp.rows import align


@dataclass(frozen=True, kw_only=True)
class Act:
    """What optimizers do to the trainable parameters of one category or role.

    Attributes:
        what: The role; for gains, ``gain`` and the category.
        trained: How many there are in the optimizer.
        decayed: How many of them decay.
        coefficient: The smallest and the largest weight decay among all of them.
        modes: How it acts: ``decoupled``, ``coupled`` (L2 in the gradient) or ``unknown``.
        toward: What it pulls those that decay to: for gains the gain, for others the parameter.
        rate: The smallest and the largest peak learning rate; ``None`` where it is not known.
        step: The smallest and the largest part that a decoupled step at that rate takes; ``None``
            where no decay is decoupled.
    """

    what: str
    trained: int
    decayed: int
    coefficient: tuple[float, float]
    modes: tuple[str, ...]
    toward: tuple[str, ...]
    rate: tuple[float, float] | None
    step: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class OptimizerAudit(Audit):
    """An optimizer compared with a model and its gain table; print it, or call :meth:`to_json`.

    The fields of :class:`Audit` say what it decays and spares. ``unit_offset`` lists the gains
    stored as ``offset + w`` that it pulls to the offset, and no others. Whether it decays gains and
    biases on purpose cannot be seen; one that decays all of them is taken to do so.

    Attributes:
        acts: What each category and role really decays by.
        missing: Trainable parameters that no optimizer holds: they never move.
        twice: Parameters that are in two places: each step moves them twice.
        frozen: Frozen parameters that it holds. It skips what has no gradient.
        moving: Those among them that still have a gradient, and so move and decay.
        foreign: Tensors that are not this model's: nothing of the model moves with them.
        unhooked: Parameters whose group asks for a step hook that the optimizer lacks.
        cancelled: Parameters whose decay rounding takes, at the largest rate of their group.
        masters: How many parameters it holds as a copy in float32.
        groups: Number of parameter groups.
        more_groups: Groups that could be one, or hold nothing.
        rates: The learning rates, where they differ by group.
        notes: What else to know.
    """

    acts: tuple[Act, ...] = ()
    missing: tuple[Accident, ...] = ()
    twice: tuple[Accident, ...] = ()
    frozen: tuple[Accident, ...] = ()
    moving: tuple[Accident, ...] = ()
    foreign: tuple[Accident, ...] = ()
    unhooked: tuple[Accident, ...] = ()
    cancelled: tuple[Accident, ...] = ()
    masters: int = 0
    groups: int = 0
    more_groups: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def accidents(self) -> tuple[Accident, ...]:
        """What nobody means, the rule's accidents last."""
        wrong = (self.missing, self.twice, self.moving, self.foreign, self.unhooked)
        return (*(one for found in wrong for one in found), *super().accidents)

    def __str__(self) -> str:
        groups = "1 group" if self.groups == 1 else f"{self.groups} groups"
        head = f"{self.model}: {self.rule}, {groups}, decays {self.decayed} parameters, spares "
        head += str(self.spared)
        if self.masters:
            head += f"; {self.masters} of them as copies in float32"
        return "\n\n".join([head, _table(self.acts), *self._sections()])

    def _sections(self) -> list[str]:
        found = [
            *_present("missing: trainable, and in no group", self.missing),
            *_present("twice: each step moves them twice", self.twice),
            *_present("frozen, but with a gradient, so that they move", self.moving),
            *_shortened("foreign: not of this model", self.foreign),
            *_present("asks for a step hook that is not there", self.unhooked),
            section(Heading.ACCIDENT.value, self.decayed_by_accident),
            section(Heading.SPARED.value, self.spared_by_accident),
            *_present(Heading.SOME_AUTHORS.value, self.decayed_as_by_some_authors),
            *_present(Heading.GUIDELINES.value, self.decayed_as_under_guidelines),
            *_present(Heading.SPARED_BY_SOME.value, self.spared_as_by_some_authors),
            *_present("gain = offset + w, pulled to the offset", self.unit_offset),
            *_present("decay that rounding cancels", self.cancelled),
            *_present("frozen, and in a group: skipped, without a gradient", self.frozen),
            *_lines("groups more than needed", self.more_groups),
            *_lines("learning rates", self.rates),
            *_lines("notes", self.notes),
        ]
        number = len(self.accidents)
        return [*found, f"accidents: {number or 'none'}"]


def _present(title: str, accidents: Sequence[Accident]) -> list[str]:
    return [section(title, accidents)] if accidents else []


def _shortened(title: str, accidents: Sequence[Accident]) -> list[str]:
    """Show the first of many: tensors have no layers that could share a line."""
    more = len(accidents) - _MOST
    if more <= 0:
        return _present(title, accidents)
    return [
        f"{section(f'{title}, {len(accidents)}, of which', accidents[:_MOST])}\n  and {more} more"
    ]


_MOST = 8


def _lines(title: str, lines: Sequence[str]) -> list[str]:
    return ["\n".join([title, *(f"  {line}" for line in lines)])] if lines else []


def _table(acts: Iterable[Act]) -> str:
    head = ["what", "n", "decayed", "weight_decay", "acts", "toward", "lr", "a step"]
    lines = [
        [
            act.what,
            str(act.trained),
            str(act.decayed),
            _range(act.coefficient),
            ", ".join(act.modes) or "-",
            ", ".join(act.toward) or "-",
            _range(act.rate),
            _range(act.step),
        ]
        for act in acts
    ]
    return align(head, lines, {"n", "decayed"})


def _range(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return "-"
    low, high = pair
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def pair(values: Iterable[float | None]) -> tuple[float, float] | None:
    """Return the smallest and the largest of those that are known."""
    known: list[Any] = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None
