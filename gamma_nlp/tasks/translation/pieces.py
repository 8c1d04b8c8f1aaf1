"""Text that is still cut into pieces of words: found by its marks, and put together again.

A score of pieces is another number than one of words, and a higher one: the pieces of a wrong word
match as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.subwords import join_subwords


@dataclass(frozen=True, kw_only=True)
class Notation:
    """How a tokenizer marks pieces.

    Attributes:
        name: The tokenizer, and its mark.
        mark: Finds a piece in a line.
        share: In text of this notation at least this share of the lines has a piece.
        join: Puts the words of a line together; ``None`` where the line alone does not say how.
    """

    name: str
    mark: re.Pattern[str]
    share: float
    join: Callable[[str], str] | None


def _join_sentencepiece(line: str) -> str:
    if "\u2581" not in line:
        return line
    return line.replace(" ", "").replace("\u2581", " ").strip()


NOTATIONS = (
    # Plain text has no word that ends in @@, so one is enough.
    Notation(name="BPE (@@)", mark=re.compile(r"\w@@(?= |$)"), share=0.0, join=join_subwords),
    Notation(
        name="SentencePiece (\u2581)",
        mark=re.compile(r"(?:^| )\u2581"),
        share=0.1,
        join=_join_sentencepiece,
    ),
    Notation(
        name="WordPiece (##)",
        mark=re.compile(r"\S ##\w"),
        share=0.1,
        join=lambda line: line.replace(" ##", ""),
    ),
    Notation(
        name="OpenNMT's tokenizer (\uffed)",
        mark=re.compile("\uffed"),
        share=0.1,
        join=lambda line: re.sub(" ?\uffed ?", "", line),
    ),
    Notation(
        name="byte-level BPE (\u0120)", mark=re.compile(r"(?:^| )\u0120\S"), share=0.1, join=None
    ),
)


def notation(lines: Sequence[str]) -> Notation | None:
    """Return the notation of pieces that the lines are in; ``None`` for whole words."""
    filled = [line for line in lines if line.strip()]
    for one in NOTATIONS:
        marked = sum(bool(one.mark.search(line)) for line in filled)
        if marked and marked >= one.share * len(filled):
            return one
    return None


def join(lines: Sequence[str], one: Notation, name: str) -> list[str]:
    """Return the lines with their words put together.

    Args:
        lines: Pieces, separated by spaces.
        one: Their notation.
        name: What to call them in an error.

    Raises:
        GammaError: This notation cannot be undone here.
    """
    if one.join is None:
        raise GammaError(
            f"{name} is cut into pieces of {one.name}; give the text that its own tokenizer decodes"
        )
    return [one.join(line) for line in lines]
