"""``gamma-nlp report``: what a study found, in words, tables and one page."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from gamma_nlp.cli.common import add_command, note
from gamma_nlp.errors import GammaError, need_installed

FORMATS = ("text", "markdown", "csv", "latex", "json")

EXAMPLES = """\
  gamma-nlp report STUDY
  gamma-nlp report STUDY --format markdown --no-files
  gamma-nlp report RUNS --baseline none --metric final.eval_accuracy --smallest-difference 0.5"""

ABOUT = """\
FOLDER is what `gamma-nlp study` wrote; nothing is trained. Into FOLDER/report go report.html (one
page that needs nothing else), report.md, report.txt, results.csv, comparisons.csv and
comparisons.tex. Any other folder of runs, each with a results.json, can be reported with
--baseline and --metric."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(commands, "report", run=run, examples=EXAMPLES, description=ABOUT)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a study, or a folder of runs")
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="what is printed (%(default)s)"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="where the files go (FOLDER/report)"
    )
    parser.add_argument("--no-files", action="store_true", help="print only")
    parser.add_argument(
        "--metric", metavar="SCORE", action="append", default=[],
        help="score to compare, by its path in results.json; given twice or as A,B: their mean. "
        "A study has its own",
    )  # fmt: skip
    parser.add_argument(
        "--better", choices=("higher", "lower"),
        help="which value of SCORE is better, where its name does not tell",
    )  # fmt: skip
    other = parser.add_argument_group("a folder of runs that is no study")
    other.add_argument(
        "--baseline", metavar="POLICY", help="the policy that the others are compared with"
    )
    other.add_argument(
        "--smallest-difference", metavar="X", type=float,
        help="the smallest difference that matters, in points, BLEU or nats",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Print a report and write its files."""
    need_installed(
        ("scipy", "statsmodels", "jinja2", "matplotlib"), "study", "gamma-nlp report needs"
    )
    margin = arguments.smallest_difference
    if margin is not None and not 0 < margin < math.inf:
        raise GammaError(f"--smallest-difference must be a number above 0, not {margin}")
    if arguments.no_files and arguments.output is not None:
        raise GammaError("--output and --no-files exclude each other; leave one out")
    from gamma_nlp.study.found import find
    from gamma_nlp.study.report.findings import findings
    from gamma_nlp.study.report.write import FORMATS as FORMS
    from gamma_nlp.study.report.write import write_report

    metric = [name.strip() for text in arguments.metric for name in text.split(",")]
    if arguments.better is not None and not metric:
        raise GammaError("--better is about --metric SCORE; give both, or neither")
    found = find(
        arguments.folder,
        metric=metric,
        baseline=arguments.baseline,
        margin=margin,
        higher_is_better=None if arguments.better is None else arguments.better == "higher",
    )
    results = findings(found)
    text = FORMS[arguments.format](results)
    if not arguments.no_files:
        folder = arguments.output or arguments.folder / "report"
        write_report(results, folder)
    print(text, end="")
    if not arguments.no_files:
        note(f"the page and its data are in {folder}: open {folder / 'report.html'}")
    return 0
