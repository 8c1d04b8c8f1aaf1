"""The answer for one model: the category of every gain, as objects, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gamma_nlp.errors import close_to
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.rows import Row, align, merge_layers


@dataclass(frozen=True, kw_only=True)
class Gain:
    """One row of a gain table.

    Attributes:
        name: Parameter name as in ``model.named_parameters()``.
        category: Where it sits; ``None`` for an unused gain, which the forward pass never reached.
        kind: ``layer_norm``, ``rms_norm``, ``batch_norm``, ``group_norm``, ``instance_norm``,
            ``elementwise_norm`` (DyT, Derf), ``qk_norm`` or ``layer_scale``.
        offset: 0 where the gain is the parameter, 1 where it is 1 + parameter.
        source: ``table``, ``graph`` or ``table+graph``.
        reason: What settled the category, in one line.
        dtype: The parameter's dtype: ``float32``, ``bfloat16``, ...
        numel: Its number of elements.
    """

    name: str
    category: Category | None
    kind: str
    offset: float
    source: str
    reason: str
    dtype: str
    numel: int


@dataclass(frozen=True, kw_only=True)
class GainTable:
    """The category of every gain of one model, and the role of every other parameter.

    Iterating yields :class:`Gain` rows in the order of ``model.named_parameters()``, and
    ``table[name]`` is one of them. ``str(table)`` is for reading, :meth:`to_json` for machines.

    Attributes:
        gains: The rows.
        roles: What each other parameter does, by name.
        reasons: Why some of them have their role, where their shape or module does not say it.
        model: The model's class.
        normalized: The weights that a norm follows on every way to an output, so that their
            scale changes nothing there; ``None`` where no graph was recorded.
    """

    gains: tuple[Gain, ...]
    roles: Mapping[str, Role] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    normalized: frozenset[str] | None = None

    def __iter__(self) -> Iterator[Gain]:
        return iter(self.gains)

    def __len__(self) -> int:
        return len(self.gains)

    def __getitem__(self, name: str) -> Gain:
        for gain in self.gains:
            if gain.name == name:
                return gain
        if name in self.roles:
            raise KeyError(f"{name!r} is not a gain; its role is {self.roles[name].value!r}")
        hint = close_to(name, [gain.name for gain in self.gains])
        raise KeyError(f"{name!r} is not a gain of this table{hint}")

    def __str__(self) -> str:
        return gain_table(self)

    def to_json(self) -> str:
        """Return a JSON object: ``gains`` with all their fields, and ``roles`` by name."""
        return json.dumps(gain_table_json(self), indent=2)


TOKENS = "a learned array that is used as tokens"
"""The reason of class tokens, latent queries and their like."""

MIX = "added to what steers the signal, as a mix or a rate is"
UNREACHED = "the forward pass never reaches it"

PLACES = {
    "branch_last": "ends a residual branch",
    "branch_inner": "feeds residual branches only, through a weight",
    "shortcut": "scales what a skip connection carries",
    "head": "no residual addition after it",
    "unused": "the forward pass never reaches it",
}


@dataclass(frozen=True, kw_only=True)
class Action:
    """How decay acts on one gain, besides its coefficient and its dose.

    Attributes:
        target: What it decays toward: ``zero``, ``one`` or ``start``.
        deferred: Whether decay is gathered, because rounding would cancel it.
        coupled: Whether decay is in the gradient.
        exact: The dose if nothing were rounded; ``None`` where it is unknown.
    """

    target: str = "zero"
    deferred: bool = False
    coupled: bool = False
    exact: float | None = None


Coefficients = Mapping[str, float] | None
Doses = Mapping[str, float | None] | None
Actions = Mapping[str, Action] | None


def gain_table(
    table: GainTable,
    coefficients: Coefficients = None,
    doses: Doses = None,
    actions: Actions = None,
    *,
    full: bool = False,
) -> str:
    """Return the table as aligned text, then a summary per category and the reasons by number.

    Args:
        table: What to print.
        coefficients: Decay coefficients by parameter name; adds a column.
        doses: Predicted pulls of the planned run by parameter name, 0.1 for 10 %, ``None`` where
            there is no closed form; adds a column.
        actions: How decay acts, by the name of each gain that decays; adds the column ``toward``
            where one decays toward anything but zero.
        full: Give every gain its own row; otherwise layers that agree share one. Add the other
            parameters whose role has a reason.
    """
    columns = ["category", "kind", "offset", "dtype"]
    columns += ["coefficient"] if coefficients is not None else []
    elsewhere = any(action.target != "zero" for action in (actions or {}).values())
    columns += ["toward"] if elsewhere else []
    columns += ["dose"] if doses is not None else []
    columns += ["source"]
    cells = {gain.name: _cells(gain, coefficients, doses, actions) for gain in table}
    rows = [
        Row(name=gain.name, key=tuple(cells[gain.name][c] for c in columns), reason=gain.reason)
        for gain in table
    ]
    shown = rows if full else merge_layers(rows)
    others = _others(table) if full else []
    if not shown:
        return "\n".join([f"{table.model or 'model'}: no gains", *others])
    numbers: dict[str, int] = {}
    for row in shown:
        numbers.setdefault(row.reason, len(numbers) + 1)
    lines = [[row.name, str(row.count), *row.key, str(numbers[row.reason])] for row in shown]
    parts = [f"{table.model}: {_count(len(table), 'gain')}"] if table.model else []
    parts += [align(["gain", "n", *columns, "why"], lines, right=_NUMBERS)]
    parts += ["", _summary(table, cells, [c for c in columns if c in _PLANNED])]
    parts += ["", "why", *(f"  {number}  {reason}" for reason, number in numbers.items())]
    parts += others
    return "\n".join(parts)


def _others(table: GainTable) -> list[str]:
    rows = [
        Row(name=name, key=(table.roles[name].value,), reason=reason)
        for name, reason in table.reasons.items()
    ]
    lines = [[row.name, str(row.count), *row.key, row.reason] for row in merge_layers(rows)]
    return ["", align(["no gain", "n", "role", "why"], lines, right={"n"})] if lines else []


_PLANNED = ("coefficient", "toward", "dose")
_NUMBERS = {"n", "offset", "why", "coefficient", "dose"}


def _cells(
    gain: Gain, coefficients: Coefficients, doses: Doses, actions: Actions
) -> dict[str, str]:
    coefficient = None if coefficients is None else coefficients[gain.name]
    action = (actions or {}).get(gain.name)
    dose = "" if doses is None else dose_text(doses[gain.name], coefficient, gain.dtype)
    if dose and action is not None and action.deferred:
        dose += " (deferred)"
    return {
        "category": "unused" if gain.category is None else gain.category.value,
        "kind": gain.kind,
        "offset": f"{gain.offset:g}",
        "dtype": gain.dtype,
        "source": gain.source,
        "coefficient": "" if coefficient is None else f"{coefficient:g}",
        "toward": action.target if action else "",
        "dose": dose,
    }


def _summary(
    table: GainTable, cells: Mapping[str, Mapping[str, str]], numbers: Sequence[str]
) -> str:
    """Gains, elements, coefficients and doses per category, and what the category means."""
    head = ["category", "gains", "elements", *numbers]
    lines = []
    for category, place in PLACES.items():
        members = [gain for gain in table if cells[gain.name]["category"] == category]
        if members:
            distinct = [
                ", ".join(dict.fromkeys(cells[gain.name][column] for gain in members))
                for column in numbers
            ]
            elements = sum(gain.numel for gain in members)
            lines.append([category, str(len(members)), str(elements), *distinct, place])
    return align([*head, "place"], lines, right=set(head[1:]))


def dose_text(dose: float | None, coefficient: float | None, dtype: str) -> str:
    """Return a dose for reading: ``9.5 %``, or why there is none."""
    if dose is None:
        return "no closed form"
    if dose == 0 and coefficient:
        return f"0 ({dtype.replace('bfloat', 'bf').replace('float', 'fp')} rounding)"
    return f"{100 * dose:.3g} %"


def gain_table_json(
    table: GainTable,
    coefficients: Coefficients = None,
    doses: Doses = None,
    actions: Actions = None,
) -> dict[str, Any]:
    """Return the table as plain data: every gain with all its fields, every other name's role.

    A dose of ``null`` means that there is no closed form, ``category: null`` an unused gain.
    """
    gains: list[dict[str, Any]] = []
    for gain in table:
        entry = asdict(gain)
        entry["category"] = None if gain.category is None else gain.category.value
        if coefficients is not None:
            entry["coefficient"] = coefficients[gain.name]
        if doses is not None:
            entry["dose"] = doses[gain.name]
        if actions is not None and gain.name in actions:
            action = actions[gain.name]
            entry |= {"target": action.target, "deferred": action.deferred}
            entry["dose_without_rounding"] = action.exact
        gains.append(entry)
    roles = {name: role.value for name, role in table.roles.items()}
    return {"model": table.model, "gains": gains, "roles": roles, "reasons": dict(table.reasons)}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def dtype_name(parameter: Any) -> str:
    """Return the dtype of a tensor as :attr:`Gain.dtype`."""
    return str(parameter.dtype).removeprefix("torch.")
