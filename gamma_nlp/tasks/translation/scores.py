"""Scores of translations: BLEU over tokens as fairseq prints it, sacreBLEU and chrF.

They are different scales. BLEU over tokens depends on how the text was cut into tokens, so it
compares only with scores on the same tokens. sacreBLEU tokenises plain text itself, and its
signature says how.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gamma_nlp.errors import GammaError, need

ORDER = 4
END, PAD = "</s>", "<pad>"
"""Words that fairseq's dictionary keeps for itself."""

UNKNOWNS = re.compile(r"<<unk>>|<unk>|\[UNK\]|\u2047", re.IGNORECASE)
"""What stands for a word that a vocabulary lacks: fairseq writes ``<<unk>>`` in references."""

TOKENIZERS = ("13a", "intl", "char", "zh", "none")
"""Tokenizers of sacrebleu that need neither another package nor a download."""

NEVER, NEITHER = "\udc00", "\udc01"
"""Unknown words of references and of hypotheses, which match nothing: text that was read as UTF-8
has no lone surrogates."""


@dataclass(frozen=True, kw_only=True)
class TokenBleu:
    """Corpus BLEU-4 over tokens, in fairseq's arithmetic.

    ``matches`` and ``totals`` count n-grams of the hypotheses, for n from 1 to 4. ``str`` gives
    the form in which fairseq 0.12 prints it.
    """

    matches: tuple[int, ...]
    totals: tuple[int, ...]
    hyp_length: int
    ref_length: int

    # sacrebleu computes 100 * a / b and the logarithm of that, fairseq a / b * 100. They differ
    # in the last bit, and so do the printed digits at times: 23 of 80 is 28.8 there and 28.7 here.

    @property
    def precisions(self) -> tuple[float, ...]:
        """Clipped precisions from 0 to 1; 0 where there is no n-gram at all."""
        pairs = zip(self.matches, self.totals, strict=True)
        return tuple(match / total if total else 0.0 for match, total in pairs)

    @property
    def brevity_penalty(self) -> float:
        """1, or less where the hypotheses are shorter than the references."""
        return min(1.0, math.exp(1 - self.ref_length / self.hyp_length))

    @property
    def ratio(self) -> float:
        """Length of the hypotheses over length of the references."""
        return self.hyp_length / self.ref_length

    @property
    def score(self) -> float:
        """BLEU from 0 to 100, without smoothing: 0 as soon as one precision is."""
        logs = sum(math.log(p) if p > 0 else -math.inf for p in self.precisions)
        return self.brevity_penalty * math.exp(logs / ORDER) * 100

    def __str__(self) -> str:
        precisions = "/".join(f"{p * 100:.1f}" for p in self.precisions)
        return (
            f"BLEU{ORDER} = {self.score:.2f}, {precisions} (BP={self.brevity_penalty:.3f}, "
            f"ratio={self.ratio:.3f}, syslen={self.hyp_length}, reflen={self.ref_length})"
        )


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """A score by sacrebleu: its value, its signature, and both as sacrebleu writes them."""

    score: float
    signature: str
    text: str


def token_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> TokenBleu:
    """Return BLEU-4 over whitespace tokens, as ``fairseq-generate`` and ``fairseq-score`` print it.

    An unknown word in a reference matches nothing, and an empty line counts as one end token.
    The n-grams are counted by sacrebleu, which counts what fairseq's libbleu does.

    Args:
        hypotheses: One line of tokens per sentence.
        references: As many lines.

    Raises:
        GammaError: No sentence, lists of different length, or sacrebleu is missing.

    Source: ``fairseq/scoring/bleu.py`` and ``fairseq/clib/libbleu`` of fairseq 0.12.2.
    """
    _check(hypotheses, references)
    # `force` only silences a warning that the text looks tokenised, as it should here.
    metric = _sacrebleu().BLEU(tokenize="none", smooth_method="none", force=True)
    hypotheses = [" ".join(_words(line)) for line in hypotheses]
    references = [
        " ".join(NEVER if UNKNOWNS.fullmatch(word) else word for word in _words(line))
        for line in references
    ]
    found = metric.corpus_score(hypotheses, [references])
    return TokenBleu(
        matches=tuple(found.counts),
        totals=tuple(found.totals),
        hyp_length=found.sys_len,
        ref_length=found.ref_len,
    )


def _words(line: str) -> list[str]:
    """Return the words that count.

    fairseq ends every line with an end token, then trims padding and end tokens, but keeps one
    word, so that no line has length 0.
    """
    words = [*line.split(), END]
    first = next(i for i, word in enumerate(words) if word != PAD)
    words = words[first:]
    while len(words) > 1 and words[-1] in (END, PAD):
        words.pop()
    return words


def sacre_bleu(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> TextScore:
    """Return sacreBLEU of plain, detokenised text, with its signature.

    An unknown word (:data:`UNKNOWNS`) counts as one word that matches nothing.

    Args:
        hypotheses: One sentence per line.
        references: As many lines.
        tokenize: One of :data:`TOKENIZERS`.
        lowercase: Ignore case.

    Raises:
        GammaError: No sentence, lists of different length, an unknown tokenizer, or sacrebleu is
            missing.
    """
    _check(hypotheses, references)
    if tokenize not in TOKENIZERS:
        raise GammaError(f"no tokenizer {tokenize!r}; there are {', '.join(TOKENIZERS)}")
    metric = _sacrebleu().BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
    return _of_text(metric, hypotheses, references)


def chrf(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False
) -> TextScore:
    """Return chrF2 of plain, detokenised text, with its signature.

    Args:
        hypotheses: One sentence per line.
        references: As many lines.
        lowercase: Ignore case.

    Raises:
        GammaError: No sentence, lists of different length, or sacrebleu is missing.
    """
    _check(hypotheses, references)
    return _of_text(_sacrebleu().CHRF(lowercase=lowercase), hypotheses, references)


def sacre_counts(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False
) -> list[tuple[int, ...]]:
    """Return what :func:`sacre_bleu` adds up, for each sentence: ten numbers.

    They are the length of the hypothesis and of the reference, matching n-grams for n from 1 to 4,
    and the n-grams of the hypothesis.
    """
    _check(hypotheses, references)
    metric = _sacrebleu().BLEU(tokenize="13a", lowercase=lowercase, force=True)
    found = []
    for known, intended in zip(*_without_unknowns(hypotheses, references), strict=True):
        one = metric.corpus_score([known], [[intended]])
        found.append((one.sys_len, one.ref_len, *one.counts, *one.totals))
    return found


def _of_text(metric: Any, hypotheses: Sequence[str], references: Sequence[str]) -> TextScore:
    known, intended = _without_unknowns(hypotheses, references)
    found = metric.corpus_score(known, [intended])
    signature = str(metric.get_signature())
    return TextScore(score=found.score, signature=signature, text=found.format(signature=signature))


def _without_unknowns(
    hypotheses: Sequence[str], references: Sequence[str]
) -> tuple[list[str], list[str]]:
    # A tokenizer would cut <unk> into pieces that match, and count each as a word.
    known = [UNKNOWNS.sub(NEITHER, line) for line in hypotheses]
    return known, [UNKNOWNS.sub(NEVER, line) for line in references]


def _sacrebleu() -> Any:
    return need("sacrebleu", "translation", "scores of translations need")


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise GammaError(
            f"there must be one reference for each hypothesis, got {len(hypotheses)} hypotheses "
            f"and {len(references)} references"
        )
    if not hypotheses:
        raise GammaError("there is nothing to score: no hypothesis and no reference")
