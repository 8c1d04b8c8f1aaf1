"""Parallel text as it is read from a folder: pairs of lines, and strict checks of both files.

A pair stays together from the file to the output: whatever drops a line drops its partner.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gamma_nlp.errors import GammaError, listed, one_line
from gamma_nlp.files.read import read_bytes, text_lines

Pair = tuple[str, str]

_VALID_NAMES = ("valid", "val", "dev")
_SUBWORD = re.compile(r"\S*\w@@(?= )")
_MARKED = re.compile(r"\S*@@(?= |$)")


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a corpus.

    Attributes:
        name: ``train``, ``valid``, or a test set's own name.
        pairs: Its lines as they were read.
        straighten: Whether to replace typographic apostrophes by plain ones before tokenisation.
        markup: How many lines of the source hold markup alone and are in no pair.
    """

    name: str
    pairs: Sequence[Pair]
    straighten: bool = False
    markup: int = 0


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus as it was read.

    Attributes:
        languages: Two language codes, in the order of every pair.
        splits: ``train`` first.
        sources: File name -> SHA-256 of what it was read from.
        official: Whether it is IWSLT14's archive, whose counts are known.
    """

    languages: tuple[str, str]
    splits: Sequence[Split]
    sources: Mapping[str, str] = field(default_factory=dict)
    official: bool = False

    @property
    def names(self) -> list[str]:
        return [split.name for split in self.splits]


def pair_up(one: Sequence[str], two: Sequence[str], names: tuple[str, str]) -> list[Pair]:
    """Join two files line by line.

    Raises:
        GammaError: They differ in length; the message names the first line without a partner.
    """
    if len(one) != len(two):
        longer, shorter = names if len(one) > len(two) else names[::-1]
        counts = max(len(one), len(two)), min(len(one), len(two))
        raise GammaError(
            f"{longer} has {counts[0]} lines and {shorter} has {counts[1]}: {longer}:"
            f"{counts[1] + 1} has no partner; the two files must correspond line by line"
        )
    return list(zip(one, two, strict=True))


def read_folder(folder: Path, languages: tuple[str, str], *, tokenized: bool = False) -> Corpus:
    """Read ``train.*``, ``valid.*`` (or ``val.*``, ``dev.*``) and every ``test*.*``.

    Args:
        folder: Holds one file per split and language, one sentence a line: ``train.de`` ...
        languages: Which two languages.
        tokenized: Whether the text is Moses-tokenised already.

    Returns:
        The splits; without ``valid`` where the folder has none.

    Raises:
        GammaError: A file is missing, is not UTF-8 or lacks a line; or its text is split into
            subwords already, or is tokenised although ``tokenized`` says it is not, or the reverse.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise GammaError(f"cannot read {folder}: {one_line(error)}") from error
    stems = _stems(names, languages)
    valid = [stem for stem in _VALID_NAMES if stem in stems]
    if len(valid) > 1:
        raise GammaError(f"{folder} has both {valid[0]}.* and {valid[1]}.*; keep one of them")
    tests = sorted(stem for stem in stems if stem.startswith("test"))
    if "train" not in stems or not tests:
        lacks = "train" if "train" not in stems else "test"
        raise GammaError(
            f"{folder} lacks {lacks}.{languages[0]} and {lacks}.{languages[1]}; expected train.*, "
            f"valid.* (or val.*, dev.*) and test*.*, and found {_shown(names)}"
        )
    missing = [
        f"{stem}.{language}"
        for stem in ("train", *valid, *tests)
        for language in languages
        if f"{stem}.{language}" not in names
    ]
    if missing:
        raise GammaError(
            f"{folder} lacks {', '.join(missing)}; it has {_shown(names)}. Add the missing "
            "language, or choose two others: --languages"
        )
    sources: dict[str, str] = {}
    splits = []
    for stem in ("train", *valid, *tests):
        sides = []
        for language in languages:
            path = folder / f"{stem}.{language}"
            data = read_bytes(path)
            sources[path.name] = hashlib.sha256(data).hexdigest()
            sides.append(text_lines(data, path))
            check_subwords(sides[-1], path, tokenized)
            if stem == "train":
                check_tokens(sides[-1], path, tokenized)
        both = (str(folder / f"{stem}.{languages[0]}"), str(folder / f"{stem}.{languages[1]}"))
        name = "valid" if stem in valid else stem
        splits.append(Split(name=name, pairs=pair_up(sides[0], sides[1], both)))
    return Corpus(languages=languages, splits=splits, sources=sources)


def _stems(names: Sequence[str], languages: tuple[str, str]) -> set[str]:
    split = (name.rpartition(".") for name in names)
    return {stem for stem, _, language in split if language in languages}


def check_subwords(lines: Sequence[str], path: Path | str, tokenized: bool) -> None:
    """Raise if the text is split into subwords already; ``path`` names it in the error."""
    # Moses takes a stray @@ apart; in tokenised text it would pass for a mark of subwords.
    piece = _MARKED if tokenized else _SUBWORD
    for number, line in enumerate(lines, start=1):
        if "@@" in line and (found := piece.search(line)):
            raise GammaError(
                f"{path}:{number}: {found.group()!r} reads as a piece of a word, so the text was "
                "split into subwords already; give the text before that, or undo it: "
                "sed -E 's/@@( |$)//g'"
            )


def check_tokens(lines: Sequence[str], path: Path | str, tokenized: bool) -> None:
    """Raise if the text looks tokenised and ``tokenized`` is false, or the reverse."""
    # Final periods tell, and escapes such as &amp; do not: text from the web has those raw.
    apart = sum(line.endswith(" .") for line in lines)
    joined = sum(line.endswith(".") for line in lines) - apart
    if apart > joined and not tokenized:
        raise GammaError(
            f"{path} looks tokenised already: {apart} of {apart + joined} final periods stand "
            "apart from the last word; add --tokenized"
        )
    if joined > apart and tokenized:
        raise GammaError(
            f"{path} does not look tokenised: {joined} of {apart + joined} final periods are part "
            "of the last word; leave out --tokenized"
        )


def _shown(names: Sequence[str]) -> str:
    return listed(names, most=12) or "no files"
