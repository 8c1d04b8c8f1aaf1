"""Plain text to tokens and back, as Moses' Perl scripts do it.

sacremoses is a port of ``tokenizer.perl``; :func:`tokenizer` and :func:`lowercase` fix the two
places where the results would differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from gamma_nlp.errors import GammaError, need, shown

LANGUAGES = ("de", "en", "fr")

_ISO_639_1 = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv "
    "cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho "
    "hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku "
    "kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn "
    "no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm "
    "sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi "
    "vo wa wo xh yi yo za zh zu "
)
CODES = frozenset(_ISO_639_1.split())
"""The languages of ISO 639-1."""

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
    check_language(language)
    moses = need("sacremoses", "translation", "detokenisation needs").MosesDetokenizer(language)
    return [moses.detokenize(line.split()) for line in lines]


def check_language(language: str) -> None:
    """Raise unless ``language`` is the code of a language.

    Raises:
        GammaError: It is not.
    """
    if language not in CODES:
        hint = "a language code has two lower-case letters, such as en"
        if re.fullmatch("[a-z]{2}", language):
            hint = "no language has this code (ISO 639-1); English is en, German de, French fr"
        raise GammaError(f"{hint}; got {shown(language)}")


def single_spaces(line: str) -> str:
    """Return a line with each run of white space replaced by one space."""
    return " ".join(line.split())
