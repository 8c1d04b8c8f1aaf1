"""Speeds of one side over another's, from the rows of a stage whose parts ran apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """How many times faster one side has to be than another; 0 where nothing is asked."""

    one: str
    other: str
    least: float = 0.0


TRANSLATION = (
    Goal(one="ours, graphs", other="ours, eager", least=4.0),
    Goal(one="ours, graphs", other="fairseq", least=1.0),
    Goal(one="ours, graphs", other="Seq2SeqTrainer"),
    Goal(one="ours, eager", other="Seq2SeqTrainer"),
    Goal(one="ours, eager", other="fairseq"),
)
SST2 = (
    Goal(one="ours, graphs", other="Trainer, padding to 128", least=2.0),
    Goal(one="ours, eager", other="Trainer, padding to 128"),
    Goal(one="ours, graphs", other="ours, eager"),
)


def translation(rows: Rows) -> Rows:
    """Compare target tokens a second."""
    return compare(rows, TRANSLATION)


def sst2(rows: Rows) -> Rows:
    """Compare sentences a second."""
    return compare(rows, SST2)


def compare(rows: Rows, goals: Sequence[Goal]) -> Rows:
    """Return a row for each goal whose two sides were measured.

    It is judged only where both sides are steady and neither is of ``--quick``.
    """
    speeds = {row["figures"]["side"]: row["figures"] for row in rows if "side" in row["figures"]}
    return [
        _row(goal, speeds[goal.one], speeds[goal.other])
        for goal in goals
        if goal.one in speeds and goal.other in speeds
    ]


def _row(goal: Goal, one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    from table import Row

    ratio = one["per_second"] / other["per_second"]
    rough = [side["side"] for side in (one, other) if not side["steady"]]
    judged = goal.least > 0 and not rough and not one["quick"]
    row = Row(
        f"{goal.one} to {goal.other}",
        f"{ratio:.2f} x",
        f">= {goal.least:g} x" if goal.least else "",
        ratio >= goal.least if judged else None,
        f"not steady: {', '.join(rough)}" if rough else "",
        {"ratio": ratio},
    )
    return asdict(row)
