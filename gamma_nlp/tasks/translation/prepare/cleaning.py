"""The steps before subwords: tokenise, clean, lower-case, set validation lines aside.

:class:`Preparation` says which, :func:`clean_corpus` does them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation import moses
from gamma_nlp.tasks.translation.moses import single_spaces
from gamma_nlp.tasks.translation.prepare.corpus import Corpus, Pair, Split

_LONGEST_WORD = 1000


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """Which tokenised pairs stay, by the rules of Moses' ``clean-corpus-n.perl``.

    Attributes:
        max_ratio: The longer side may have this many times the tokens of the shorter;
            ``None`` for no limit.
        max_length: Most tokens a side; ``None`` for no limit.
    """

    max_ratio: float | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        if self.max_ratio is not None and not self.max_ratio >= 1:
            raise GammaError(f"max_ratio must be at least 1, not {self.max_ratio}")
        if self.max_length is not None and self.max_length < 1:
            raise GammaError(f"max_length must be at least 1, not {self.max_length}")

    def reason_to_drop(self, pair: Pair) -> str | None:
        """``empty``, ``long``, ``ratio`` or ``long_word``; ``None`` where the pair stays."""
        one, two = (side.split() for side in pair)
        if not one or not two:
            return "empty"
        shorter, longer = sorted((len(one), len(two)))
        if self.max_length is not None and longer > self.max_length:
            return "long"
        if self.max_ratio is not None and longer / shorter > self.max_ratio:
            return "ratio"
        limited = self.max_ratio is not None or self.max_length is not None
        if limited and any(len(word) > _LONGEST_WORD for word in one + two):
            return "long_word"
        return None


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How to prepare a corpus.

    Attributes:
        merges: Merges of the joint byte-pair encoding.
        cleaning: Which training pairs stay. From other splits only empty pairs are dropped.
        valid_every: Without a validation file, every line of the cleaned training text whose
            number is a multiple of this goes to the validation set; ``None`` to demand a file.
        lowercase: Whether to lower-case the text.
        tokenized: Whether the input is Moses-tokenised already.
    """

    merges: int
    cleaning: Cleaning
    valid_every: int | None = None
    lowercase: bool = True
    tokenized: bool = False

    def __post_init__(self) -> None:
        if self.merges < 1:
            raise GammaError(f"merges must be at least 1, not {self.merges}")
        if self.valid_every is not None and self.valid_every < 2:
            raise GammaError(f"valid_every must be at least 2, not {self.valid_every}")


PREPARATIONS = {
    "iwslt14": Preparation(
        merges=10_000, cleaning=Cleaning(max_ratio=1.5, max_length=175), valid_every=23
    ),
    # Its own validation file, and all 29,000 pairs, as published results have them.
    "multi30k": Preparation(merges=4_000, cleaning=Cleaning()),
}


class Sentence(NamedTuple):
    """A pair as it was read, and tokenised."""

    raw: Pair
    tokens: Pair


def default_preparation(corpus: Corpus) -> str:
    """Return ``multi30k`` where the names of files or test sets say so, else ``iwslt14``."""
    named = any(name.endswith("_flickr") for name in corpus.names)
    named = named or any("multi30k" in source.lower() for source in corpus.sources)
    return "multi30k" if named else "iwslt14"


def clean_corpus(
    corpus: Corpus, preparation: Preparation, report: dict[str, dict[str, Any]]
) -> Iterator[tuple[str, Sentence]]:
    """Tokenise and clean every split; without a validation file, take lines of the training text.

    One sentence is held at a time, so a corpus of any size takes the memory of its text.

    Args:
        corpus: The pairs.
        preparation: What to do with them.
        report: Filled with what became of each split, ``train`` and ``valid`` first: how many
            pairs were read, dropped for which reason, moved, and are left (``written``).

    Yields:
        Each sentence that stays, after the name of the split that it goes to.

    Raises:
        GammaError: There is no validation file and ``valid_every`` is ``None``, or no pair is left
            in a split.
    """
    every = None if "valid" in corpus.names else preparation.valid_every
    if "valid" not in corpus.names and every is None:
        raise GammaError(
            "the input has no valid.* (or val.*, dev.*); add it, or take lines of the training "
            "text: --valid-every 23"
        )
    for split in corpus.splits:
        report[split.name] = {"markup_lines": split.markup, "read": len(split.pairs), "dropped": {}}
        if split.name == "train" and every is not None:
            report["train"]["moved_to_valid"] = 0
            report["valid"] = {"taken_from_train": 0}
    written = dict.fromkeys(report, 0)
    for split in corpus.splits:
        dropped: Counter[str] = Counter()
        for number, sentence in enumerate(_cleaned(split, corpus, preparation, dropped), start=1):
            moved = split.name == "train" and every is not None and number % every == 0
            name = "valid" if moved else split.name
            written[name] += 1
            yield name, sentence
        report[split.name]["dropped"] = dict(sorted(dropped.items()))
    if every is not None:
        report["train"]["moved_to_valid"] = written["valid"]
        report["valid"]["taken_from_train"] = written["valid"]
    for name, count in written.items():
        if not count:
            raise GammaError(
                f"no pair of {name} is left; the input is empty, or cleaning dropped all"
            )
        report[name]["written"] = count


def _cleaned(
    split: Split, corpus: Corpus, preparation: Preparation, dropped: Counter[str]
) -> Iterator[Sentence]:
    """Yield the sentences of a split that stay; count the others by the reason."""
    # A pair dropped from a test set would change what is measured: only empty ones go.
    cleaning = preparation.cleaning if split.name == "train" else Cleaning()
    one, two = (
        _tokenizer(language, preparation, split.straighten) for language in corpus.languages
    )
    for raw in split.pairs:
        tokens = one(raw[0]), two(raw[1])
        reason = cleaning.reason_to_drop(tokens)
        if reason is None:
            yield Sentence(raw=raw, tokens=tokens)
        else:
            dropped[reason] += 1


def _tokenizer(language: str, preparation: Preparation, straighten: bool) -> Callable[[str], str]:
    tokenize = single_spaces if preparation.tokenized else moses.tokenizer(language)

    def run(line: str) -> str:
        tokens = tokenize(line.replace("\u2019", "'") if straighten else line)
        return moses.lowercase(tokens) if preparation.lowercase else tokens

    return run
