"""Tokenisation as Moses' Perl scripts do it; the expected lines are tokenizer.perl's."""

from __future__ import annotations

import sys

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.moses import lowercase, tokenizer


@pytest.mark.parametrize(
    ("language", "line", "tokens"),
    [
        ("en", "It's well-known, isn't it?", "It &apos;s well-known , isn &apos;t it ?"),
        ("en", "Mr. Smith paid $1,000.50.", "Mr. Smith paid $ 1,000.50 ."),
        ("en", '"AT&T" [1]', "&quot; AT &amp; T &quot; &#91; 1 &#93;"),
        ("en", "1 | 2 <3>", "1 &#124; 2 &lt; 3 &gt;"),
        ("en", "all in the U.S.", "all in the U.S ."),
        ("en", "in the U.S. Army", "in the U.S. Army"),
        ("en", "Well ... so....", "Well ... so ...."),
        ("en", "  two \t spaces\u00a0here ", "two spaces here"),
        ("de", "Das ist z.B. ein saftig-grünes Gras.", "Das ist z.B. ein saftig-grünes Gras ."),
        ("de", "Peter's Hund", "Peter &apos; s Hund"),
        ("fr", "L'herbe d'été, c'est où ?", "L&apos; herbe d&apos; été , c&apos; est où ?"),
        ("en", "", ""),
    ],
)  # fmt: skip
def test_a_line_is_tokenised_as_by_moses(language: str, line: str, tokens: str) -> None:
    assert tokenizer(language)(line) == tokens


def test_lower_case_is_perls() -> None:
    assert lowercase("ÄÖÜ ẞ ΟΔΟΣ U.S .") == "äöü ß οδοσ u.s ."


def test_another_language_is_refused() -> None:
    with pytest.raises(GammaError, match="'xx' is not one of de, en, fr"):
        tokenizer("xx")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(GammaError, match=r"pip install 'gamma_nlp\[translation\]'"):
        tokenizer("en")
