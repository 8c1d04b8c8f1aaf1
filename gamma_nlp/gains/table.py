"""What the stages hand to one another: gains, and the table that holds a model's decision."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gamma_nlp.gains.category import Category, Role


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
        from gamma_nlp import rows  # reads this module

        return rows.gain_table(self)

    def to_json(self) -> str:
        """The table as a JSON object: ``gains`` with all their fields, and ``roles`` by name."""
        from gamma_nlp import rows

        return json.dumps(rows.gain_table_json(self), indent=2)
