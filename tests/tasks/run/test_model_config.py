"""A model from config fields: each mistake is named, with what was probably meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn
from transformers import AutoModelForSequenceClassification

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.model_config import build_config, build_model, model_fields
from gamma_nlp.tasks.run.vocabulary import check_known, check_vocabulary
from tests.support.glue_runs import BERT


def build(**changes: Any) -> Any:
    config = build_config(BERT | changes, fixed={"num_labels": 2}, why="the task", example="bert")
    return build_model(AutoModelForSequenceClassification, config, what="judge", instead="bert")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layer": 2}, "bert has no field 'num_hidden_layer'; did you mean 'num_hidden"),
        ({"zzz": 2}, "bert has no field 'zzz'; it has .*hidden_size"),
        ({"model_type": "brt"}, "cannot build 'brt': .* did you mean 'bert'"),
        ({"model_type": ["bert"]}, "has no such model_type"),
        ({"num_labels": 3}, "num_labels follows from the task; leave it out"),
        ({"architectures": ["Nothing"]}, "architectures follows from the task"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1, not 0"),
        ({"hidden_size": "big"}, "cannot build 'bert': .*hidden_size"),
        ({"num_attention_heads": 3}, "cannot build 'bert': .*not a multiple"),
        ({"hidden_act": "gelo"}, "hidden_act: there is no activation 'gelo'; did you mean 'gelu'"),
        ({"hidden_act": "swiglu2"}, "there is no activation 'swiglu2'"),
    ],
)
def test_a_field_that_cannot_be_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GammaError, match=message):
        build(**changes)


def test_a_type_of_another_kind_is_refused_without_a_list_of_all() -> None:
    config = build_config({"model_type": "vit"}, fixed={}, why="the task", example="bert")
    with pytest.raises(GammaError, match=r"cannot build 'vit': it is no judge; take bert$"):
        build_model(AutoModelForSequenceClassification, config, what="judge", instead="bert")


def test_fields_stand_in_yaml_inline_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model_type: bert\nhidden_size: 8\n")
    expected = {"model_type": "bert", "hidden_size": 8}
    inline = ("{model_type: bert, hidden_size: 8}", '{"model_type": "bert", "hidden_size": 8}')
    for given in (expected, str(tmp_path / "c.yaml"), *inline):
        assert model_fields(given) == expected
    for wrong in ("none.yaml", "x" * 300, str(tmp_path)):
        with pytest.raises(GammaError, match=r"model_config: no file .*give a YAML file, or"):
            model_fields(wrong)
    with pytest.raises(GammaError, match="model_config: not valid YAML: "):
        model_fields("{model_type: bert")


def test_ids_beyond_the_embedding_are_refused() -> None:
    class Model(nn.Module):
        def get_input_embeddings(self) -> nn.Module:
            return nn.Embedding(10, 2)

    check_vocabulary(range(10), Model(), "x", "the model")
    with pytest.raises(GammaError, match=r"tokenizer of x has ids up to 10, but .* embeds only 10"):
        check_vocabulary(range(11), Model(), "x", "the model")


def test_a_text_that_the_vocabulary_does_not_know_is_refused() -> None:
    ids = np.array([0, 1, 1, 1, 7, 2, 0])  # start, three unknown, a word, end, padding
    with pytest.raises(GammaError, match="75% of my text is unknown to the vocabulary"):
        check_known("my text", ids, unknown=1, special=[0, 1, 2])
    check_known("my text", np.array([0, 1, 7, 8, 2]), unknown=1, special=[0, 1, 2])
    check_known("my text", ids, unknown=None, special=[0, 2])
