"""Translations, references and a log of fairseq's, written into a folder to be scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamma_nlp.cli import main

Capture = pytest.CaptureFixture[str]
HYP = ["the cat sat on the mat .", "a small dog"]
REF = ["the cat sat on a mat .", "a small dog barks"]
LOG = """\
S-1\tein kleiner hund
T-1\ta small dog barks
H-1\t-0.5\ta small dog
D-1\t-0.5\ta small dog
P-1\t-0.1 -0.2 -0.3 -0.4
S-0\tdie katze
T-0\tthe cat sat on a mat .
H-0\t-0.25\tthe cat sat on the mat .
H-0\t-0.75\tnot the best one
"""
# 6 + 3 of 7 + 3 words match, 4 + 2 of 6 + 2 pairs, 2 + 1 of 5 + 1 triples, 1 + 0 of 4 + 0: the
# product is 27/320 and its fourth root 0.53896. 10 words for 11: exp(1 - 11/10) is 0.90484, and
# 0.53896 * 0.90484 is 0.48767.
RESULT = "BLEU4 = 48.77, 90.0/75.0/50.0/25.0 (BP=0.905, ratio=0.909, syslen=10, reflen=11)"


def write(folder: Path, name: str, lines: list[str]) -> str:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def error(words: list[str], capsys: Capture) -> str:
    assert main.main(["score", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err
