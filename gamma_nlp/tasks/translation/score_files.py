"""Hypotheses and references from files: two text files, or the log of ``fairseq-generate``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gamma_nlp.errors import GammaError, listed, shown
from gamma_nlp.files.read import read_lines

LOG_LINE = re.compile(r"([A-Z])-([0-9]+)(?:\t|$)")
MOST_DIGITS = 18
"""Of the number of a sentence."""

RESULT = re.compile(r"(.*Generate .* with beam=\d+: )(BLEU\d? = .*)")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Hypotheses and their references, line by line.

    Attributes:
        hypotheses: One side.
        references: The other.
        ids: The number of each sentence where they came from.
        origins: What comes before that number in messages, for either side: ``hyp.txt:``.
    """

    hypotheses: tuple[str, ...]
    references: tuple[str, ...]
    ids: Sequence[int]
    origins: tuple[str, str]

    @property
    def sides(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Hypotheses, then references."""
        return self.hypotheses, self.references

    @property
    def names(self) -> tuple[str, str]:
        """What to call either side in messages."""
        return self.origins[0].rstrip(":-"), self.origins[1].rstrip(":-")

    def at(self, side: int, index: int) -> str:
        """Return where a line came from, for a message."""
        return f"{self.origins[side]}{self.ids[index]}"

    def each(self, change: Callable[[Sequence[str]], Iterable[str]]) -> Pairs:
        """Return the pairs with ``change`` applied to both sides."""
        hypotheses, references = (tuple(change(side)) for side in self.sides)
        return replace(self, hypotheses=hypotheses, references=references)


@dataclass(frozen=True, kw_only=True)
class GenerateLog:
    """The pairs of a log in the order of their ids, and the log's own score if it has one.

    ``prefix`` is the text before the score in its line.
    """

    pairs: Pairs
    prefix: str
    result: str | None


def read_pairs(hypotheses: Path, references: Path) -> Pairs:
    """Read two text files, one sentence a line.

    Raises:
        GammaError: A file cannot be read or is empty, or they differ in length.
    """
    hyp, ref = _sentences(hypotheses), _sentences(references)
    if len(hyp) != len(ref):
        raise GammaError(
            f"HYP and REF must have the same number of lines: {hypotheses} has {len(hyp)}, "
            f"{references} has {len(ref)}"
        )
    return Pairs(
        hypotheses=tuple(hyp),
        references=tuple(ref),
        ids=range(1, len(hyp) + 1),
        origins=(f"{hypotheses}:", f"{references}:"),
    )


def read_log(path: Path) -> GenerateLog:
    """Read the T- and H- lines of a log of ``fairseq-generate``.

    Of several hypotheses for one sentence (``--nbest``) the first, which is the best, counts.

    Raises:
        GammaError: The file cannot be read, has no H- or no T- line, a line that is cut short, a
            reference given twice, or a sentence with only one of the two.
    """
    found: dict[str, dict[int, str]] = {"H": {}, "T": {}}
    prefix, result = "", None
    for number, line in enumerate(_sentences(path), start=1):
        if kind := LOG_LINE.match(line):
            letter = kind[1]
            if letter not in found:
                continue
            if len(kind[2]) > MOST_DIGITS:
                raise GammaError(
                    f"{path}:{number}: {shown(kind[0].strip())} is no number of a sentence; is the "
                    "log damaged?"
                )
            sentence = int(kind[2])
            if letter == "T" and sentence in found["T"]:
                raise GammaError(f"{path}:{number}: a second T-{sentence}; give one log at a time")
            found[letter].setdefault(sentence, _text(line, letter, path, number))
        elif last := RESULT.match(line):
            prefix, result = last[1], last[2].rstrip()
    for letter, what in (("H", "hypotheses"), ("T", "references")):
        if not found[letter]:
            raise GammaError(
                f"{path}: no {letter}- lines, so no {what}; it must be what fairseq-generate "
                "prints without --quiet, of a set with references"
            )
    _check_pairs(found["H"], found["T"], path)
    ids = sorted(found["T"])
    pairs = Pairs(
        hypotheses=tuple(found["H"][i] for i in ids),
        references=tuple(found["T"][i] for i in ids),
        ids=ids,
        origins=("H-", "T-"),
    )
    return GenerateLog(pairs=pairs, prefix=prefix, result=result)


def _sentences(path: Path) -> list[str]:
    lines = read_lines(path)
    if not any(line.strip() for line in lines):
        raise GammaError(f"{path}: the file holds no text; it must hold one sentence a line")
    if len(lines) == 1 and "\r" in lines[0].strip():
        raise GammaError(
            f"{path}: its lines end in a carriage return alone, so it would count as one line; "
            "convert it: tr '\\r' '\\n'"
        )
    return lines


def _text(line: str, letter: str, path: Path, number: int) -> str:
    fields = line.split("\t", maxsplit=1 if letter == "T" else 2)
    if len(fields) != (2 if letter == "T" else 3):
        form = "T-ID<tab>TOKENS" if letter == "T" else "H-ID<tab>SCORE<tab>TOKENS"
        raise GammaError(f"{path}:{number}: expected {form}, got {shown(line)}")
    return fields[-1]


def _check_pairs(hypotheses: Iterable[int], references: Iterable[int], path: Path) -> None:
    h, t = set(hypotheses), set(references)
    problems = []
    for missing, letter, other in ((t - h, "H", "T"), (h - t, "T", "H")):
        if missing:
            names = listed((f"{other}-{i}" for i in sorted(missing)), most=5)
            problems.append(f"no {letter}- line for {names}")
    if problems:
        raise GammaError(f"{path}: {'; '.join(problems)}; is the log complete?")
