"""What the stages hand to one another: gains, and the table that holds a model's decision."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gamma_nlp.gains.category import Category, Role
from gamma_nlp.rows import Row, align, merge_layers


@dataclass(frozen=True, kw_only=True)
class Gain:
    """One row of a gain table.

    Attributes:
        name: Parameter name as in ``model.named_parameters()``.
        category: Its place; ``None`` for a gain that the forward pass never reached (unused).
        kind: ``layer_norm``, ``rms_norm``, ``batch_norm``, ``group_norm``, ``instance_norm``,
            ``qk_norm`` or ``layer_scale``.
        offset: 0 where the gain is the parameter, 1 where it is 1 + parameter.
        source: ``table``, ``graph`` or ``table+graph``.
        reason: One line that says what settled the category.
        dtype: The parameter's dtype without ``torch.``: ``float32``, ``bfloat16``, ...
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

    Iterating yields :class:`Gain` rows in the order of ``model.named_parameters()``; ``str``
    gives a table to read, :meth:`to_json` the same for machines.
    """

    gains: tuple[Gain, ...]
    roles: Mapping[str, Role] = field(default_factory=dict)
    model: str = ""

    def __iter__(self) -> Iterator[Gain]:
        return iter(self.gains)

    def __len__(self) -> int:
        return len(self.gains)

    def __getitem__(self, name: str) -> Gain:
        for gain in self.gains:
            if gain.name == name:
                return gain
        raise KeyError(f"{name!r} is no gain of this table")

    def __str__(self) -> str:

        return gain_table(self)

    def to_json(self) -> str:
        """The table as a JSON object: ``gains`` with all their fields, and ``roles`` by name."""

        return json.dumps(gain_table_json(self), indent=2)


PLACES = {
    "branch_last": "ends a residual branch",
    "branch_inner": "feeds residual branches only, through a weight",
    "shortcut": "scales what a skip connection carries",
    "head": "no residual addition after it",
    "unused": "the forward pass never reaches it",
}


def gain_table(
    table: GainTable,
    coefficients: Mapping[str, float] | None = None,
    doses: Mapping[str, float | None] | None = None,
    *,
    full: bool = False,
) -> str:
    """The table as aligned text, then a summary per category and the reasons by number.

    Args:
        table: What to print.
        coefficients: Decay coefficient by parameter name; adds a column.
        doses: Predicted pull of the planned run by parameter name, 0.1 for 10 %, ``None`` where it
            has no closed form; adds a column.
        full: One row for every gain; otherwise layers that agree share a row.
    """
    rows = [_row(gain, coefficients, doses) for gain in table]
    shown = rows if full else merge_layers(rows)
    if not shown:
        return f"{table.model or 'model'}: no gains"
    numbers: dict[str, int] = {}
    for row in shown:
        numbers.setdefault(row.reason, len(numbers) + 1)
    columns = ["gain", "n", "category", "kind", "offset", "dtype"]
    columns += ["coefficient"] if coefficients is not None else []
    columns += ["dose"] if doses is not None else []
    columns += ["source", "why"]
    cells = [[row.cells(numbers[row.reason])[c] for c in columns] for row in shown]
    parts = [f"{table.model}: {_count(len(table), 'gain')}"] if table.model else []
    parts += [align(columns, cells, right={"n", "offset", "why", "coefficient", "dose"})]
    parts += ["", summary(rows, columns)]
    parts += ["", "why", *(f"  {number}  {reason}" for reason, number in numbers.items())]
    return "\n".join(parts)


def gain_table_json(
    table: GainTable,
    coefficients: Mapping[str, float] | None = None,
    doses: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """The table as plain data: every gain with all its fields, and the role of the other names.

    A dose of ``null`` means that there is no closed form; ``category: null`` an unused gain.
    """
    gains: list[dict[str, Any]] = []
    for gain in table:
        entry: dict[str, Any] = {
            "name": gain.name,
            "category": None if gain.category is None else gain.category.value,
            "kind": gain.kind,
            "offset": gain.offset,
            "source": gain.source,
            "reason": gain.reason,
            "dtype": gain.dtype,
            "numel": gain.numel,
        }
        if coefficients is not None:
            entry["coefficient"] = coefficients[gain.name]
        if doses is not None:
            entry["dose"] = doses[gain.name]
        gains.append(entry)
    roles = {name: role.value for name, role in table.roles.items()}
    return {"model": table.model, "gains": gains, "roles": roles}


def _row(
    gain: Gain,
    coefficients: Mapping[str, float] | None,
    doses: Mapping[str, float | None] | None,
) -> Row:
    coefficient = None if coefficients is None else coefficients[gain.name]
    dose = "" if doses is None else dose_text(doses[gain.name], coefficient, gain.dtype)
    key = (
        "unused" if gain.category is None else gain.category.value,
        gain.kind,
        f"{gain.offset:g}",
        gain.dtype,
        gain.source,
        "" if coefficient is None else f"{coefficient:g}",
        dose,
    )
    return Row(name=gain.name, key=key, reason=gain.reason, dtype=gain.dtype, numel=gain.numel)


def dose_text(dose: float | None, coefficient: float | None, dtype: str) -> str:
    """A dose for readers: ``9.5 %``, or why there is none."""
    if dose is None:
        return "no closed form"
    if dose == 0 and coefficient:
        return f"0 ({dtype.replace('bfloat', 'bf').replace('float', 'fp')} rounding)"
    return f"{100 * dose:.3g} %"


def summary(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Gains, elements, coefficients and doses per category, and what the category means."""
    head = ["category", "gains", "elements"]
    head += [name for name in ("coefficient", "dose") if name in columns]
    lines = []
    for category, place in PLACES.items():
        members = [row for row in rows if row.key[0] == category]
        if members:
            line = [category, str(len(members)), str(sum(row.numel for row in members))]
            if "coefficient" in columns:
                line.append(_distinct(row.key[5] for row in members))
            if "dose" in columns:
                line.append(_distinct(row.key[6] for row in members))
            lines.append([*line, place])
    return align([*head, "place"], lines, right=set(head[1:]))


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def dtype_name(parameter: Any) -> str:
    return str(parameter.dtype).removeprefix("torch.")
