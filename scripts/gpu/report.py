"""What was found, for people and for machines: a JSON file for each stage, and one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parts import Part, Stage
from processes import Ended

from gamma_nlp.files.write import write_json, write_text

TABLE = "README.md"
LOG = "log.txt"
_VERDICTS = {True: "pass", False: "**FAIL**", None: "-"}


class Report:
    """The results of a run in its folder; each file is written whole, as soon as something ends.

    Args:
        folder: Where to.
        head: Lines about the machine and the command.
        stages: What will run.
    """

    def __init__(self, folder: Path, head: Mapping[str, str], stages: Sequence[Stage]) -> None:
        self.folder, self.head, self.stages = folder, head, stages
        self.ended: dict[str, list[tuple[Part, Ended]]] = {stage.name: [] for stage in stages}
        self.compared: dict[str, list[dict[str, Any]]] = {}
        self.why_not: dict[str, str] = {}
        self._write_table()

    def add(self, stage: Stage, part: Part, ended: Ended) -> None:
        """Note how a part ended."""
        self.ended[stage.name].append((part, ended))
        if stage.compare is not None:
            rows = [row for _, one in self.ended[stage.name] for row in one.rows]
            self.compared[stage.name] = stage.compare(rows)
        self._write(stage)

    def leave_out(self, stage: Stage, why: str) -> None:
        """Note that the rest of a stage does not run."""
        self.why_not[stage.name] = why
        self._write(stage)

    def failed(self, name: str) -> bool:
        """Return whether a row of a stage failed, or a part of it did not come to its end."""
        ended = [one for _, one in self.ended.get(name, ())]
        return any(
            one.state in ("failed", "stopped") or any(row["passed"] is False for row in one.rows)
            for one in ended
        )

    def _write(self, stage: Stage) -> None:
        parts = [
            {"part": part.name, "state": one.state, "why": one.why, "seconds": one.seconds,
             "rows": one.rows}
            for part, one in self.ended[stage.name]
        ]  # fmt: skip
        content = {
            **self.head,
            "stage": stage.name,
            "state": self.state(stage),
            "parts": parts,
            "compared": self.compared.get(stage.name, []),
        }
        write_json(self.folder / f"{stage.name}.json", content)
        self._write_table()

    def state(self, stage: Stage) -> str:
        """Return how a stage stands, in a few words."""
        ended = self.ended[stage.name]
        states = Counter(one.state for _, one in ended)
        open_parts = len(stage.parts) - len(ended)
        if not ended:
            return self.why_not.get(stage.name, "not run yet")
        if states.keys() == {"done"} and not open_parts:
            return "done"
        if states.keys() == {"skipped"} and not open_parts:
            return f"skipped: {'; '.join(dict.fromkeys(one.why for _, one in ended))}"
        found = [f"{number} {state}" for state, number in sorted(states.items())]
        if open_parts:
            found.append(f"{open_parts} {self.why_not.get(stage.name, 'to come')}")
        return ", ".join(found)

    def _write_table(self) -> None:
        lines = ["# GPU check", "", *(f"- {key}: {value}" for key, value in self.head.items()), ""]
        lines += ["| stage | what | state | seconds |", "|---|---|---|---|"]
        for stage in self.stages:
            seconds = sum(one.seconds for _, one in self.ended[stage.name])
            row = (stage.name, stage.about, self.state(stage), f"{seconds:.0f}")
            lines.append(_line(row))
        for stage in self.stages:
            if self.ended[stage.name]:
                lines += ["", f"## {stage.name}", "", *self._details(stage)]
        write_text(self.folder / TABLE, "\n".join(lines) + "\n")

    def _details(self, stage: Stage) -> list[str]:
        if stage.tests:
            head = [
                "| tests | passed | failed | skipped | state | seconds |",
                "|---|---|---|---|---|---|",
            ]
            return [*head, *(_line(_counted(*pair)) for pair in self.ended[stage.name]),
                    *_not_passed(self.ended[stage.name])]  # fmt: skip
        lines = ["| what | measured | goal | | detail |", "|---|---|---|---|---|"]
        for part, one in self.ended[stage.name]:
            lines += [_line(_shown(row)) for row in one.rows]
            if one.state != "done":
                lines.append(_line((part.name, one.state, "", "-", one.why)))
        return [*lines, *(_line(_shown(row)) for row in self.compared.get(stage.name, ()))]


def _shown(row: Mapping[str, Any]) -> tuple[str, ...]:
    verdict = _VERDICTS[row["passed"]]
    return (row["what"], row["measured"], row["goal"], verdict, row["detail"])


def _counted(part: Part, one: Ended) -> tuple[str, ...]:
    found = Counter(row["passed"] for row in one.rows)
    state = one.state if not one.why else f"{one.state}: {one.why}"
    counts = (str(found[key]) for key in (True, False, None))
    return (part.name, *counts, state, f"{one.seconds:.0f}")


def _not_passed(ended: Sequence[tuple[Part, Ended]]) -> list[str]:
    """Return the tests that failed, and why others were skipped."""
    rows = [row for _, one in ended for row in one.rows]
    failed = [
        f"- **FAIL** `{row['what']}`: {row['detail']}" for row in rows if row["passed"] is False
    ]
    skipped = Counter(row["detail"] for row in rows if row["passed"] is None)
    lines = [*failed, *(f"- {number} skipped: {why}" for why, number in skipped.items())]
    return ["", *lines] if lines else []


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
