"""Hypotheses and references from files: two text files, or the log of ``fairseq-generate``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gamma_nlp.errors import GammaError
from gamma_nlp.files import read_lines

LOG_LINE = re.compile(r"([A-Z])-(\d+)(?:\t|$)")
RESULT = re.compile(r"(.*Generate .* with beam=\d+: )(BLEU\d? = .*)")
NAMED = 5
"""Ids that an error names, of those it is about."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Hypotheses and their references, line by line."""

    hypotheses: tuple[str, ...]
    references: tuple[str, ...]

    def each(self, change: Callable[[Sequence[str]], Iterable[str]]) -> Pairs:
        """The pairs with both sides changed alike."""
        return Pairs(
            hypotheses=tuple(change(self.hypotheses)), references=tuple(change(self.references))
        )


@dataclass(frozen=True, kw_only=True)
class GenerateLog:
    """The pairs of a log in the order of their ids, and its own result where it has one.

    ``prefix`` is what stands before the result in its line.
    """

    pairs: Pairs
    prefix: str
    result: str | None


def read_pairs(hypotheses: Path, references: Path) -> Pairs:
    """Read two text files, one sentence a line.

    Raises:
        GammaError: A file that cannot be read or is empty, or files of different length.
    """
    hyp, ref = _sentences(hypotheses), _sentences(references)
    if len(hyp) != len(ref):
        raise GammaError(
            f"HYP and REF must have the same number of lines: {hypotheses} has {len(hyp)}, "
            f"{references} has {len(ref)}"
        )
    return Pairs(hypotheses=tuple(hyp), references=tuple(ref))


def read_log(path: Path) -> GenerateLog:
    """Read the T- and H- lines of a log of ``fairseq-generate``; of several hypotheses for one
    sentence (``--nbest``) the first, which is the best, counts.

    Raises:
        GammaError: A file that cannot be read, no H- or T- line, a line cut short, a reference
            given twice, or a sentence with only one of the two.
    """
    found: dict[str, dict[int, str]] = {"H": {}, "T": {}}
    prefix, result = "", None
    for number, line in enumerate(_sentences(path), start=1):
        if kind := LOG_LINE.match(line):
            letter, sentence = kind[1], int(kind[2])
            if letter not in found:
                continue
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
    _insist_on_pairs(found["H"], found["T"], path)
    ids = sorted(found["T"])
    pairs = Pairs(
        hypotheses=tuple(found["H"][i] for i in ids), references=tuple(found["T"][i] for i in ids)
    )
    return GenerateLog(pairs=pairs, prefix=prefix, result=result)


def _sentences(path: Path) -> list[str]:
    lines = read_lines(path)
    if not any(line.strip() for line in lines):
        raise GammaError(f"{path}: the file holds no text; it must hold one sentence a line")
    return lines


def _text(line: str, letter: str, path: Path, number: int) -> str:
    fields = line.split("\t", maxsplit=1 if letter == "T" else 2)
    if len(fields) != (2 if letter == "T" else 3):
        form = "T-ID<tab>TOKENS" if letter == "T" else "H-ID<tab>SCORE<tab>TOKENS"
        raise GammaError(f"{path}:{number}: expected {form}, got {line!r}")
    return fields[-1]


def _insist_on_pairs(hypotheses: Iterable[int], references: Iterable[int], path: Path) -> None:
    heard, meant = set(hypotheses), set(references)
    problems = []
    for missing, letter, other in ((meant - heard, "H", "T"), (heard - meant, "T", "H")):
        if missing:
            names = [f"{other}-{i}" for i in sorted(missing)[:NAMED]]
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            problems.append(f"no {letter}- line for {', '.join(names)}{more}")
    if problems:
        raise GammaError(f"{path}: {'; '.join(problems)}; is the log complete?")
