"""Runs that cannot be right end with an error and never with a score."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.glue.metrics import GlueMetric
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.tokenizer import train_tokenizer
from gamma_nlp.tasks.glue.train import FinetuneTrainer, finetune
from gamma_nlp.tasks.run.main import run
from tests.support.glue_runs import experiment

STSB = "index genre filename year old_index source1 source2 sentence1 sentence2 score"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sst2(tmp_path_factory.mktemp("glue") / "SST-2", train=72, dev=40).parent


def train(argv: list[str]) -> dict[str, Any]:
    return finetune(*read_arguments(argv), quiet=True)


def main(argv: Any) -> None:
    train(list(argv))


def test_a_loss_that_is_no_number_ends_the_run_at_its_step(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = {"decay_policy": "none", "dose": None, "weight_decay": 0.0}
    assert run(main, experiment(tmp_path, data, learning_rate="1e38", **none)) == 2
    shown = capsys.readouterr().err
    assert "error: the loss is not a finite number (nor is parameter 'bert." in shown
    assert "at step 2 of 18: training has diverged" in shown
    assert "lower learning_rate (it is 1e+38)" in shown
    assert not [*tmp_path.glob("run/results.json"), *tmp_path.glob("run/checkpoint-*")]


def test_an_output_that_is_no_number_names_the_step_where_it_is_evaluated(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = {"learning_rate": "1e15", "optim": "sgd", "decay_policy": "none", "dose": None}
    argv = experiment(tmp_path, data, **huge, weight_decay=0.0, on_nan="skip")
    assert run(main, argv) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert "the model's output is not a number at step 9 of 18: training has diverged" in error
    assert "lower learning_rate" in error


@pytest.mark.parametrize("save", ["steps", "no"])
def test_weights_that_the_last_step_spoiled_are_neither_scored_nor_saved(
    save: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = torch.optim.SGD.step

    def spoil(self: Any, *args: Any, **kwargs: Any) -> None:
        step(self, *args, **kwargs)
        self.param_groups[0]["params"][-1].data.view(-1)[0] = math.inf

    monkeypatch.setattr(torch.optim.SGD, "step", spoil)
    few = {"max_steps": 1, "optim": "sgd", "save_strategy": save, "save_steps": 1}
    few["decay_mode"] = "decoupled"
    with pytest.raises(GammaError, match=r"the weights are not finite numbers \('.*' first\)"):
        train(experiment(tmp_path, data, eval_strategy="no", **few))
    assert not list(tmp_path.glob("run/*/model.safetensors"))


def test_a_score_that_is_nan_beside_finite_ones_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "STS-B").mkdir()
    rows = [
        STSB.split(),
        *([str(i), *"gfyoss", "a b", f"c {chr(97 + i)}", str(i % 5)] for i in range(16)),
    ]
    for name in ("train", "dev"):
        text = "".join("\t".join(row) + "\n" for row in rows)
        (tmp_path / "STS-B" / f"{name}.tsv").write_text(text)
    monkeypatch.setattr("gamma_nlp.tasks.glue.metrics.pearson", lambda x, y: math.nan)
    argv = experiment(tmp_path, tmp_path, task="stsb", vocab_size=60, max_steps=2)
    with pytest.raises(GammaError, match="eval_pearson is nan at step 2 of 2"):
        train(argv)
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize(
    ("task", "predictions", "references", "message"),
    [
        ("sst2", [0, 1], [-1, -1], "2 of 2 rows have label -1 and not a class from 0 to 1; GLUE"),
        ("mnli", [0, 1], [2, 3], "1 of 2 rows have label 3 and not a class from 0 to 2"),
        ("stsb", [0.5, 1.0], [-1.0, 2.0], "label -1 and not a score from 0 to 5"),
        ("stsb", [math.nan, 1.0], [1.0, 2.0], "a prediction is not a number"),
        ("sst2", [], [], "no examples"),
    ],
)
def test_what_has_no_labels_has_no_score(
    task: str, predictions: list[float], references: list[float], message: str
) -> None:
    with pytest.raises(GammaError, match=message):
        GlueMetric(task)._compute(np.array(predictions), np.array(references))


def test_a_model_without_its_tokenizer_is_not_trained_on_unknown_words(
    data: Path, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(**sizes, intermediate_size=16))
    model.save_pretrained(tmp_path / "model")
    argv = experiment(tmp_path, data, model_config=None, model=str(tmp_path / "model"))
    with pytest.raises(GammaError, match=r"has no tokenizer: .* every word would be unknown; give"):
        train(argv)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "zebra"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(GammaError, match="100% of the training text of sst2 is unknown"):
        train([*argv, "--tokenizer", str(tmp_path / "vocab.txt")])


def test_a_tokenizer_other_than_the_models_own_is_refused(data: Path, tmp_path: Path) -> None:
    own, other = (train_tokenizer(texts, 60) for texts in (["a film"], ["film a b"]))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(**sizes, vocab_size=60, intermediate_size=16))
    for part in (model, own):
        part.save_pretrained(tmp_path / "model")
    other.save_pretrained(tmp_path / "other")
    argv = experiment(tmp_path, data, model_config=None, model=str(tmp_path / "model"))
    with pytest.raises(GammaError, match=r"other' gives other ids .*; leave tokenizer out"):
        train([*argv, "--tokenizer", str(tmp_path / "other")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"padding": "max_length", "max_length": 128},
            "longer than the 64 .*--max_length 64",
        ),
        ({"max_length": 2}, r"max_length 2 leaves no room for text .* give at least 3"),
        ({"model_config": {"model_type": "bart"}}, "bart is an encoder-decoder"),
        ({"model_config": {"model_type": "vit"}}, "vit.*no classifier of text"),
        ({"optim": "schedule_free_adamw"}, "cannot use these settings: .*schedulefree"),
        ({"optim_args": "foo=1"}, "optim_args 'foo=1' has no effect with optim adamw_torch_fused"),
    ],
)
def test_a_start_that_fails_leaves_nothing(
    changes: dict[str, Any], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(GammaError, match=message):
        train(experiment(tmp_path, data, **changes))
    assert not (tmp_path / "run").exists()


ROW = "a dull film\t{}\n"
FEW = {"max_steps": 1, "vocab_size": 60, "eval_strategy": "no"}


def rows(folder: Path, train: str, dev: str) -> Path:
    (folder / "SST-2").mkdir()
    for name, text in (("train", train), ("dev", dev)):
        (folder / "SST-2" / f"{name}.tsv").write_text("sentence\tlabel\n" + text)
    return folder


@pytest.mark.parametrize(
    ("train_rows", "message"),
    [
        (4 * ROW.format(1), "all 4 examples of train have the label 'positive': .* nothing to l"),
        (ROW.format(0), "all 1 examples of train have the label 'negative'"),
        (2 * " \t0\n \t1\n", "the training text of sst2 holds no word, only blank lines"),
    ],
)
def test_examples_that_teach_nothing_are_refused(
    train_rows: str, message: str, tmp_path: Path
) -> None:
    glue = rows(tmp_path, train_rows, ROW.format(0) + ROW.format(1))
    with pytest.raises(GammaError, match=message):
        train(experiment(tmp_path, glue, **FEW))
    assert not (tmp_path / "run").exists()


def test_a_score_that_says_nothing_is_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = 4 * (ROW.format(0) + "a bright play\t1\n")
    (tmp_path / "one").mkdir()
    (tmp_path / "same").mkdir()
    train(experiment(tmp_path / "one", rows(tmp_path / "one", both, 3 * ROW.format(0)), **FEW))
    assert "all 3 examples of validation have the label 'negative', so a model that" in caplog.text
    assert "holds the training examples" not in caplog.text
    train(experiment(tmp_path / "same", rows(tmp_path / "same", both, both), **FEW))
    assert "validation holds the training examples: its score is not that of new" in caplog.text


def test_a_model_that_cannot_read_the_data_is_found_before_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(
        self: Any, input_ids: Any = None, token_type_ids: Any = None, **kwargs: Any
    ) -> None:
        raise IndexError("index out of range in self")

    monkeypatch.setattr(BertForSequenceClassification, "forward", forward)
    with pytest.raises(GammaError, match="cannot read the first example: index out of range"):
        train(experiment(tmp_path, data))
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_says_how_to_resume_and_does(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = experiment(tmp_path, data)
    step = FinetuneTrainer.training_step

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 12:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(FinetuneTrainer, "training_step", interrupted)
        assert run(main, argv) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "error: interrupted at step 12; the same command with --resume continues from checkpoint-9"
    )
    assert train([*argv, "--resume"])["steps"] == 18


def test_a_run_is_not_resumed_with_other_settings_and_more_epochs_are_a_part(
    data: Path, tmp_path: Path
) -> None:
    argv = experiment(tmp_path, data, num_train_epochs=1, dose=None, weight_decay=0.1)
    train(argv)
    with pytest.raises(GammaError, match="decay_policy was 'all' and is 'none'") as caught:
        train([*argv, "--resume", "--decay_policy", "none", "--learning_rate", "1e-4"])
    assert "learning_rate was 0.001 and is 0.0001" in str(caught.value)
    with pytest.raises(GammaError, match=r"weight_decay was 0\.1 and is "):
        train([*argv, "--resume", "--dose", "0.3", "--num_train_epochs", "2"])
    other = write_sst2(tmp_path / "other" / "SST-2", train=72, dev=40, seed=5).parent
    with pytest.raises(GammaError, match=r"training_data was '.*' and is '"):
        train([*argv, "--resume", "--num_train_epochs", "2", "--data", str(other)])
    found = train([*argv, "--resume", "--num_train_epochs", "2"])
    assert [(part["from_step"], part["to_step"]) for part in found["parts"]] == [(0, 9), (9, 18)]
    assert [part["num_train_epochs"] for part in found["parts"]] == [1, 2]
    sums = [part["sum_of_learning_rates"] for part in found["parts"]]
    # Linear to 0 over 9 steps, then the second half of a fall over 18.
    assert sums == pytest.approx([1e-3 * 45 / 9, 1e-3 * 45 / 18])
    assert found["sum_of_learning_rates"] == pytest.approx(sum(sums))
    dose = -math.expm1(-0.1 * sum(sums))
    assert found["dose"]["shortcut"]["dose"] == pytest.approx(dose, rel=1e-3)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(record["parts"]) == 2
