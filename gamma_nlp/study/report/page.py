"""A report as one HTML page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gamma_nlp
from gamma_nlp.errors import GammaError, need
from gamma_nlp.files.read import read_text
from gamma_nlp.study.report import details, figures, tables, text
from gamma_nlp.study.report.figures import Picture
from gamma_nlp.study.report.findings import Findings
from gamma_nlp.study.report.pictures import CURVES, pictures
from gamma_nlp.study.results.study_file import PICTURE

TEMPLATE = "page.html.j2"
STYLE = "page.css"


def as_html(results: Findings, drawn: Mapping[str, Picture | None] | None = None) -> str:
    """Return the whole report as a page.

    Args:
        results: What was found.
        drawn: Its plots, where they are drawn already.

    Raises:
        MissingExtra: jinja2 or matplotlib is missing.
    """
    drawn = pictures(results) if drawn is None else drawn
    kind = {
        line.arm: line.verdict.value.replace("_", "-")
        for line in (*results.comparisons, *results.floor)
    }
    settings = details.settings(results)
    title, *head = text.heading(results)
    page: str = _template().render(
        title=title,
        head=head,
        style=_package_text(STYLE),
        model=model_picture(results.study.folder / PICTURE),
        verdicts=text.verdict_lines(results),
        kinds=[kind.get(one.arm, "none") for one in results.comparisons],
        remarks=text.remarks(results),
        pictures=[one for one in drawn.values() if one is not None],
        absent=[what for name, what in CURVES.items() if drawn[name] is None],
        tables=tables.all_tables(results),
        gains=details.gain_table(results),
        differing=settings.differing,
        common=settings.common,
        facts=[
            details.times(results),
            details.shared(results, "versions", "Versions"),
            details.shared(results, "hardware", "Hardware"),
        ],
        commands=details.commands(results),
        version=gamma_nlp.__version__,
    )
    return page


def model_picture(file: Path) -> str:
    """Return a model's picture for the page, or nothing where there is none.

    Raises:
        GammaError: It is no SVG, or one that runs a script or loads what is elsewhere.
    """
    if not file.exists():
        return ""
    content = read_text(file)
    start = content.find("<svg")
    if start < 0:
        raise GammaError(f"{file} is no SVG; write it with gamma-nlp draw, or take it away")
    unsafe = re.search(
        r"<script|<foreignObject|<[^>]*\son\w+\s*=|javascript:|\b(href|src)\s*=\s*[\"'](?!#)|url\((?!#)|@import",
        content[start:], re.IGNORECASE,
    )  # fmt: skip
    if unsafe:
        raise GammaError(
            f"{file}: {unsafe.group()[-30:]!r} would run or load something, and a report does "
            "neither; write the picture with gamma-nlp draw"
        )
    return figures.apart(content[start:].strip(), "model")


@functools.cache
def _template() -> Any:
    jinja2 = need("jinja2", "study", "the page of a report needs")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_package_text(TEMPLATE))


def _package_text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
