"""Place the gains of every text model type of transformers, each on a small model.

The types are the keys of the causal-LM, sequence-to-sequence, masked-LM and classification
mappings. Worker processes handle the classes; a model that crashes or hangs costs its own result
and a new worker, nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from gamma_nlp import workers
from gamma_nlp.check.probe.probe import probe
from gamma_nlp.check.probe.report import ProbeReport
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import GainTable

AGREES = "agrees"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out for one model class.

    Attributes:
        type: The model type.
        model: The class.
        problem: Why there are no gains; empty where there are.
        missing: The problem is a package that is not installed.
        gains: Name, category (``None``: unused), kind and offset of each gain.
        source: ``graph`` or ``table+graph``, with ``+probe`` where the probe agrees.
        table: ``agrees``, ``none`` (no table for this model), or what differs.
        probe: ``agrees``, or the gain that is ``inconclusive`` or ``contradicts`` and the reason.
        seconds: How long it took.
    """

    type: str
    model: str
    problem: str = ""
    missing: bool = False
    gains: list[tuple[str, str | None, str, float]] = field(default_factory=list)
    source: str = ""
    table: str = ""
    probe: str = ""
    seconds: float = 0.0

    @property
    def covered(self) -> bool:
        """Every gain is placed, and table and probe agree with every place."""
        return not self.problem and self.table in (AGREES, "none") and self.probe == AGREES

    @property
    def contradicted(self) -> bool:
        """The table or the probe disagrees with the graph."""
        table = self.table not in (AGREES, "none", "")
        return not self.problem and (table or self.probe.startswith("contradicts"))

    def counts(self) -> Counter[str]:
        """Gains per ``category kind``, with the offset where it is not 0."""
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
            if verdict not in (AGREES, "none")
        )
        return f"{head} [{self.source}]: {counts}{wrong}"


def cover(model_type: str, class_name: str) -> Result:
    """Build one small model, place its gains by every source there is, and compare."""
    from gamma_nlp.check.sweep import small_inputs, small_models

    model = small_models.build(model_type, class_name)
    inputs = small_inputs.inputs(model_type, model)
    graph = categorize(model, inputs, method="graph")
    try:
        by_table = categorize(model, method="table")
    except GammaError:
        agreement, source = "none", "graph"
    else:
        agreement, source = _agreement(by_table, graph), "table+graph"
    numeric = _numeric(probe(model, inputs, graph))
    return Result(
        type=model_type,
        model=class_name,
        gains=[(g.name, g.category and str(g.category), g.kind, g.offset) for g in graph],
        source=f"{source}+probe" if numeric == AGREES else source,
        table=agreement,
        probe=numeric,
    )


def _agreement(table: GainTable, graph: GainTable) -> str:
    one = {gain.name: (gain.category, gain.offset) for gain in table}
    two = {gain.name: (gain.category, gain.offset) for gain in graph if gain.category}
    unused = {gain.name for gain in graph if not gain.category}
    names = [name for name in {**one, **two} if name not in unused]
    wrong = [name for name in names if one.get(name) != two.get(name)]
    return f"differs on {wrong[0]!r}" if wrong else AGREES


def _numeric(report: ProbeReport) -> str:
    odd = report.having(report.verdict)
    if report.verdict == AGREES or not odd:
        return AGREES
    return f"{report.verdict} on {odd[0].name!r} ({odd[0].why})"


def sweep(
    types: Iterable[str] | None = None,
    seconds: float = workers.SECONDS,
    jobs: int | None = None,
) -> Iterator[Result]:
    """Cover the classes of these types, by default of all, in order as results come in.

    Args:
        types: Model types.
        seconds: How long one class may take.
        jobs: How many worker processes; :func:`gamma_nlp.workers.default_jobs` unless told.

    Raises:
        GammaError: A type that transformers does not list, or a number that makes no sense.
    """
    from gamma_nlp.check.sweep import small_models

    calls = small_models.text_classes(types)
    answers = workers.call_all(
        "gamma_nlp.check.sweep.coverage:cover_json", calls, jobs=jobs, seconds=seconds
    )
    return (_result(*call, answer) for call, answer in zip(calls, answers, strict=True))


def cover_json(model_type: str, class_name: str) -> dict[str, Any]:
    """:func:`cover` as plain data, which is what a worker can send."""
    return asdict(cover(model_type, class_name))


def _result(model_type: str, class_name: str, answer: workers.Answer) -> Result:
    if answer.problem:
        return Result(
            type=model_type,
            model=class_name,
            problem=answer.problem,
            missing=answer.missing,
            seconds=answer.seconds,
        )
    gains = [tuple(row) for row in answer.value["gains"]]
    return Result(**{**answer.value, "gains": gains, "seconds": answer.seconds})
