"""Joint byte-pair encoding in the classic ``@@ `` notation (Sennrich et al., arXiv:1508.07909).

Learn the codes from the training text, split lines with them, join the pieces again.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from gamma_nlp.errors import GammaError, need, one_line, shown

_MARK = re.compile("@@( |$)")

_DAMAGED = (SystemExit, ValueError, IndexError, NotImplementedError)
"""What subword-nmt raises where it cannot use a codes file; at some it ends the process."""


def learn_codes(lines: Iterable[str], merges: int) -> str:
    """Learn merges from tokenised lines of both languages.

    Args:
        lines: The training text; the order of the lines does not matter.
        merges: How many; fewer are learned once no pair of symbols occurs twice.

    Returns:
        The text of a codes file of subword-nmt: a version line, then one merge a line.

    Raises:
        GammaError: There is no word to learn from, or subword-nmt is missing.
    """
    learn_bpe = _subword_nmt("learn_bpe").learn_bpe
    words = Counter(word for line in lines for word in line.split())
    if all(len(word) == 1 for word in words):
        raise GammaError("there is no word of two characters to learn subwords from")
    counted = "".join(f"{word} {count}\n" for word, count in sorted(words.items()))
    codes = io.StringIO()
    # It prints a progress bar and a note to standard error.
    with contextlib.redirect_stderr(io.StringIO()):
        learn_bpe(io.StringIO(counted), codes, merges, is_dict=True)
    return codes.getvalue()


def count_merges(codes: str) -> int:
    """Return how many merges a codes file holds."""
    return sum(1 for line in codes.split("\n") if line and not line.startswith("#version:"))


def segmenter(codes: str) -> Callable[[str], str]:
    """Make the function that splits the words of a tokenised line: ``vern@@ ü@@ gen``.

    Raises:
        GammaError: The codes are damaged, or subword-nmt is missing.
    """
    apply_bpe = _subword_nmt("apply_bpe")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            bpe = apply_bpe.BPE(io.StringIO(codes))
            bpe.segment("ab")  # a version that it does not know fails here, without a word
    except _DAMAGED as error:
        reason = " ".join(said.getvalue().split())[:200] or one_line(error)
        if isinstance(error, NotImplementedError):
            reason = f"line 1 is {shown(codes.partition(chr(10))[0])}, not '#version: 0.2'"
        raise GammaError(f"the codes of the subwords are damaged: {reason}") from None

    def segment(line: str) -> str:
        return str(bpe.segment(line))

    return segment


def join_subwords(line: str) -> str:
    """Undo :func:`segmenter`: ``vern@@ ü@@ gen`` becomes ``vernügen``."""
    return _MARK.sub("", line)


def vocabulary(lines: Iterable[str]) -> list[tuple[str, int]]:
    """Return tokens and their counts, most frequent first, equal counts by code point.

    This is the order of ``fairseq-preprocess``.
    """
    counts = Counter(token for line in lines for token in line.split())
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _subword_nmt(module: str) -> Any:
    return need(f"subword_nmt.{module}", "translation", "subwords need")
