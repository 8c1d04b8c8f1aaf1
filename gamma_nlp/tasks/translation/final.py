"""Translations of a split: scored on both scales, and written in the order of the input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.new_folder import write_lines
from gamma_nlp.tasks.translation import scores
from gamma_nlp.tasks.translation.data import References
from gamma_nlp.tasks.translation.text import TranslationText


def score_translations(
    tokens: Sequence[str], references: References, text: TranslationText
) -> dict[str, Any]:
    """BLEU over tokens, and sacreBLEU and chrF of plain text with their signatures.

    Where training text was lower-cased, the scores of plain text ignore case.

    Args:
        tokens: Tokenised translations without subwords.
        references: As many references.
        text: How the target language is written.
    """
    plain = text.plain(tokens)
    meant = text.plain(references.tokens) if references.plain is None else references.plain
    over_tokens = scores.token_bleu(tokens, references.tokens)
    sacre = scores.sacre_bleu(plain, meant, lowercase=text.lowercase)
    chrf = scores.chrf(plain, meant, lowercase=text.lowercase)
    return {
        "sentences": len(tokens),
        "bleu": round(over_tokens.score, 2),
        "bleu_line": str(over_tokens),
        "sacrebleu": round(sacre.score, 2),
        "sacrebleu_signature": sacre.signature,
        "chrf": round(chrf.score, 2),
        "chrf_signature": chrf.signature,
    }


def write_translations(
    folder: Path, name: str, tokens: Sequence[str], text: TranslationText
) -> None:
    """Write ``NAME.LANGUAGE`` (plain text) and ``NAME.tok.LANGUAGE`` (tokens) into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    language = text.target_language
    write_lines(folder / f"{name}.{language}", text.plain(tokens))
    write_lines(folder / f"{name}.tok.{language}", list(tokens))
