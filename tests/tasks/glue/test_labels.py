"""A pretrained head speaks the task's order of classes, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.labels import class_order
from gamma_nlp.tasks.glue.model import load_classifier
from gamma_nlp.tasks.glue.tasks import glue_task
from gamma_nlp.tasks.glue.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(["yes maybe never cat"], 60)
SIZES = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


def named(*names: str) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


@pytest.mark.parametrize(
    ("task", "names", "order"),
    [
        ("mnli", ("contradiction", "neutral", "entailment"), [2, 1, 0]),
        ("mnli", ("CONTRADICTION", "ENTAILMENT", "NEUTRAL"), [1, 2, 0]),
        ("mnli", ("entailment", "neutral", "contradiction"), [0, 1, 2]),
        ("mnli", ("LABEL_0", "LABEL_1", "LABEL_2"), None),
        ("mnli", ("0", "1", "2"), None),
        ("sst2", ("POS", "NEG"), [1, 0]),
        ("sst2", ("Negative", " positive "), [0, 1]),
        ("sst2", ("1", "0"), [1, 0]),
        ("rte", ("not entailment", "entailment"), [1, 0]),
        ("rte", ("NotEntailment", "Entailment"), [1, 0]),
        ("wnli", ("entailment", "non-entailment"), [1, 0]),
        ("cola", ("acceptable", "unacceptable"), [1, 0]),
        ("qqp", ("duplicate", "not duplicate"), [1, 0]),
    ],
)
def test_names_tell_the_order_whatever_their_spelling(
    task: str, names: tuple[str, ...], order: list[int] | None
) -> None:
    assert class_order(dict(enumerate(names)), glue_task(task), "the model") == order


@pytest.mark.parametrize(
    "names", [("entailment", "neutral", "no"), ("joy", "anger", "fear"), ("a", "a", "a")]
)
def test_classes_of_another_task_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(GammaError, match=r"mine is a classifier of .* mnli has entailment"):
        class_order(dict(enumerate(names)), glue_task("mnli"), "mine")


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (BertForSequenceClassification, BertConfig(**SIZES)),
        (RobertaForSequenceClassification, RobertaConfig(**SIZES, pad_token_id=0)),
        (
            DistilBertForSequenceClassification,
            DistilBertConfig(vocab_size=len(TOKENIZER), dim=8, n_layers=1, n_heads=2, hidden_dim=8),
        ),
        (
            GPT2ForSequenceClassification,
            GPT2Config(vocab_size=len(TOKENIZER), n_embd=8, n_layer=1, n_head=2, pad_token_id=0),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_rows_of_the_head_follow_the_names(kind: Any, config: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config.update(named("contradiction", "neutral", "entailment") | {"num_labels": 3})
    own = kind(config).eval()
    for parameter in own.parameters():
        parameter.data.uniform_(-1, 1)
    own.save_pretrained(tmp_path)
    model = load_classifier(str(tmp_path), glue_task("mnli"), TOKENIZER).eval()
    ids = torch.tensor([[2, 6, 7, 3]])
    expected = own(input_ids=ids).logits[0, [2, 1, 0]]
    assert model(input_ids=ids).logits[0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert model.config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}


def save(folder: Path, change: Any = None, **fields: Any) -> str:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SIZES | fields))
    if change is not None:
        change(model)
    model.save_pretrained(folder)
    return str(folder)


def test_a_head_of_another_size_is_named(tmp_path: Path) -> None:
    source = save(tmp_path, **named("joy", "anger", "fear"))
    with pytest.raises(GammaError, match=r"head of 3 classes \(joy, anger, fear\), sst2 needs 2"):
        load_classifier(source, glue_task("sst2"), TOKENIZER)


def test_names_do_not_matter_where_the_head_is_new(tmp_path: Path) -> None:
    model = BertForSequenceClassification(BertConfig(**SIZES, **named("joy", "anger"))).bert
    model.save_pretrained(tmp_path)
    assert load_classifier(str(tmp_path), glue_task("sst2"), TOKENIZER).config.num_labels == 2


def test_weights_that_are_not_numbers_are_named(tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        model.bert.encoder.layer[0].output.LayerNorm.weight.data[3] = float("nan")

    with pytest.raises(
        GammaError, match=r"'bert\.encoder\.layer\.0\.output\.LayerNorm\.weight' of"
    ):
        load_classifier(save(tmp_path, spoil), glue_task("sst2"), TOKENIZER)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 2}, r"weights are not in its file \(bert\.encoder\.layer\.1"),
        ({"intermediate_size": 16}, "has another shape than its config says"),
        ({"architectures": ["BertForSequenceClasification"]}, "did you mean 'BertForSequenceCl"),
    ],
)
def test_a_file_that_does_not_fit_its_config_is_refused(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = save(tmp_path)
    config = BertConfig.from_pretrained(source)
    config.update(fields)
    config.save_pretrained(source)
    with pytest.raises(GammaError, match=message):
        load_classifier(source, glue_task("sst2"), TOKENIZER)


def test_a_vocabulary_beyond_the_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match="the model embeds only 12"):
        load_classifier(save(tmp_path, vocab_size=12), glue_task("sst2"), TOKENIZER)
