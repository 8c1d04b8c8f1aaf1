"""What the probe found: a verdict per gain, and a report in which equal layers share a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gamma_nlp.gains.category import Category
from gamma_nlp.rows import align, with_ranges, without_numbers

COLUMNS = ("gain", "n", "category", "verdict", "measured", "deviation", "tolerance", "why")
MEANINGS = {
    "agrees": "the category is what the experiment shows",
    "contradicts": "the experiment shows another category",
    "inconclusive": "nothing moved, so nothing is shown",
}


Verdict = Literal["agrees", "contradicts", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the probe measured for one gain.

    Attributes:
        name: The parameter.
        claimed: The category in the table.
        measured: The category that the experiments show; ``None`` if they show none.
        verdict: ``agrees``, ``contradicts`` or ``inconclusive``.
        deviation: The relative movement of the operand that decides. For ``branch_last``, what is
            left of the branch when the gain is 0.
        tolerance: The movement above which something counts as moved.
        why: The experiment that decided, in words.
    """

    name: str
    claimed: Category | None
    measured: Category | None
    verdict: Verdict
    deviation: float
    tolerance: float
    why: str


@dataclass(frozen=True, kw_only=True)
class ProbeReport:
    """The result of a probe; iterate over it for a :class:`Finding` per gain.

    Attributes:
        model: The model's class.
        additions: Number of residual additions found.
        dtype: The precision of the check.
        findings: One per gain, in the order of the table.
    """

    model: str
    additions: int
    dtype: str
    findings: tuple[Finding, ...]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def having(self, verdict: str) -> list[Finding]:
        """Return the findings with this verdict."""
        return [finding for finding in self.findings if finding.verdict == verdict]

    @property
    def verdict(self) -> str:
        """``contradicts`` if one gain does, else ``inconclusive`` if one is, else ``agrees``."""
        for verdict in ("contradicts", "inconclusive"):
            if self.having(verdict):
                return verdict
        return "agrees"

    def counts(self) -> Counter[str]:
        """Count the gains per verdict."""
        return Counter(finding.verdict for finding in self.findings)

    def __str__(self) -> str:
        return self.text()

    def text(self, *, full: bool = False) -> str:
        """Return the report as text; ``full`` gives every gain a row of its own."""
        return findings_text(self.model, self.additions, self.dtype, self.findings, full)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {"verdict": self.verdict, **asdict(self)}


def findings_text(
    model: str, additions: int, dtype: str, findings: Sequence[Finding], full: bool
) -> str:
    """Return a row per gain (``full``) or per group of layers, the counts, and the reasons."""
    if not findings:
        return f"{model}: no gains"
    groups: dict[tuple[str, str, str, str, str], list[Finding]] = {}
    for finding in findings:
        name = finding.name if full else without_numbers(finding.name)
        claimed, measured = _places(finding)
        key = (name, str(finding.verdict), claimed, measured, without_numbers(finding.why))
        groups.setdefault(key, []).append(finding)
    numbers: dict[str, int] = {}
    lines = []
    for key, members in groups.items():
        why = with_ranges([finding.why for finding in members])
        number = numbers.setdefault(why, len(numbers) + 1)
        lines.append(
            [
                with_ranges([finding.name for finding in members]),
                str(len(members)),
                key[2],
                key[1],
                key[3],
                _span([finding.deviation for finding in members]),
                f"{members[0].tolerance:g}",
                str(number),
            ]
        )
    gains, sums = (
        f"{n} {what}{'s' * (n != 1)}"
        for n, what in ((len(findings), "gain"), (additions, "residual addition"))
    )
    head = f"{model}: {gains}, {sums}, {dtype}"
    verdicts = [
        [verdict, str(sum(f.verdict == verdict for f in findings)), meaning]
        for verdict, meaning in MEANINGS.items()
    ]
    parts = [head, align(COLUMNS, lines, right={"n", "deviation", "tolerance", "why"})]
    parts += ["", align(("verdict", "gains", ""), verdicts, right={"gains"})]
    parts += ["", "why", *(f"  {number}  {why}" for why, number in numbers.items())]
    return "\n".join(parts)


def _places(finding: Finding) -> tuple[str, str]:
    claimed = finding.claimed.value if finding.claimed else "unused"
    if finding.measured is not None:
        return claimed, finding.measured.value
    return claimed, "unused" if finding.verdict == "agrees" else "-"


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low}..{high}"
