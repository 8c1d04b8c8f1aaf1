"""How plots look, and how they become pictures inside a page: text as text, ids apart."""

from __future__ import annotations

import contextlib
import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gamma_nlp.tasks.run.plots import pyplot

POLICY_COLOURS = {
    "none": "#777777",
    "guidelines": "#009e73",
    "all": "#d55e00",
    "input_only": "#0072b2",
    "iwd": "#0072b2",
    "all_params": "#8456a8",
    "torchtitan": "#8456a8",
    "hugging_face": "#b15928",
    "timm": "#66a61e",
    "olmo": "#e7298a",
    "qwen3_next": "#a6761d",
}

WIDTH = 4.2
"""Inches: a phone shows it at nearly full size, a desktop two side by side."""

INK = "#123456"
"""Stands for the colour of the page's text, which differs by day and night."""

_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8456a8", "#777777",
    "#b15928", "#66a61e",
)  # fmt: skip
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_SHORT = 46
_LINE = 0.21


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot for the page, with the words that say what it shows."""

    title: str
    text: str
    svg: str


def styles(arms: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Return colour and dashes for each arm, each pair once; a preset has its own colour."""
    found: dict[str, tuple[str, Any]] = {}
    free = [(colour, dash) for dash in _DASHES for colour in _COLOURS]
    for arm in arms:
        own = (POLICY_COLOURS.get(arm, ""), "-")
        if own in free:
            found[arm] = own
            free.remove(own)
    for arm in arms:
        if arm not in found:
            found[arm] = free.pop(0) if free else (_COLOURS[len(found) % len(_COLOURS)], "-")
    return found


@contextlib.contextmanager
def drawing(
    heights: Sequence[float], *, names: Sequence[str] = (), share: bool = False
) -> Iterator[Any]:
    """Yield a figure and its axes, one below another; its settings end with the block.

    Args:
        heights: Of each axis, in inches.
        names: What :func:`legend` will list, which takes room of its own.
        share: Whether all axes have the same steps.
    """
    below = _LINE * -(-len(names) // _columns(names)) if names else 0.0
    plt = pyplot()
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "gamma_nlp",
        "text.parse_math": False,
        "font.size": 9.5,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.linewidth": 0.7,
        "axes.formatter.useoffset": False,
        "legend.fontsize": 9,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
        ),
    }
    with plt.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's font has it
        figure, axes = plt.subplots(
            len(heights),
            1,
            figsize=(WIDTH, sum(heights) + below),
            layout="constrained",
            squeeze=False,
            sharex=share,
            gridspec_kw={"height_ratios": list(heights)},
        )
        for axis in axes.flat:
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(color=INK, alpha=0.15, linewidth=0.6)
        yield figure, list(axes.flat)
        plt.close(figure)


def picture(figure: Any, name: str, title: str, text: str) -> Picture:
    """Return a figure as SVG inside a page: ``name`` keeps its ids apart from other figures'."""
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = apart(svg, name).replace(INK, "currentColor")
    label = html.escape(f"{title}: {text}")
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    start, _, rest = svg.partition(">")
    opened = f'{start} role="img" aria-label="{label}"><title>{html.escape(title)}</title>'
    return Picture(title=title, text=text, svg=opened + rest)


def apart(svg: str, name: str) -> str:
    """Return a picture whose ids no other picture of the page has."""
    return re.sub(r"""((?<![\w-])id=["']|href=["']#|url\(#)""", rf"\g<1>{name}-", svg)


def short(text: str, most: int = _SHORT) -> str:
    """Return a name that fits a plot; its middle goes, since names differ at their ends."""
    if len(text) <= most:
        return text
    half = (most - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def legend(figure: Any, names: Sequence[str], lines: Sequence[Any]) -> None:
    """Put names below the plots, in as many columns as their length allows."""
    figure.legend(
        lines, [short(name) for name in names], loc="outside lower left", ncols=_columns(names),
        frameon=False, handlelength=1.8, columnspacing=1.2,
    )  # fmt: skip


def _columns(names: Sequence[str]) -> int:
    most = max(map(len, names), default=0)
    return 3 if most < 12 else 2 if most < 22 else 1
