"""Beam search for translation: batches by a budget of tokens, the same result in any batch.

``model.generate`` of transformers does the search. What it would take from a model's saved settings
is set here, so that a result follows from the weights and from :class:`Search` alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.finite import OutputNotFinite

MOST_BEAMS = 1000
"""Hypotheses beyond which memory ends before a sentence does."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """How to search.

    Attributes:
        beams: Hypotheses followed at a time; 1 takes the likeliest token each time.
        length_penalty: A finished hypothesis scores its log-probability over its number of tokens
            (end token included) to this power: 0 prefers short ones, higher values longer ones.
        max_length_a: A translation has at most ``max_length_a * source + max_length_b`` tokens
            without its end token, for ``source`` tokens with theirs; all rounded down.
        max_length_b: See ``max_length_a``.
        max_tokens: Size of a batch: sentences, times beams, times tokens of the longest source.
            So padding counts, and target tokens do not. A sentence above it is a batch by itself.

    Raises:
        GammaError: A value is out of range.
    """

    beams: int = 5
    length_penalty: float = 1.0
    max_length_a: float = 1.2
    max_length_b: int = 10
    max_tokens: int = 4096

    def __post_init__(self) -> None:
        for name in ("beams", "max_length_b", "max_tokens"):
            if getattr(self, name) < 1:
                raise GammaError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.beams > MOST_BEAMS:
            raise GammaError(f"beams must be at most {MOST_BEAMS}, not {self.beams}")
        if not math.isfinite(self.length_penalty):
            raise GammaError(f"length_penalty must be a finite number, not {self.length_penalty}")
        if not (math.isfinite(self.max_length_a) and self.max_length_a >= 0):
            raise GammaError(f"max_length_a must be a number >= 0, not {self.max_length_a}")


def decode(
    model: Any,
    sources: Sequence[Sequence[int]],
    search: Search = Search(),
    *,
    progress: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Translate sentences of token ids, longest first, in batches.

    The search is that of ``fairseq-generate``:

    * the score of a hypothesis is its log-probability over ``length ** length_penalty``, the end
      mark counted;
    * each step has twice ``beams`` candidates, of which those among the first ``beams`` that have
      ended are kept;
    * a sentence is done when ``beams`` of its hypotheses have ended;
    * at the maximum length the end token must follow, and its log-probability counts;
    * no translation is empty, and padding is never a candidate.

    One thing differs: fairseq takes the maximum length from the longest source of a batch, here
    it follows from the sentence itself. So the batch that a sentence is in does not matter, except
    for rounding, which may decide a near tie between two hypotheses.

    Args:
        model: An encoder-decoder model of transformers; its mode is restored afterwards. Its
            ``config`` gives the ids of padding, end token and decoder start, and with
            ``max_position_embeddings`` the longest source and target. Its ``generation_config``
            is not used.
        sources: Token ids of each sentence, ended by the end token.
        search: How to search.
        progress: Called after each batch with the number of its sentences.

    Returns:
        Token ids of each translation without decoder start, padding and end token, in the order of
        ``sources``.

    Raises:
        GammaError: A source that is too long or has no tokens (before anything is decoded), a
            ``config`` without one of the ids, or a model whose output is not a number.
    """
    check_sources(model, sources)
    if not sources:
        return []
    order = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
    results: list[list[int]] = [[] for _ in sources]
    with _inference(model, _generation_config(model, search)) as config:
        while order:
            fitting = max(1, search.max_tokens // (search.beams * len(sources[order[0]])))
            batch, order = order[:fitting], order[fitting:]
            found = _generate(model, [sources[index] for index in batch], search, config)
            for index, ids in zip(batch, found, strict=True):
                results[index] = ids
            if progress:
                progress(len(batch))
    return results


def check_sources(
    model: Any, sources: Sequence[Sequence[int]], names: Sequence[str] | None = None
) -> None:
    """Raise if the model cannot take one of the sources.

    Args:
        model: See :func:`decode`.
        sources: See :func:`decode`.
        names: What an error calls each sentence; default: its number from 1.

    Raises:
        GammaError: A source is too long or has no tokens; names the first.
    """
    limit = _positions(model)
    for index, source in enumerate(sources):
        name = names[index] if names else f"sentence {index + 1}"
        if len(source) > limit:
            raise GammaError(
                f"{name} has {len(source)} tokens with its end token, and the model takes at most "
                f"{limit:.0f} (max_position_embeddings); split it, or train with more positions"
            )
        if not len(source):
            raise GammaError(f"{name} has no tokens; it must have at least the end token")


class _Bounds:
    """Logits processor: says when the end token may or must come, and never allows padding.

    Scores are of shape (sentences * beams, vocabulary). ``limits`` are the most tokens of each
    of these rows.
    """

    def __init__(self, limits: torch.Tensor, *, pad: int, end: int) -> None:
        self.limits, self.shortest = limits, int(limits.min())
        self.pad, self.end = pad, end

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        made = input_ids.shape[1] - 1  # without the decoder start
        scores[:, self.pad] = -math.inf
        if made == 0:
            if scores.isnan().any():
                raise OutputNotFinite
            scores[:, self.end] = -math.inf
        if made >= self.shortest:
            full = self.limits <= made
            ends = scores[full, self.end]
            scores[full] = -math.inf
            scores[full, self.end] = ends
        return scores


def _generate(
    model: Any, sources: Sequence[Sequence[int]], search: Search, config: Any
) -> list[list[int]]:
    """Return the translations of one batch."""
    widest, most = max(map(len, sources)), _positions(model) - 1
    rows = [[*source, *[config.pad_token_id] * (widest - len(source))] for source in sources]
    mask = [[1] * len(source) + [0] * (widest - len(source)) for source in sources]
    limits = [
        int(min(search.max_length_a * len(source) + search.max_length_b, most))
        for source in sources
    ]
    config.max_new_tokens = max(limits) + 1
    bounds = _Bounds(
        torch.tensor(limits, device=model.device).repeat_interleave(search.beams),
        pad=config.pad_token_id,
        end=config.eos_token_id,
    )
    found = model.generate(
        torch.tensor(rows, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        generation_config=config,
        logits_processor=[bounds],
        past_key_values=_cache(model),
    )
    return [row[1 : row.index(config.eos_token_id, 1)] for row in found.tolist()]


def _cache(model: Any) -> Any:
    from transformers import DynamicCache, EncoderDecoderCache

    config = model.config.get_text_config(decoder=True)
    own, source = DynamicCache(config=config), DynamicCache(config=config)
    # At each step keys and values follow their beams. Those of the source are equal in all beams
    # of a sentence, so moving them would only cost time.
    source.reorder_cache = lambda beams: None
    return EncoderDecoderCache(own, source)


def _generation_config(model: Any, search: Search) -> Any:
    from transformers import GenerationConfig

    ids = {}
    for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
        ids[name] = getattr(model.config, name, None)
        if ids[name] is None:
            raise GammaError(f"the model's config has no {name}; set model.config.{name}")
    return GenerationConfig(
        **ids,
        num_beams=search.beams,
        length_penalty=search.length_penalty,
        early_stopping=True if search.beams > 1 else None,  # as fairseq: `beams` ended are enough
        do_sample=False,
        use_cache=True,
    )


def _positions(model: Any) -> float:
    # M2M100's table grows where it must, but one that grew here would be no tensor to train with.
    return getattr(model.config, "max_position_embeddings", None) or math.inf


@contextlib.contextmanager
def _inference(model: Any, config: Any) -> Iterator[Any]:
    """Put the model into evaluation mode with this generation config, and restore both."""
    modes = [(module, module.training) for module in model.modules()]
    # generate fills what a config leaves open from the model's own, such as forced tokens.
    own, model.generation_config = model.generation_config, config
    model.eval()
    try:
        with no_gradients(model.device.type):
            yield config
    finally:
        model.generation_config = own
        for module, training in modes:
            module.training = training


def no_gradients(device: str) -> Any:
    """Return a context without gradients: inference mode, but under an autocast ``no_grad``.

    An autocast around several passes casts each weight once for all of them. In inference mode it
    would keep none of these casts.
    """
    return torch.no_grad() if torch.is_autocast_enabled(device) else torch.inference_mode()
