"""Joint byte-pair encoding in the classic ``@@ `` notation (Sennrich et al., arXiv:1508.07909)."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable

from gamma_nlp.errors import GammaError


def learn_codes(lines: Iterable[str], merges: int) -> str:
    """Learn merges from tokenised lines of both languages.

    Args:
        lines: The training text; the order of the lines does not matter.
        merges: How many; fewer are learned where no pair of symbols is left that comes twice.

    Returns:
        The text of a codes file of subword-nmt, one merge a line after its version line.

    Raises:
        GammaError: There is no word to learn from, or subword-nmt is missing.
    """
    try:
        from subword_nmt.learn_bpe import learn_bpe
    except ImportError as error:
        raise _missing() from error
    words = Counter(word for line in lines for word in line.split())
    if all(len(word) == 1 for word in words):
        raise GammaError("there is no word of two characters to learn subwords from")
    counted = "".join(f"{word} {count}\n" for word, count in sorted(words.items()))
    codes = io.StringIO()
    # It draws a progress bar and a note on standard error.
    with contextlib.redirect_stderr(io.StringIO()):
        learn_bpe(io.StringIO(counted), codes, merges, is_dict=True)
    return codes.getvalue()


def segmenter(codes: str) -> Callable[[str], str]:
    """Make the function that splits the words of a tokenised line: ``vern@@ ü@@ gen``.

    Raises:
        GammaError: subword-nmt is missing.
    """
    try:
        from subword_nmt.apply_bpe import BPE
    except ImportError as error:
        raise _missing() from error
    bpe = BPE(io.StringIO(codes))

    def segment(line: str) -> str:
        return str(bpe.segment(line))

    return segment


def join_subwords(line: str) -> str:
    """Undo :func:`segmenter`: ``vern@@ ü@@ gen`` becomes ``vernügen``."""
    return f"{line} ".replace("@@ ", "").rstrip(" ")


def count_merges(codes: str) -> int:
    """How many merges a codes file holds."""
    return sum(1 for line in codes.split("\n") if line and not line.startswith("#version:"))


def vocabulary(lines: Iterable[str]) -> list[tuple[str, int]]:
    """Tokens and their counts, most frequent first, equal counts by code point.

    This is the order of ``fairseq-preprocess``.
    """
    counts = Counter(token for line in lines for token in line.split())
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _missing() -> GammaError:
    return GammaError("subwords need subword-nmt: pip install 'gamma_nlp[translation]'")


BPE_MARK = re.compile("@@( |$)")


def join_bpe(line: str) -> str:
    """Undo byte-pair encoding: ``re@@ ven@@ ues`` is ``revenues``."""
    return BPE_MARK.sub("", line)
