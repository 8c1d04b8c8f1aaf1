"""Fine-tuning under L1 writes a compressed file that scores what the model scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gamma_nlp.tasks.glue.opinions import opinions
from gamma_nlp.tasks.glue.tokenizer import train_tokenizer
from recipes.strong.minilm import SETTINGS, train_cell


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    from transformers import BertConfig, BertModel

    model, data = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("SST-2")
    texts, labels = zip(*opinions(120), strict=True)
    tokenizer = train_tokenizer(texts, 200)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=64, **sizes)
    BertModel(config).save_pretrained(model)
    tokenizer.save_pretrained(model)
    rows = [f"{text}\t{label}" for text, label in zip(texts, labels, strict=True)]
    for name, some in (("train", rows[:96]), ("dev", rows[96:])):
        text = "\n".join(["sentence\tlabel", *some]) + "\n"
        (data / f"{name}.tsv").write_text(text, encoding="utf-8")
    return str(model), str(data)


def test_the_compressed_file_scores_as_the_model_and_is_smaller(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    settings = {**SETTINGS, "sentences": 96, "batch": 16, "epochs": 2}
    results = {
        l1: train_cell({"rule": rule, "l1": l1, "seed": 0}, settings, *folders, str(tmp_path))
        for rule, l1 in (("none", 0.0), ("always", 20.0))
    }
    for result in results.values():
        assert result["loaded_accuracy"] == result["accuracy"]
        assert result["steps"] == 12 and 0 < result["sum_of_rates"] < 12 * 3e-4
    thin = results[20.0]
    assert thin["weights"] > 0.5 and thin["acted"] == 1.0
    assert thin["file_bytes"] < results[0.0]["file_bytes"]
    assert thin["file_bytes"] == (tmp_path / "always-20-0.safetensors").stat().st_size
    assert results[0.0]["weights"] is None
