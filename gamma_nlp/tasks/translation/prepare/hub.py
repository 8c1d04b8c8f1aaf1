"""Parallel text from a dataset of the Hugging Face hub."""

from __future__ import annotations

import hashlib
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.hub import load_hub_dataset
from gamma_nlp.tasks.translation.prepare.corpus import (
    Corpus,
    Pair,
    Split,
    check_subwords,
    check_tokens,
)

_VALID = ("validation", "valid", "val", "dev")


def read_hub_corpus(name: str, languages: tuple[str, str], *, tokenized: bool = False) -> Corpus:
    """Load parallel text with a column per language, or one ``translation`` column with both.

    Args:
        name: ``OWNER/NAME`` or ``OWNER/NAME:CONFIG``.
        languages: Which two.
        tokenized: Whether the text is Moses-tokenised already.

    Raises:
        GammaError: It cannot be loaded or lacks these columns or splits; or its text is split into
            subwords already, or is tokenised although ``tokenized`` says it is not, or the reverse.
    """
    path, _, config = name.partition(":")
    give = "give a folder with train.LANG, valid.LANG and test.LANG instead"
    found = load_hub_dataset(path, config or None, otherwise=give)
    valid = [split for split in _VALID if split in found]
    tests = sorted(split for split in found if split.startswith("test"))
    if "train" not in found or not tests:
        raise GammaError(
            f"hub:{name} has the splits {', '.join(found)}, and must have train and test; {give}"
        )
    names = {"train": "train", **{split: "valid" for split in valid[:1]}}
    names |= {split: split for split in tests}
    splits, sources = [], {}
    for old, new in names.items():
        where = f"hub:{name}, {old}"
        pairs = _pairs(found[old], languages, where)
        for language, lines in zip(languages, zip(*pairs, strict=True), strict=True):
            check_subwords(lines, f"{where}, {language}", tokenized)
            if old == "train":
                check_tokens(lines, f"{where}, {language}", tokenized)
            text = "".join(f"{line}\n" for line in lines).encode("utf-8")
            sources[f"hub:{name}/{old}.{language}"] = hashlib.sha256(text).hexdigest()
        splits.append(Split(name=new, pairs=pairs))
    return Corpus(languages=languages, splits=splits, sources=sources)


def _pairs(rows: Any, languages: tuple[str, str], where: str) -> list[Pair]:
    columns = rows.column_names
    if set(languages) <= set(columns):
        sides = [rows[language][:] for language in languages]
    elif "translation" in columns:
        both = rows["translation"][:]
        if missing := [x for x in languages if both and x not in both[0]]:
            raise GammaError(f"{where}: no {missing[0]} in translation, only {', '.join(both[0])}")
        sides = [[pair[language] for pair in both] for language in languages]
    else:
        raise GammaError(
            f"{where} has the columns {', '.join(columns)}; expected {' and '.join(languages)}, "
            "or translation"
        )
    # A line feed inside a sentence would put the written files out of step.
    one, two = ([" ".join((text or "").split("\n")) for text in side] for side in sides)
    return list(zip(one, two, strict=True))
