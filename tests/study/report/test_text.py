from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gamma_nlp.study.report.findings import Findings
from gamma_nlp.study.report.table import number, probability
from gamma_nlp.study.report.text import as_latex, as_markdown, as_text, escaped, latex
from tests.support.findings import hand_made
from tests.support.paths import GOLDEN


@pytest.mark.parametrize(
    ("form", "file"),
    [(as_text, "report.txt"), (as_markdown, "report.md"), (as_latex, "comparisons.tex")],
)
def test_a_report_reads_as_written_by_hand(
    form: Callable[[Findings], str], file: str, tmp_path: Path
) -> None:
    assert form(hand_made(tmp_path)) == (GOLDEN / "study" / file).read_text(encoding="utf-8")


def test_many_seeds_are_told_in_several_tables(tmp_path: Path) -> None:
    results = hand_made(tmp_path)
    one = results.summaries[0]
    runs = {seed: one.runs[1 + seed % 3] for seed in range(1, 21)}
    runs = {
        seed: replace(run, run=replace(run.run, planned=replace(run.run.planned, seed=seed)))
        for seed, run in runs.items()
    }
    found = replace(results.found, runs=tuple(runs.values()))
    text = as_text(replace(results, found=found, summaries=(replace(one, runs=runs),)))
    for part in ("seeds 1 to 8", "seeds 9 to 16", "seeds 17 to 20"):
        assert f"Accuracy, every seed, {part} (points)" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.001, "0.00"), (0.005, "+0.01"), (-1.234, "-1.23"), (float("nan"), "-"), (None, "-")],
)
def test_numbers_have_no_negative_zero_and_no_nan(value: float | None, text: str) -> None:
    assert number(value, 2, signed=True) == text


def test_p_values_have_three_decimals() -> None:
    assert [probability(p) for p in (0.0004, 0.05, 1.0, float("nan"))] == [
        *("<0.001", "0.050", "1.000", "-")
    ]


def test_what_a_user_named_is_shown_as_it_is() -> None:
    assert escaped("# a_b | _c_ <b> `x`\n*") == r"\# a_b \| \_c\_ \<b> \`x\` \*"
    assert latex("a_b & 5% {x} ~ ^ \\ < $1 # -2 a-1") == (
        r"a\_b \& 5\% \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} "
        r"\textless{} \$1 \# $-$2 a-1"
    )


def test_many_verdicts_are_counted_first(tmp_path: Path) -> None:
    results = hand_made(tmp_path)
    many = replace(results, comparisons=results.comparisons * 2)
    assert "Of 4 comparisons: 2 worse, 2 undecided." in as_text(many)
    assert "comparisons:" not in as_text(results).partition("Left out")[0]
