"""Beam search in batches: order, lengths, what is taken from a model and what is not."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PegasusConfig,
    PegasusForConditionalGeneration,
)

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.decode import Search, check_sources, decode

PAD, END, WORDS, POSITIONS = 0, 1, 40, 32
# Random models seldom stop by themselves; with this bias of the end token some sentences do.
FAMILIES = {
    "marian": (MarianConfig, MarianMTModel, 0.0),
    "m2m100": (M2M100Config, M2M100ForConditionalGeneration, 1.0),
    "pegasus": (PegasusConfig, PegasusForConditionalGeneration, 2.0),
    "bart": (BartConfig, BartForConditionalGeneration, 0.5),
}


def build(family: str = "marian", **settings: Any) -> Any:
    """A random model in float64, in which no two batch shapes round a choice differently."""
    config_class, model_class, end_bias = FAMILIES[family]
    torch.manual_seed(0)
    fields = {
        "vocab_size": WORDS,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": PAD,
        "eos_token_id": END,
        "decoder_start_token_id": END,
        "init_std": 0.3,
    }
    model = model_class(config_class(**fields | settings)).double()
    return favour(model, END, end_bias)


def favour(model: Any, token: int, bias: float) -> Any:
    head = model.get_output_embeddings()
    if head.bias is None:
        head.bias = torch.nn.Parameter(torch.zeros(WORDS, dtype=torch.float64))
    with torch.no_grad():
        head.bias[token] = bias
    return model


def sentences(number: int = 24, longest: int = 12) -> list[list[int]]:
    """Random sentences of 1 to ``longest`` tokens, the first without a word."""
    rng = random.Random(0)
    lengths = [0, *(rng.randrange(longest) for _ in range(number - 1))]
    return [[*(rng.randrange(3, WORDS) for _ in range(length)), END] for length in lengths]


def most(search: Search, source: list[int]) -> int:
    return int(search.max_length_a * len(source) + search.max_length_b)


def plain_search(model: Any, source: list[int], search: Search) -> list[int]:
    """The search of ``fairseq-generate`` for one sentence, in a few plain lines."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    limit = most(search, source)
    for step in range(limit + 1):
        with torch.no_grad():
            logits = model.eval()(
                input_ids=torch.tensor([source] * len(live)),
                decoder_input_ids=torch.tensor([[END, *tokens] for _, tokens in live]),
            ).logits[:, -1]
        words = [END] if step == limit else [w for w in range(WORDS) if w != PAD]
        found = [
            (score + float(row[word]), [*tokens, word])
            for (score, tokens), row in zip(live, logits.log_softmax(-1), strict=True)
            for word in words
            if step > 0 or word != END
        ]
        found = sorted(found, reverse=True)[: 2 * search.beams]
        ended += [
            (score / (step + 1) ** search.length_penalty, tokens[:-1])
            for score, tokens in found[: search.beams]
            if tokens[-1] == END
        ]
        live = [one for one in found if one[1][-1] != END][: search.beams]
        if len(ended) >= search.beams:
            break
    return max(ended)[1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beams", [1, 4])
def test_a_sentence_is_translated_alike_alone_and_in_any_batch(family: str, beams: int) -> None:
    model, sources = build(family), sentences()
    search = Search(beams=beams, max_length_a=1.0, max_length_b=6, max_tokens=300)
    together = decode(model, sources, search)
    assert together == [decode(model, [source], search)[0] for source in sources]
    room = [most(search, source) - len(ids) for ids, source in zip(together, sources, strict=True)]
    assert min(room) == 0 < max(room)  # some had to end, some did so by themselves
    assert all(PAD not in ids and END not in ids and ids for ids in together)


def test_the_order_of_the_input_is_kept() -> None:
    model, sources = build(), sentences()
    search = Search(beams=2, max_tokens=100)
    shuffled = random.Random(1).sample(range(len(sources)), len(sources))
    found = decode(model, sources, search)
    assert decode(model, [sources[i] for i in shuffled], search) == [found[i] for i in shuffled]


def test_batches_keep_the_budget_and_report_their_sentences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, shapes, done = build(), [], []
    generate = model.generate
    monkeypatch.setattr(
        model, "generate", lambda ids, **rest: shapes.append(ids.shape) or generate(ids, **rest)
    )
    sources = [[5] * (length - 1) + [END] for length in (3, 12, 2, 3, 5, 3)]
    decode(model, sources, Search(beams=2, max_tokens=20), progress=done.append)
    # 12 tokens x 2 beams exceed the budget: batches of their own.
    assert shapes == [(1, 12), (2, 5), (3, 3)]
    assert done == [1, 2, 3]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_the_search_is_that_of_fairseq(family: str, penalty: float) -> None:
    model, sources = build(family), sentences(8)
    search = Search(beams=3, length_penalty=penalty, max_length_a=1.0, max_length_b=3)
    assert decode(model, sources, search) == [plain_search(model, s, search) for s in sources]


def test_a_length_penalty_moves_the_lengths() -> None:
    model, sources = build(), sentences()
    total = [
        sum(map(len, decode(model, sources, Search(beams=4, length_penalty=penalty))))
        for penalty in (0.0, 1.0, 4.0)
    ]
    assert total == sorted(total) and total[0] < total[-1]


def test_nothing_is_taken_from_the_models_generation_config() -> None:
    model, sources, search = build("bart"), sentences(), Search(beams=3)
    assert model.generation_config.forced_eos_token_id == 2  # BART's own, a plain word here
    found = decode(model, sources, search)
    stale = model.generation_config
    for name, value in {
        "forced_bos_token_id": 7,
        "num_beams": 2,
        "no_repeat_ngram_size": 1,
        "length_penalty": 9.0,
        "max_length": 4,
        "bad_words_ids": [[word] for word in range(3, 20)],
        "eos_token_id": 9,
    }.items():
        setattr(stale, name, value)
    assert decode(model, sources, search) == found
    assert model.generation_config is stale and stale.num_beams == 2


def test_padding_is_never_a_translation() -> None:
    model = favour(build(), PAD, 50.0)
    assert all(PAD not in ids for ids in decode(model, sentences(6), Search(beams=2)))


def test_a_model_that_wants_to_end_at_once_gives_one_token() -> None:
    model = favour(build(), END, 50.0)
    assert [len(ids) for ids in decode(model, sentences(4), Search(beams=2))] == [1] * 4


def test_the_mode_of_every_module_is_as_before() -> None:
    model = build(dropout=0.5)
    model.train()
    model.model.encoder.eval()
    modes = [module.training for module in model.modules()]
    sources = sentences(4)
    assert decode(model, sources) == decode(model, sources)  # no dropout
    assert [module.training for module in model.modules()] == modes
    model(input_ids=torch.tensor([sources[1]]), labels=torch.tensor([[5, END]])).loss.backward()


def test_an_error_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build().train()
    own = model.generation_config

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "generate", fail)
    with pytest.raises(KeyboardInterrupt):
        decode(model, sentences(2))
    assert model.training and model.generation_config is own


@pytest.mark.parametrize("family", FAMILIES)
def test_the_longest_source_works_and_its_translation_stays_within_the_positions(
    family: str,
) -> None:
    model = favour(build(family), END, -50.0)
    source = [5] * (POSITIONS - 1) + [END]
    found = decode(model, [source], Search(beams=2, max_length_a=3.0))
    assert len(found[0]) == POSITIONS - 1  # and the decoder start


def test_a_source_that_is_too_long_is_named_before_anything_is_decoded() -> None:
    done: list[int] = []
    sources = [[5, END], [5] * POSITIONS + [END]]
    with pytest.raises(GammaError, match=r"^sentence 2 has 33 tokens .* at most 32 .*split"):
        decode(build(), sources, progress=done.append)
    with pytest.raises(GammaError, match=r"^a\.txt:7 has 33 tokens"):
        check_sources(build(), sources, ["a.txt:3", "a.txt:7"])
    assert not done


def test_no_sentences_give_no_translations() -> None:
    assert decode(build(), []) == []


def test_what_cannot_be_decoded_is_named() -> None:
    with pytest.raises(GammaError, match="sentence 1 has no tokens"):
        decode(build(), [[]])
    model = build()
    model.config.pad_token_id = None
    with pytest.raises(GammaError, match=r"set model\.config\.pad_token_id"):
        decode(model, [[END]])


@pytest.mark.parametrize("beams", [1, 2])
def test_a_model_that_has_diverged_is_named(beams: int) -> None:
    with pytest.raises(GammaError, match="not a number"):
        decode(favour(build(), 7, float("nan")), [[5, END]], Search(beams=beams))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beams", 0),
        ("max_tokens", 0),
        ("max_length_b", 0),
        ("max_length_a", -0.5),
        ("max_length_a", float("inf")),
        ("length_penalty", float("nan")),
    ],
)
def test_a_search_checks_its_values(name: str, value: float) -> None:
    with pytest.raises(GammaError, match=f"^{name} must be .*, not {value}$"):
        Search(**{name: value})
