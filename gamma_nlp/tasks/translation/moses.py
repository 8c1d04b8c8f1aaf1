"""Plain text to tokens and back, as Moses' Perl scripts do it.

sacremoses is a port of ``tokenizer.perl``; :func:`tokenizer` and :func:`lowercase` fix the two
places where the results would differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from gamma_nlp.errors import GammaError, need

LANGUAGES = ("de", "en", "fr")

_SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
_FINAL_PERIOD = re.compile(r"(?<=[^ .])\.$")


def tokenizer(language: str) -> Callable[[str], str]:
    """Make the tokenizer of a language: a line in, its tokens joined by single spaces out.

    Hyphens stay inside words, and special characters are escaped (``'`` as ``&apos;``), which are
    the defaults of ``tokenizer.perl``.

    Raises:
        GammaError: The language is not ``de``, ``en`` or ``fr``, or sacremoses is missing.

    Example:
        >>> tokenizer("en")("It's well-known in the U.S.")
        'It &apos;s well-known in the U.S .'
    """
    if language not in LANGUAGES:
        raise GammaError(f"language {language!r} is not one of {', '.join(LANGUAGES)}")
    moses = need("sacremoses", "translation", "tokenisation needs").MosesTokenizer(language)

    def tokenize(line: str) -> str:
        tokens = moses.tokenize(line, return_str=True)
        # sacremoses keeps the period of a last word such as "U.S."; Perl splits it off.
        return _FINAL_PERIOD.sub(" .", " ".join(tokens.split()))

    return tokenize


def lowercase(line: str) -> str:
    """Lower-case as Perl does, which unlike Python has no separate final sigma."""
    return line.replace("\N{GREEK CAPITAL LETTER SIGMA}", _SIGMA).lower()


def detokenize(lines: Iterable[str], language: str) -> list[str]:
    """Undo Moses tokenisation and its escapes (``&apos;``) in lines without BPE marks.

    Args:
        lines: Tokens separated by spaces.
        language: Two letters, such as ``en``; some languages have rules of their own.

    Raises:
        GammaError: ``language`` is not a language code, or sacremoses is missing.
    """
    if not re.fullmatch("[a-z]{2}", language):
        raise GammaError(
            f"a language code has two lower-case letters, such as en; got {language!r}"
        )
    moses = need("sacremoses", "translation", "detokenisation needs").MosesDetokenizer(language)
    return [moses.detokenize(line.split()) for line in lines]


def single_spaces(line: str) -> str:
    """Return a line with each run of white space replaced by one space."""
    return " ".join(line.split())
