"""Place the gains of every model type of transformers, each on a small model.

The types of the kind ``text`` are the keys of the causal-LM, sequence-to-sequence, masked-LM and
classification mappings, those of the kind ``other`` are all others. Graph, name table and probe
place the gains independently and are compared.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gamma_nlp import workers
from gamma_nlp.check.probe.probe import probe
from gamma_nlp.check.probe.report import ProbeReport
from gamma_nlp.check.sweep import run, small_inputs, small_models
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import GainTable

AGREES = "agrees"
NO_TABLE = "none"


@dataclass(frozen=True, kw_only=True)
class Result(run.ClassResult):
    """Where the gains of one model class sit, and which sources say so.

    Attributes:
        gains: Name, category (``None``: unused), kind and offset of each gain.
        source: ``graph`` or ``table+graph``, with ``+probe`` if the probe agrees.
        table: ``agrees``, ``none`` (no table for this model), or where they differ.
        probe: ``agrees``, or the gain that is ``inconclusive`` or ``contradicts`` and the reason.
        graph_seconds: How long the graph took.
        seconds: How long everything took.
    """

    gains: list[tuple[str, str | None, str, float]] = field(default_factory=list)
    source: str = ""
    table: str = ""
    probe: str = ""
    graph_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def covered(self) -> bool:
        """Every gain is placed, and table and probe agree with every place."""
        return not self.problem and self.table in (AGREES, NO_TABLE) and self.probe == AGREES

    @property
    def contradicted(self) -> bool:
        """The table or the probe disagrees with the graph."""
        table = self.table not in (AGREES, NO_TABLE, "")
        return not self.problem and (table or self.probe.startswith("contradicts"))

    def counts(self) -> Counter[str]:
        """Count the gains per ``category kind``, with the offset if it is not 0."""
        return Counter(
            f"{category or 'unused'} {kind}" + (f"+{offset:g}" if offset else "")
            for _, category, kind, offset in self.gains
        )

    def __str__(self) -> str:
        head = f"{self.type} {self.model}"
        if self.problem:
            return f"{head}: not covered: {self.problem}"
        order = sorted(self.counts().items())
        counts = ", ".join(f"{what} {count}" for what, count in order) or "no gains"
        wrong = "".join(
            f"; {what}: {verdict}"
            for what, verdict in (("table", self.table), ("probe", self.probe))
            if verdict not in (AGREES, NO_TABLE)
        )
        return f"{head} [{self.source}]: {counts}{wrong}"


def cover(model_type: str, class_name: str) -> dict[str, Any]:
    """Build one small model, place its gains by every source, and compare them.

    Returns:
        The fields of :class:`Result` up to ``graph_seconds``, as plain data that a worker can send.
    """
    model = small_models.build(model_type, class_name)
    inputs = small_inputs.inputs(model_type, model)
    start = time.monotonic()
    graph = categorize(model, inputs, method="graph")
    graph_seconds = round(time.monotonic() - start, 2)
    try:
        by_table = categorize(model, method="table")
    except GammaError:
        agreement, source = NO_TABLE, "graph"
    else:
        agreement, source = _agreement(by_table, graph), "table+graph"
    verdict = _verdict(probe(model, inputs, graph))
    return {
        "gains": [(g.name, g.category and str(g.category), g.kind, g.offset) for g in graph],
        "source": f"{source}+probe" if verdict == AGREES else source,
        "table": agreement,
        "probe": verdict,
        "graph_seconds": graph_seconds,
    }


def _agreement(table: GainTable, graph: GainTable) -> str:
    by_table = {gain.name: (gain.category, gain.offset) for gain in table}
    by_graph = {gain.name: (gain.category, gain.offset) for gain in graph if gain.category}
    unused = {gain.name for gain in graph if not gain.category}
    names = [name for name in {**by_table, **by_graph} if name not in unused]
    wrong = [name for name in names if by_table.get(name) != by_graph.get(name)]
    return f"differs on {wrong[0]!r}" if wrong else AGREES


def _verdict(report: ProbeReport) -> str:
    if report.verdict == AGREES:
        return AGREES
    first = report.having(report.verdict)[0]
    return f"{report.verdict} on {first.name!r} ({first.why})"


def sweep(
    types: Iterable[str] | None = None,
    seconds: float = workers.SECONDS,
    jobs: int | None = None,
    *,
    kind: str = "all",
    resume: Path | None = None,
) -> Iterator[Result]:
    """Cover the classes of these types, by default of all, in order as results come in.

    Arguments and errors are those of :func:`gamma_nlp.check.sweep.run.sweep`.
    """
    return run.sweep(Result, cover, _fields, types, seconds, jobs, kind=kind, resume=resume)


def _fields(answer: workers.Answer) -> dict[str, Any]:
    found = answer.value or {}
    gains = [tuple(row) for row in found.get("gains", ())]
    return {**found, "gains": gains, "seconds": answer.seconds}
