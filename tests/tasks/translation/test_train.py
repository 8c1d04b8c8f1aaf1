"""The translation recipe end to end on a generated corpus and a tiny model."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
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
from gamma_nlp.tasks.translation.scores import token_bleu
from gamma_nlp.tasks.translation.text import TranslationText, read_prepared
from gamma_nlp.tasks.translation.train import train_translation
from gamma_nlp.tasks.translation.trainer import Patience, TranslationTrainer
from tests.support.torchrun import two_processes
from tests.support.translation_runs import (
    MARIAN,
    experiment,
    finished_run,
    prepared_corpus,
    recipe,
    same,
    train,
    weights,
)

EMPTY = "EMPTY"  # stands for null, since experiment() leaves out what is None
PRENORM = MARIAN | {"model_type": "pegasus"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The folder of a finished run, without a stop; its last two checkpoints are averaged."""
    return finished_run(tmp_path_factory.mktemp("whole"), data)


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


def test_the_evaluation_is_that_of_a_plain_loop(whole: Path, data: Path) -> None:
    checkpoint = checkpoints(whole)[-1]
    model = MarianMTModel.from_pretrained(checkpoint).eval()
    text = TranslationText.load(whole)
    valid = load_splits(data, text)["valid"]
    total, tokens = 0.0, 0
    for source, target in zip(valid.source, valid.target, strict=True):
        labels = torch.tensor(target.tolist())
        with torch.no_grad():
            given = torch.tensor([[model.config.decoder_start_token_id, *target[:-1].tolist()]])
            logits = model(torch.tensor([source.tolist()]), decoder_input_ids=given).logits[0]
        total -= float(logits.log_softmax(-1)[torch.arange(len(labels)), labels].sum())
        tokens += len(labels)
    found = json.loads((whole / "results.json").read_text())["final"]
    assert found["eval_loss"] == pytest.approx(total / tokens, rel=1e-5)
    greedy = decode(model, [source.tolist() for source in valid.source], Search(beams=1))
    bleu = token_bleu(text.decode(greedy), valid.references.tokens).score
    assert found["eval_bleu"] == pytest.approx(bleu, abs=1e-3)


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


def test_training_stops_when_patience_is_spent() -> None:
    args = SimpleNamespace(metric_for_best_model="bleu", greater_is_better=True)

    def stops(scores: list[float], patience: int) -> bool:
        log = [{"step": i, "eval_bleu": score} for i, score in enumerate(scores)]
        state = SimpleNamespace(log_history=[{"step": 0, "loss": 1.0}, *log])
        control = SimpleNamespace(should_training_stop=False)
        Patience(patience).on_evaluate(args, state, control)
        return control.should_training_stop

    assert not stops([1.0, 2.0, 1.5], 2)
    assert stops([1.0, 2.0, 1.5, 2.0], 2)
    assert not stops([1.0, 2.0, 1.5, 2.1], 2)
    assert stops([3.0, 2.0], 1)


def test_a_run_ends_early_and_says_so(data: Path, tmp_path: Path) -> None:
    # BLEU stays at 0 for so short a training, so that the first evaluation is the best.
    argv = experiment(tmp_path, data, num_train_epochs=9, learning_rate="1e-6", patience=2)
    found = train([*argv, "--beams", "1"])
    assert [entry["eval_bleu"] for entry in found["history"]] == [0, 0, 0]
    epoch = found["history"][0]["step"]
    assert (found["steps"], found["planned_steps"]) == (3 * epoch, 9 * epoch)
    assert found["dose"]["shortcut"]["dose"] < 0.2  # of the steps taken, not of those planned


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "data is missing: give --data FOLDER"),
        ({"data": "nowhere"}, "nowhere is not a prepared folder"),
        ({"source_language": "fr"}, "has de and en, not fr and en"),
        ({"model_config": None}, "model_config is missing"),
        ({"model_config": {"d_model": 8}}, "model_type is missing"),
        ({"model_config": {"model_type": "no-such"}}, "cannot build 'no-such'"),
        ({"model_config": {"model_type": "bert"}}, "cannot build 'bert'"),
        ({"model_config": MARIAN | {"model_type": "m2m_100"}}, "m2m_100 does not make decoder in"),
        ({"model_config": MARIAN | {"layers": 3}}, "marian has no field 'layers'"),
        ({"model_config": MARIAN | {"encoder_layer": 2}}, "did you mean 'encoder_layers'"),
        ({"model_config": "{model_type: mariann}"}, "did you mean 'marian'"),
        ({"per_device_eval_batch_size": 0}, "per_device_eval_batch_size must be at least 1"),
        ({"report_to": "wandbb"}, "no log is called 'wandbb'"),
        ({"optim_args": "x=1"}, "optim_args 'x=1' has no effect"),
        ({"resume": True}, "--resume: .* holds no checkpoint, so there is nothing to resume"),
        ({"model_config": MARIAN | {"vocab_size": 3}}, "vocab_size follows from the data"),
        (
            {"model_config": MARIAN | {"max_position_embeddings": 4}},
            r"a sentence of train has \d+ tokens, more than the 4 positions",
        ),
        (
            {"model_config": PRENORM, "joint_vocabulary": False},
            "joint_vocabulary: false needs model_type marian, not pegasus",
        ),
        ({"max_tokens": 5}, r"more than max_tokens=5"),
        ({"beams": 0}, "beams must be at least 1, not 0"),
        ({"beams": 1001}, "beams must be at most 1000, not 1001"),
        ({"average_last": 0}, "average_last must be at least 1, not 0"),
        ({"average_last": EMPTY}, "average_last is empty"),
        ({"length_penalty": EMPTY}, "length_penalty is empty"),
        ({"metric_for_best_model": "accuracy"}, "must be bleu or loss, not accuracy"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end has no effect"),
        ({"save_strategy": "best"}, "save_strategy best would leave out the last checkpoints"),
        ({"resume_from_checkpoint": "x"}, "resume_from_checkpoint has no effect here; give --res"),
        ({"num_train_epochs": 0}, "no step to train: num_train_epochs is 0"),
        ({"patience": 2, "eval_strategy": "no"}, "patience needs evaluations"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "plateau follows the score"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "cannot be made: .*lr_scheduler_kwargs"),
        ({"decay_policy": "nothing"}, "unknown policy 'nothing'"),
        ({"dose": None, "weight_decay": 0.0}, "weight_decay is 0"),
    ],
)
def test_bad_input_is_an_error_before_any_step(
    changes: dict[str, Any], message: str, tmp_path: Path, data: Path
) -> None:
    argv = experiment(tmp_path, **({"data": data} | changes))
    file = Path(argv[0])
    file.write_text(file.read_text().replace(EMPTY, "null"))
    with pytest.raises(GammaError, match=message):
        train(argv)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_ends_the_run_without_a_score(data: Path, tmp_path: Path) -> None:
    none = {"decay_policy": "none", "dose": None, "weight_decay": 0.0, "warmup_steps": 0}
    argv = experiment(tmp_path, data, learning_rate="1e38", **none)
    with pytest.raises(GammaError, match=r"not a finite number .* at step 2 of \d+: training has"):
        train(argv)
    assert not (tmp_path / "run" / "results.json").exists()


def test_text_that_the_vocabulary_does_not_know_is_refused(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    (copy / "vocab").write_text("zebra 1\n")
    with pytest.raises(GammaError, match="of the training text in de is unknown to the vocabul"):
        train(experiment(tmp_path, copy))


def test_sides_of_different_length_are_named(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    with (copy / "test.en").open("a") as file:
        file.write("one more\n")
    with pytest.raises(GammaError, match=r"test\.de has 7 lines, but .*test\.en has 8"):
        train(experiment(tmp_path, copy))


def test_an_empty_test_set_is_named(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    for path in copy.rglob("test.*"):
        path.write_text("")
    with pytest.raises(GammaError, match=r"test\.de is empty; .* remove this test set"):
        train(experiment(tmp_path, copy))


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


@pytest.mark.parametrize(
    ("package", "extra"), [("matplotlib", "recipes"), ("sacrebleu", "translation")]
)
def test_a_missing_package_is_named_before_anything_is_written(
    package: str, extra: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = experiment(tmp_path, data)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(GammaError, match=rf"needs {package}: pip install 'gamma_nlp\[{extra}\]'"):
        train(argv)
    assert not (tmp_path / "run").exists()


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


def test_two_processes_evaluate_as_one(data: Path, tmp_path: Path) -> None:
    two_processes(__file__, str(data), str(tmp_path))


def _two_processes(data: Path, folder: Path) -> None:
    argv = experiment(folder / os.environ["RANK"], data, num_train_epochs=3, beams=1)
    found = train([*argv, "--output_dir", str(folder / "run")])
    assert found["world_size"] == 2
    text = TranslationText.load(folder / "run")
    valid = load_splits(data, text)["valid"]
    model = MarianMTModel.from_pretrained(checkpoints(folder / "run")[-1])
    lines = text.decode(decode(model, [s.tolist() for s in valid.source], Search(beams=1)))
    bleu = token_bleu(lines, valid.references.tokens).score
    assert math.isclose(found["final"]["eval_bleu"], bleu, abs_tol=1e-3)
    written = (folder / "run/translations/valid.tok.en").read_text().split("\n")[:-1]
    assert written == lines  # average_last is 1: the last checkpoint is the final model


if __name__ == "__main__":
    _two_processes(Path(sys.argv[1]), Path(sys.argv[2]))


def test_an_evaluation_casts_each_weight_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {}
    translate = TranslationTrainer.translate
    found: dict[str, list[str]] = {}
    way = "once"

    def counted(self: Any, data: Any, search: Any, *, model: Any = None) -> list[str]:
        with _Casts() as casts:
            lines = translate(self, data, search, model=model)
        if model is None:
            counts[way], found[way] = casts.number, lines
        return lines

    monkeypatch.setattr(TranslationTrainer, "translate", counted)
    changes = {"precision": "bf16", "num_train_epochs": 1}
    train(experiment(tmp_path / "one", data, **changes))
    way = "every token"
    monkeypatch.setattr(
        TranslationTrainer, "_weights_cast_once", lambda self: torch.inference_mode()
    )
    train(experiment(tmp_path / "other", data, **changes))
    assert found["once"] == found["every token"]
    # The search is one batch of several tokens; what is no weight is cast in both ways.
    assert 0 < 2 * counts["once"] < counts["every token"], counts


class _Casts(TorchDispatchMode):
    """Counts casts of matrices to 16 bits."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and args and isinstance(args[0], torch.Tensor):
            cast = (args[0].dtype, made.dtype) == (torch.float32, torch.bfloat16)
            self.number += cast and made.dim() == 2
        return made
