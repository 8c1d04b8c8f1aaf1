"""Whether a tokenizer, a model and a text belong together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gamma_nlp.errors import GammaError

_MOST_UNKNOWN = 0.5
"""Share of unknown tokens from which on a vocabulary is taken for another text's."""


def check_vocabulary(
    vocabulary: Iterable[int], model: Any, tokenizer: str, model_name: str
) -> None:
    """Refuse a tokenizer whose ids reach beyond the model's embedding.

    Raises:
        GammaError: They do; the first such text would end the run.
    """
    embedding = model.get_input_embeddings()
    rows = getattr(embedding, "num_embeddings", None)
    highest = max(vocabulary, default=0)
    if rows is not None and highest >= rows:
        raise GammaError(
            f"the tokenizer of {tokenizer} has ids up to {highest}, but {model_name} embeds only "
            f"{rows}: they do not belong together; give the tokenizer that the model was made with"
        )


def check_known(what: str, ids: np.ndarray, *, unknown: int | None, special: Iterable[int]) -> None:
    """Refuse a text of which a vocabulary knows less than half.

    Args:
        what: What to call the text.
        ids: All its token ids.
        unknown: The id of the unknown token, if there is one.
        special: Ids that stand for no text; the unknown one may be among them.

    Raises:
        GammaError: There is no token, or most are unknown: the vocabulary is not that of the text.
    """
    text = ids[~np.isin(ids, [one for one in special if one != unknown])]
    if not len(text):
        raise GammaError(f"{what} holds no word, only blank lines: there is nothing to learn from")
    share = 0.0 if unknown is None else float(np.mean(text == unknown))
    if share > _MOST_UNKNOWN:
        raise GammaError(
            f"{share:.0%} of {what} is unknown to the vocabulary, so there is hardly anything to "
            "learn from; give the tokenizer or vocabulary that was made for this language and case"
        )
