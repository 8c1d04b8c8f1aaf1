"""Joint subwords: learned the same everywhere, undone without loss."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.opinions import opinions
from gamma_nlp.tasks.translation.subwords import (
    count_merges,
    join_subwords,
    learn_codes,
    segmenter,
    vocabulary,
)
from tests.support.paths import ROOT

LINES = [sentence for sentence, _ in opinions(300, seed=1)]
CODES = learn_codes(LINES, 120)
SEGMENT = segmenter(CODES)

# Words may hold anything but white space, and may not end like a mark of subwords.
WORD = st.text(
    st.one_of(st.sampled_from("@</w>aeilnort'&;-"), st.characters(codec="utf-8")), min_size=1
).filter(lambda word: word.split() == [word] and not word.endswith("@@"))


@given(st.lists(WORD, min_size=1, max_size=6).map(" ".join))
def test_joining_gives_back_every_line(line: str) -> None:
    assert join_subwords(SEGMENT(line)) == line


def test_bpe_marks_are_joined_within_and_at_the_end_of_a_line() -> None:
    assert join_subwords("the re@@ ven@@ ues of no@@ ah") == "the revenues of noah"
    assert join_subwords("cut sh@@") == "cut sh"
    assert join_subwords("mail a@@b @@c") == "mail a@@b @@c"


def test_training_text_is_split_and_joined_without_loss() -> None:
    pieces = [SEGMENT(line) for line in LINES]
    assert any("@@ " in line for line in pieces)
    assert [join_subwords(line) for line in pieces] == LINES


def test_codes_are_those_of_the_plain_tool() -> None:
    from subword_nmt.learn_bpe import learn_bpe

    out = io.StringIO()
    learn_bpe(io.StringIO("\n".join(LINES) + "\n"), out, 120)
    assert out.getvalue() == CODES
    assert count_merges(CODES) == 120


def test_the_order_of_lines_does_not_matter() -> None:
    shuffled = LINES.copy()
    random.Random(0).shuffle(shuffled)
    assert learn_codes(shuffled, 120) == CODES


@pytest.mark.parametrize("seed", ["1", "2"])
def test_codes_are_the_same_under_any_hash_seed(seed: str) -> None:
    code = (
        "import sys; from gamma_nlp.tasks.translation.subwords import learn_codes; "
        "sys.stdout.buffer.write(learn_codes(sys.stdin.read().split('\\n'), 120).encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(LINES).encode(),
        env=os.environ | {"PYTHONHASHSEED": seed},
        cwd=ROOT,
        capture_output=True,
    )
    assert done.stdout.decode() == CODES, done.stderr


def test_merges_end_where_no_pair_comes_twice(capfd: pytest.CaptureFixture[str]) -> None:
    codes = learn_codes(["ab ab ac"], 50)
    assert codes.splitlines() == ["#version: 0.2", "a b</w>"]
    assert count_merges(codes) == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("lines", [[], ["", " "], ["a b c"]])
def test_text_without_words_is_refused(lines: list[str]) -> None:
    with pytest.raises(GammaError, match="no word of two characters"):
        learn_codes(lines, 10)


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        ("#version: 0.9\na b\n", r"line 1 is '#version: 0\.9', not '#version: 0\.2'"),
        ("#version: 0.2\na b c\n", r".*"),
        ("#version: x\na b\n", r".*"),
    ],
)
def test_damaged_codes_are_named_before_any_line_is_split(codes: str, reason: str) -> None:
    with pytest.raises(GammaError, match=f"^the codes of the subwords are damaged: {reason}$"):
        segmenter(codes)


def test_vocabulary_is_ordered_by_count_and_then_by_code_point() -> None:
    lines = ["b a b", "c é a Z"]
    assert vocabulary(lines) == [("a", 2), ("b", 2), ("Z", 1), ("c", 1), ("é", 1)]
    counts = Counter(" ".join(map(SEGMENT, LINES)).split())
    assert dict(vocabulary(map(SEGMENT, LINES))) == counts


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "subword_nmt.learn_bpe", None)
    monkeypatch.setitem(sys.modules, "subword_nmt.apply_bpe", None)
    for call in (lambda: learn_codes(LINES, 1), lambda: segmenter(CODES)):
        with pytest.raises(GammaError, match=r"pip install 'gamma_nlp\[translation\]'"):
            call()
