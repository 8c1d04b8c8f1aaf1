"""A report as text for the terminal, as Markdown, and its comparisons as a LaTeX table."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

from gamma_nlp.rows import align
from gamma_nlp.study.report.figures import Picture
from gamma_nlp.study.report.findings import Findings
from gamma_nlp.study.report.table import Table, capital
from gamma_nlp.study.report.tables import VERDICTS, against, all_tables
from gamma_nlp.study.statistics.sentence import amount

WIDTH = 100
_MANY = 4

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_MARKDOWN = re.compile(r"([\\`*\[\]<|~]|(?<![^\W_])_|_(?![^\W_])|^[#>]|^[+-](?=\s))")
_MINUS = re.compile(r"(?<![\w.])-(?=\d)|\N{MINUS SIGN}")


def as_text(results: Findings) -> str:
    """Return the whole report for a terminal: verdicts first, then tables, then what is amiss."""
    parts = [_wrapped(heading(results)), _wrapped(verdict_lines(results), hang=2)]
    for title, lines in remarks(results):
        parts.append("\n".join([f"{title}:", _wrapped([f"- {one}" for one in lines], hang=2)]))
    for table in all_tables(results):
        right = set(table.head) - table.left
        body = [table.title, align(table.head, table.lines, right=right)]
        parts.append("\n".join([*body, *([_wrapped(table.notes, hang=2)] if table.notes else [])]))
    return "\n\n".join(parts) + "\n"


def as_markdown(results: Findings, drawn: Mapping[str, Picture | None] | None = None) -> str:
    """Return the whole report as Markdown; with plots that lie beside it, where some are given."""
    title, *head = heading(results)
    parts = [f"# {escaped(title)}", *map(escaped, head)]
    parts.append("\n".join(f"- {escaped(line)}" for line in verdict_lines(results)))
    for name, lines in remarks(results):
        parts += [f"**{name}**", "\n".join(f"- {escaped(line)}" for line in lines)]
    for name, plot in (drawn or {}).items():
        if plot is not None:
            parts.append(f"![{escaped(plot.title)}]({name}.svg)\n\n{escaped(plot.text)}")
    for table in all_tables(results):
        parts += [f"## {escaped(table.title)}", _markdown_table(table)]
        parts += ["\n".join(f"- {escaped(note)}" for note in table.notes)] if table.notes else []
    return "\n\n".join(parts) + "\n"


def as_latex(results: Findings) -> str:
    """Return the comparisons as a LaTeX table that needs no package."""
    table = against(results)
    columns = "".join("l" if name in table.left else "r" for name in table.head)
    rows = [" & ".join(map(latex, line)) + r" \\" for line in (table.head, *table.lines)]
    caption = f"{table.title}. {'; '.join(table.notes)}"
    lines = [
        r"\begin{table}",
        r"  \centering\footnotesize\setlength{\tabcolsep}{3pt}",
        f"  \\caption{{{latex(caption)}.}}",
        # Centred also where it is wider than the text, as in article's narrow column.
        f"  \\makebox[\\linewidth][c]{{\\begin{{tabular}}{{{columns}}}",
        r"    \hline",
        f"    {rows[0]}",
        r"    \hline",
        *(f"    {row}" for row in rows[1:]),
        r"    \hline",
        r"  \end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def heading(results: Findings) -> list[str]:
    """Return what was studied: its name, what it is about, metric and margin, runs and seeds."""
    study, metric = results.study, results.metric
    lines = [study.name, *([study.about] if study.about else [])]
    better = "higher" if metric.higher_is_better else "lower"
    unit = f" in {metric.unit}" if metric.unit else ""
    text = f"{capital(metric.name)} ({', '.join(metric.scores)}){unit}; {better} is better."
    if metric.smallest_difference is not None:
        fixed = "fixed before the runs" if study.fixed else "given with this report"
        least = amount(f"{metric.smallest_difference:g}", metric.unit)
        text += f" The smallest difference that matters is {least}, {fixed}."
    else:
        text += " No smallest difference that matters was given, so no arm can be called equal."
    seeds = results.seeds
    run = f"{len(results.found.runs)} of {len(study.planned)} runs count"
    return [*lines, text, f"{run}; {_seeds(seeds)}.", *_summary(results)]


def _summary(results: Findings) -> list[str]:
    """Return how many verdicts there are of each kind, where they are many."""
    kinds = [VERDICTS[one.verdict.value] for one in results.comparisons]
    if len(kinds) < _MANY:
        return []
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in VERDICTS.values() if kind in kinds)
    return [f"Of {len(kinds)} comparisons: {counts}."]


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"one seed ({seeds[0]})"
    whole = seeds == list(range(seeds[0], seeds[-1] + 1))
    which = f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))
    return f"{len(seeds)} seeds ({which})"


def verdict_lines(results: Findings) -> list[str]:
    """Return the verdict on each arm in words, and which arms are one."""
    lines = [one.sentence for one in results.comparisons]
    lines += [
        f"{cell.name} is the same as {cell.same_as}: all parameters decay alike, so it was not run"
        for cell in results.study.cells
        if cell.same_as is not None
    ]
    compared = {one.arm for one in (*results.comparisons, *results.floor)}
    lines += [
        f"no verdict on {cell.name}: it and {results.study.base(cell)} have no seed in common"
        for cell in results.study.cells
        if results.study.base(cell) and not cell.same_as and cell.name not in compared
    ]
    return lines or ["There is one arm, so nothing to compare."]


def remarks(results: Findings) -> list[tuple[str, tuple[str, ...]]]:
    """Return what is amiss: runs that are left out, those that did not finish, and notes."""
    found = results.found
    every = (
        ("Left out", found.left_out),
        ("Not finished", found.unfinished),
        ("Notes", found.notes),
    )
    return [(title, lines) for title, lines in every if lines]


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def latex(text: str) -> str:
    """Return a text that LaTeX shows as it is."""
    signs = "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
    return _MINUS.sub("$-$", signs)


def _markdown_table(table: Table) -> str:
    rule = [":---" if name in table.left else "---:" for name in table.head]
    rows = [map(escaped, table.head), rule, *(map(escaped, line) for line in table.lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _wrapped(lines: Sequence[str], hang: int = 0) -> str:
    return "\n".join(
        textwrap.fill(" ".join(line.split()), WIDTH, subsequent_indent=" " * hang,
                      break_long_words=False, break_on_hyphens=False)
        for line in lines
    )  # fmt: skip
