"""The generated corpus: repeatable, balanced, without repeats, and readable as SST-2."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from gamma_nlp.tasks.glue.opinions import opinions, write_sst2


def test_the_seed_decides_every_sentence() -> None:
    assert opinions(200, seed=3) == opinions(200, seed=3)
    assert opinions(200, seed=3) != opinions(200, seed=4)
    assert opinions(100, seed=3) == opinions(200, seed=3)[:100]


def test_labels_are_balanced_and_sentences_unique() -> None:
    made = opinions(4000, seed=0)
    assert len({sentence for sentence, _ in made}) == 4000
    assert 0.46 < sum(label for _, label in made) / 4000 < 0.54


def test_noise_turns_its_share_of_labels_and_nothing_else() -> None:
    clean, noisy = opinions(2000, noise=0.0), opinions(2000, noise=0.1)
    assert [sentence for sentence, _ in clean] == [sentence for sentence, _ in noisy]
    turned = sum(a != b for (_, a), (_, b) in zip(clean, noisy, strict=True))
    assert 0.07 < turned / 2000 < 0.13


def test_counting_words_is_not_enough() -> None:
    # Naive Bayes on single words: well above chance, far from solved.
    counts = (Counter[str](), Counter[str]())
    for sentence, label in opinions(3000, seed=1):
        counts[label].update(set(sentence.split()))
    right = 0
    test = opinions(1000, seed=2, noise=0.0)
    for sentence, label in test:
        odds = sum(math.log((counts[1][w] + 1) / (counts[0][w] + 1)) for w in set(sentence.split()))
        right += int((odds > 0) == bool(label))
    assert 0.55 < right / len(test) < 0.8


def test_it_is_written_as_sst2_with_no_dev_sentence_in_training(tmp_path: Path) -> None:
    from gamma_nlp.tasks.glue.data import load_glue

    data = load_glue("sst2", write_sst2(tmp_path / "SST-2", train=300, dev=80))
    assert (len(data["train"]), len(data["validation"])) == (300, 80)
    assert not set(data["train"]["sentence"]) & set(data["validation"]["sentence"])
