"""The translation recipe end to end on a generated corpus and a tiny model."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import MarianMTModel

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.batches.budget import TokenBudget
from gamma_nlp.hf.batches.by_tokens import TokenBatches
from gamma_nlp.tasks.run.folder import checkpoints
from gamma_nlp.tasks.run.main import run
from gamma_nlp.tasks.translation.arguments import read_arguments
from gamma_nlp.tasks.translation.average import average_checkpoints
from gamma_nlp.tasks.translation.data import load_splits
from gamma_nlp.tasks.translation.decode import Search, decode
from gamma_nlp.tasks.translation.final import score_translations
from gamma_nlp.tasks.translation.text import TranslationText, read_prepared
from gamma_nlp.tasks.translation.train import train_translation
from gamma_nlp.tasks.translation.trainer import TranslationTrainer
from tests.support.translation_runs import (
    PRENORM,
    experiment,
    recipe,
    same,
    train,
    weights,
)


def test_a_run_leaves_model_translations_scores_and_plot(whole: Path, data: Path) -> None:
    found = json.loads((whole / "results.json").read_text())
    assert found["task"] == "de-en"
    assert [entry["epoch"] for entry in found["history"]] == [1, 2, 3, 4, 5, 6]
    assert found["history"][-1]["eval_loss"] < found["history"][0]["eval_loss"]
    assert found["final"]["eval_bleu"] >= 0
    assert found["dose"]["shortcut"]["dose"] == pytest.approx(0.2, rel=0.01)
    assert found["tokens_per_second"] > 0
    for name in ("training.png", "gain_table.json", "run.json", "text/codes"):
        assert (whole / name).is_file()
    text = TranslationText.load(whole)
    splits = load_splits(data, text)
    assert set(found["scores"]) == {"valid", "test"}
    for name, score in found["scores"].items():
        tokens = (whole / f"translations/{name}.tok.en").read_text().split("\n")[:-1]
        plain = (whole / f"translations/{name}.en").read_text().split("\n")[:-1]
        assert plain == text.plain(tokens)
        assert score == score_translations(tokens, splits[name].references, text)
        # The order is the input's: the model, asked again, says the same line by line.
        model = MarianMTModel.from_pretrained(whole / "averaged")
        ids = [source.tolist() for source in splits[name].source]
        assert text.decode(decode(model, ids, Search(beams=2))) == tokens


def test_batches_of_few_shapes_train_every_pair(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = experiment(tmp_path, data, num_train_epochs=1, batch_shapes="few", max_tokens=64)
    found = train_translation(*read_arguments(argv))
    text = read_prepared(data, "de", "en", joint=True)
    pairs = load_splits(data, text)["train"]
    tokens = found["tokens_per_second"] * found["train_seconds"]
    assert tokens == pytest.approx(sum(pairs.lengths[1]), rel=0.02)
    batches = TokenBatches(*pairs.lengths, TokenBudget(max_tokens=64, max_shapes=32))
    assert found["steps"] == len(batches)
    assert found["batch_shapes"] == "few" and found["shapes"] == len(batches.shapes)
    assert found["padding"]["target"] == pytest.approx(batches.padding.target, abs=1e-4)
    assert found["padding_share"] == found["padding"]["target"]
    said = f"75 pairs in {len(batches)} batches of {len(batches.shapes)} shapes"
    assert said in capsys.readouterr().out
    with pytest.raises(GammaError, match="batch_shapes was 'few' and is 'any'"):
        train([*argv, "--resume", "--num_train_epochs", "2", "--batch_shapes", "any"])


def test_the_final_model_is_the_mean_of_the_last_checkpoints(whole: Path, tmp_path: Path) -> None:
    last = checkpoints(whole)[-2:]
    average_checkpoints(last, tmp_path / "mean")
    assert same(tmp_path / "mean", whole / "averaged")
    assert not same(last[-1], whole / "averaged")


def test_decay_acts_where_the_policy_says_on_a_pre_norm_model(data: Path, tmp_path: Path) -> None:
    # Learning rate so small that gradients leave the gains alone: decay acts by itself.
    tiny = {
        "learning_rate": "1e-7",
        "optim": "sgd",
        "decay_mode": "decoupled",
        "model_config": PRENORM,
        "beams": 1,
    }
    argv = experiment(tmp_path, data, decay_policy="guidelines", save_strategy="no", **tiny)
    found = train(argv)
    norms = {name: norm["last"] for name, norm in found["gain_norm"].items()}
    assert norms["branch_inner"] == pytest.approx(0.8, rel=0.01)
    assert norms["head"] == pytest.approx(1.0, rel=1e-4)
    assert weights(tmp_path / "run" / "averaged")  # without checkpoints: the model at hand


def test_speed_counts_training_alone_also_where_the_only_evaluation_comes_last(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = TranslationTrainer.evaluation_loop

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(1.5)
        return loop(*args, **kwargs)

    monkeypatch.setattr(TranslationTrainer, "evaluation_loop", slow)
    found = train(experiment(tmp_path, data, eval_strategy="no", save_strategy="no", beams=1))
    assert len(found["history"]) == 1
    (runtime,) = [entry["train_runtime"] for entry in found["log"] if "train_runtime" in entry]
    assert found["evaluation_seconds"] > 1.5
    assert found["train_seconds"] >= runtime - 0.01  # it is rounded


def test_coupled_decay_is_an_option(data: Path, tmp_path: Path) -> None:
    argv = experiment(tmp_path, data, save_strategy="no", beams=1, output_dir=None)
    argv += ["--decay_mode", "coupled", "--output_dir", f"{tmp_path}/{{decay_policy}}-{{seed}}"]
    with pytest.raises(GammaError, match="dose needs a decoupled policy; give weight_decay"):
        train(argv)
    found = train([*argv, "--weight_decay", "0.01", "--num_train_epochs", "1"])
    assert (tmp_path / "all-coupled-42" / "results.json").is_file()
    assert found["policy"]["mode"] == "coupled"
    assert found["policy"]["name"] == "all-coupled"


def test_each_language_can_have_its_vocabulary(data: Path, tmp_path: Path) -> None:
    argv = experiment(tmp_path, data, joint_vocabulary=False, num_train_epochs=1, beams=1)
    train(argv)
    model = MarianMTModel.from_pretrained(tmp_path / "run" / "averaged")
    text = read_prepared(data, "de", "en", joint=False)
    assert not text.joint
    assert model.get_input_embeddings().num_embeddings == len(text.source)
    assert model.lm_head.out_features == len(text.target)
    assert model.lm_head.weight is model.get_decoder().embed_tokens.weight


def test_a_folder_without_test_sets_and_plain_text_will_do(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    shutil.rmtree(copy / "raw")
    for path in copy.rglob("test.*"):
        path.unlink()
    found = train(experiment(tmp_path, copy, max_steps=2, beams=1))
    assert list(found["scores"]) == ["valid"]


def test_zero_keeps_all_checkpoints_as_it_does_in_the_trainer(data: Path, tmp_path: Path) -> None:
    limits = {0: 0, 1: 4, 9: 9}
    for given, kept in limits.items():
        argv = experiment(tmp_path, data, save_total_limit=given, average_last=3)
        assert read_arguments(argv)[1].save_total_limit == kept


def test_the_script_runs_on_its_own(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = experiment(tmp_path, data, num_train_epochs=1, beams=1)
    assert run(recipe().main, argv) == 0
    printed = capsys.readouterr().out
    assert "de-en: 75 pairs" in printed
    assert "BLEU, tokens" in printed
    assert "sacreBLEU nrefs:1|case:lc" in printed
    assert run(recipe().main, [str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.startswith("error: cannot read ")
