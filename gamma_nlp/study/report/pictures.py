"""The plots of a report: inside its page, and as files of their own beside its Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from gamma_nlp.study.report import seed_plots
from gamma_nlp.study.report.curve_plots import gains_over_training, learning_curves
from gamma_nlp.study.report.figures import Picture
from gamma_nlp.study.report.findings import Findings

NAMES = ("seeds", "differences", "doses", "loss", "scores", "gains")
"""The plots in the order of the page; each is a file of that name as well."""

CURVES = {"loss": "training loss", "scores": "scores over training", "gains": "gains over training"}
"""Plots that runs of other programs may tell nothing for."""


def pictures(results: Findings) -> dict[str, Picture | None]:
    """Return the plots by name; ``None`` for one that no run tells enough for."""
    loss, scores = learning_curves(results)
    return {
        "seeds": seed_plots.every_seed(results),
        "differences": seed_plots.differences(results),
        "doses": seed_plots.dose_against_metric(results),
        "loss": loss,
        "scores": scores,
        "gains": gains_over_training(results),
    }


def as_files(drawn: Mapping[str, Picture | None]) -> dict[str, str]:
    """Return the plots as SVG files: dark on white, wherever they are shown."""
    return {f"{name}.svg": _alone(one.svg) for name, one in drawn.items() if one is not None}


def _alone(svg: str) -> str:
    style = "<style>svg{color:#1a1a1a;background:#fff}</style>"
    start, _, rest = svg.partition("</title>")
    return f"{start}</title>{style}{rest}\n"
