"""What became of each sentence: the counts that corpus BLEU is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gamma_nlp.tasks.run.items import Items, Source, items_file
from gamma_nlp.tasks.translation.data import References
from gamma_nlp.tasks.translation.scores import sacre_counts, token_bleu
from gamma_nlp.tasks.translation.text import TranslationText

SCORES = ("bleu", "sacrebleu")


def sentence_items(tokens: Sequence[str], references: References, text: TranslationText) -> Items:
    """Return the sentences of a test set with their counts, columns ``bleu`` and ``sacrebleu``.

    The counts of all sentences add up to those of
    :func:`~gamma_nlp.tasks.translation.final.score_translations`.

    Args:
        tokens: Tokenised translations without subwords.
        references: As many references.
        text: How the target language is written.
    """
    pairs = zip(tokens, references.tokens, strict=True)
    over_tokens = [token_bleu([one], [other]) for one, other in pairs]
    plain = text.plain(tokens)
    intended = text.plain(references.tokens) if references.plain is None else references.plain
    counts = {
        "bleu": [(b.hyp_length, b.ref_length, *b.matches, *b.totals) for b in over_tokens],
        "sacrebleu": sacre_counts(plain, intended, lowercase=text.lowercase),
    }
    return Items(
        ids=np.arange(len(tokens)).astype(str),
        columns={name: np.asarray(rows, dtype=np.int32) for name, rows in counts.items()},
    )


def sources_of(sets: Mapping[str, Items]) -> dict[str, Source]:
    """Return how the scores of each test set follow from its sentences."""
    return {
        f"scores.{name}.{score}": Source(file=items_file(name), statistic=score, columns=(score,))
        for name in sets
        for score in SCORES
    }
