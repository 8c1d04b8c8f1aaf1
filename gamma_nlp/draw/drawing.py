"""``draw(model)``: the picture of a model, to be written as HTML, SVG or PNG."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from gamma_nlp.draw.facts import Entry, Facts, entries, sizes
from gamma_nlp.draw.legend import Legend, colours, signs
from gamma_nlp.draw.picture import make_picture
from gamma_nlp.draw.reading import misread
from gamma_nlp.draw.sheet import Sheet, lay_out
from gamma_nlp.draw.stream import Dot, Picture, dots, has_tangle
from gamma_nlp.draw.svg import MARK, SOFTWARE, to_svg
from gamma_nlp.errors import GammaError
from gamma_nlp.files.write import write_bytes, write_text
from gamma_nlp.gains.by_graph import from_graph
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.marks import with_marks
from gamma_nlp.gains.table import GainTable
from gamma_nlp.graph.trace import trace
from gamma_nlp.rows import collapse

FORMATS = (".html", ".svg", ".png")

MARKS = (MARK.encode(), b"Software\x00" + SOFTWARE.encode())
"""How a drawing shows that it was written here, and may be replaced: as text, as PNG."""

LISTED = (
    "Part of this model is no stream with branches that leave it and come back. It is drawn as a "
    "list: its elements in the order in which they run; arcs show what reads what."
)

UNCLEAR = "The lines cannot show the place of all gains; the colour is right, the way is not, of"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The residual stream of a model, and its gains.

    Attributes:
        picture: What is drawn.
        table: The gains.
        facts: What else is known of them.
        about: What to say of the facts: under which policy, for which run.
    """

    picture: Picture
    table: GainTable
    facts: Facts
    about: str = ""

    def with_decay(
        self,
        coefficients: Mapping[str, float],
        doses: Mapping[str, float | None] | None = None,
        about: str = "",
    ) -> Drawing:
        """Return the drawing with what decay does to each gain.

        Args:
            coefficients: Decay coefficients by parameter name.
            doses: Predicted pulls of a planned run by parameter name, 0.1 for 10 %.
            about: A sentence that says whose they are, for the page.
        """
        facts = replace(self.facts, coefficients=coefficients, doses=doses or {})
        return replace(self, facts=facts, about=about)

    def titled(self, title: str) -> Drawing:
        """Return the drawing under another title than the model's class."""
        return replace(self, picture=replace(self.picture, model=title))

    def entries(self, dot: Dot) -> list[Entry]:
        """Return what a dot tells of its gains."""
        return entries(dot, {gain.name: gain for gain in self.table}, self.facts)

    def dots(self) -> list[Dot]:
        """Return the dots, from the input on."""
        return dots(self.picture)

    def counts(self) -> dict[Category, int]:
        """Return how many gains are in each category that has some."""
        found = [gain.category for gain in self.table if gain.category is not None]
        return {category: found.count(category) for category in Category if category in found}

    def unused(self) -> list[str]:
        """Return the gains that the forward pass never reaches: they are not drawn."""
        return [gain.name for gain in self.table if gain.category is None]

    def notes(self) -> list[str]:
        """Return what must be known to read the picture right."""
        notes = [LISTED] if has_tangle(self.picture) else []
        if unclear := misread(self.picture):
            names = ", ".join(name for dot in unclear for name in collapse(dot.gains))
            notes.append(f"{UNCLEAR} {names}.")
        return notes

    def to_svg(self) -> str:
        """Return the picture as SVG, with a legend."""
        return svg_of([self])

    def to_html(self) -> str:
        """Return a page that works offline: pointing at a dot tells what is known of its gains."""
        from gamma_nlp.draw.page import to_html

        return to_html(self)

    def to_png(self) -> bytes:
        """Return the picture as PNG, by matplotlib."""
        return png_of([self])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture, in the format that the file's name ends in.

        Raises:
            GammaError: It ends in none of ``.html``, ``.svg`` and ``.png``.
        """
        save([self], Path(path))


def draw(model: nn.Module, inputs: Any = None) -> Drawing:
    """Draw the residual stream of a model, with each gain at its place.

    The model runs once, as for ``categorize(model, inputs, method="graph")``, and is left as it
    was. Where it has weights, the picture knows the size of each gain.

    Args:
        model: Any module.
        inputs: What to call it with: a tensor, a tuple or a mapping. Models of transformers need
            none.

    Raises:
        GammaError: The model cannot be traced, or a gain cannot be placed.
    """
    graph = trace(model, inputs)
    table = with_marks(model, from_graph(model, graph))
    picture = make_picture(model, graph, table)
    return Drawing(picture=picture, table=table, facts=Facts(rms=sizes(model, table)))


def save(drawings: Sequence[Drawing], path: Path) -> None:
    """Write drawings side by side, in the format that the file's name ends in.

    Raises:
        GammaError: The name ends in none of ``.html``, ``.svg`` and ``.png``, or a page is asked
            for several models.
    """
    match format_of(path):
        case ".html" if len(drawings) > 1:
            raise GammaError(f"{path}: a page shows one model; for several give a .svg or .png")
        case ".html":
            write_text(path, drawings[0].to_html())
        case ".svg":
            write_text(path, svg_of(drawings))
        case _:
            write_bytes(path, png_of(drawings))


def format_of(path: Path) -> str:
    """Return the ending of a file's name that says its format.

    Raises:
        GammaError: It is none that is known.
    """
    if path.suffix.lower() not in FORMATS:
        raise GammaError(f"{path}: the name must end in .html, .svg or .png, which says the format")
    return path.suffix.lower()


def svg_of(drawings: Sequence[Drawing]) -> str:
    """Return drawings side by side as SVG, with one legend."""
    told = {id(dot): one.entries(dot) for one in drawings for dot in one.dots()}
    sheet = lay_out([one.picture for one in drawings])
    return to_svg(sheet, lambda dot: as_text(told[id(dot)]), legend=_legend(drawings, sheet))


def png_of(drawings: Sequence[Drawing]) -> bytes:
    """Return drawings side by side as PNG."""
    from gamma_nlp.draw.png import to_png

    sheet = lay_out([one.picture for one in drawings])
    return to_png(sheet, legend=_legend(drawings, sheet))


def _legend(drawings: Sequence[Drawing], sheet: Sheet) -> Legend:
    """Return the colours with their counts, where it is one drawing, and the signs."""
    found = {category: 0 for drawing in drawings for category in drawing.counts()}
    if len(drawings) == 1:
        found = drawings[0].counts()
    return [*colours(found), *((None, text) for text in signs(sheet.shapes))]


def as_text(told: Sequence[Entry]) -> str:
    """Return what a dot tells, as lines."""
    return "\n".join(
        line
        for entry in told
        for line in (entry.gain, *(f"{what}: {text}" for what, text in entry.facts.items()))
    )
