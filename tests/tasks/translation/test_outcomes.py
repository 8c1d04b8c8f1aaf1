"""The sentences' counts add up to the scores of a test set, and a plan says what a run does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gamma_nlp.tasks.run.items import read_items
from gamma_nlp.tasks.translation.arguments import read_arguments
from gamma_nlp.tasks.translation.data import References
from gamma_nlp.tasks.translation.final import score_translations
from gamma_nlp.tasks.translation.outcomes import sentence_items
from gamma_nlp.tasks.translation.scores import token_bleu
from gamma_nlp.tasks.translation.text import TranslationText, read_prepared
from gamma_nlp.tasks.translation.train import plan_translation
from tests.support.translation_runs import experiment, train

LINES = (
    ("the dog sees the man .", "the dog sees the man ."),
    ("a cat", "the cat seeks a ball ."),
    ("", "the woman calls ."),
    ("the man calls <unk> man man .", "the man calls the <<unk>> man ."),
    ("ball", "ball ball ball ball ball"),
)


@pytest.fixture(scope="module")
def text(data: Path) -> TranslationText:
    return read_prepared(data, "de", "en", joint=True)


def bleu(counts: np.ndarray, *, smooth: str) -> float:
    from sacrebleu.metrics import BLEU

    hypothesis, reference, *grams = counts.sum(axis=0).tolist()
    score = BLEU.compute_bleu(grams[:4], grams[4:], hypothesis, reference, smooth_method=smooth)
    return float(score.score)


@pytest.mark.parametrize("plain", [True, False])
def test_counts_of_sentences_add_up_to_the_score_of_the_set(
    text: TranslationText, plain: bool
) -> None:
    tokens, intended = (list(side) for side in zip(*LINES, strict=True))
    references = References(tokens=intended, plain=text.plain(intended) if plain else None)
    items = sentence_items(tokens, references, text)
    scores = score_translations(tokens, references, text)
    assert bleu(items.columns["bleu"], smooth="none") == pytest.approx(scores["bleu"], abs=0.005)
    assert bleu(items.columns["sacrebleu"], smooth="exp") == pytest.approx(
        scores["sacrebleu"], abs=0.005
    )
    whole = token_bleu(tokens, intended)
    assert items.columns["bleu"].sum(axis=0).tolist() == [
        *(whole.hyp_length, whole.ref_length), *whole.matches, *whole.totals,
    ]  # fmt: skip
    assert scores["bleu"] > 1 and scores["sacrebleu"] > 1


def test_a_run_writes_every_sentence_and_does_what_its_plan_says(
    tmp_path: Path, data: Path
) -> None:
    words = experiment(tmp_path, data)
    plan = plan_translation(*read_arguments(words))
    assert not (tmp_path / "run").exists()
    train(words)
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    for key in ("groups", "data", "weight_decay", "sum_of_learning_rates", "steps", "parameters"):
        assert plan[key] == found[key], key
    assert plan["data"].keys() == {"train", "valid", "test"}
    for name, size in (("valid", 9), ("test", 7)):
        items = read_items(tmp_path / "run" / "items" / f"{name}.npz")
        assert items.columns["bleu"].shape == items.columns["sacrebleu"].shape == (size, 10)
        for score, smooth in (("bleu", "none"), ("sacrebleu", "exp")):
            source = found["items"][f"scores.{name}.{score}"]
            assert source["file"] == f"items/{name}.npz" and source["columns"] == [score]
            told = found["scores"][name][score]
            assert bleu(items.columns[score], smooth=smooth) == pytest.approx(told, abs=0.005)
    assert [step for step, _ in found["curves"]["loss"]]
    assert found["curves"]["gain_norm"].keys() == found["gain_norm"].keys()
