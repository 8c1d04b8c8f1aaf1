"""The recipe end to end on a generated corpus and a tiny model, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.schedule import decay_for_dose, rates_of_arguments, sentence_batches
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.train import finetune
from gamma_nlp.tasks.run.arguments import BatchArguments, complete
from gamma_nlp.tasks.run.items import read_items
from gamma_nlp.tasks.run.main import run
from gamma_nlp.tasks.run.settings import read_settings
from tests.support.glue_runs import BERT, experiment
from tests.support.paths import RECIPES
from tests.support.whole_checkpoint import whole_checkpoint


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sst2(tmp_path_factory.mktemp("glue") / "SST-2", train=72, dev=40).parent


def train(argv: list[str]) -> dict[str, Any]:
    return finetune(*read_arguments(argv), quiet=True)


def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sst2", RECIPES / "sst2.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_records_its_figures_and_reaches_its_dose(tmp_path: Path, data: Path) -> None:
    # Learning rate so small that gradients leave the gains alone: decay acts by itself.
    found = train(
        experiment(
            tmp_path, data, learning_rate="1e-7", optim="sgd", decay_mode="decoupled", momentum=None
        )
    )
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert written == json.loads(
        json.dumps({key: value for key, value in found.items() if key != "log"}, default=str)
    )
    assert found["steps"] == found["planned_steps"] == 18
    assert found["world_size"] == 1
    assert found["final"]["step"] == 18
    assert [entry["step"] for entry in found["history"]] == [9, 18]
    assert set(found["dose"]) == {"shortcut", "head"}
    for category, dose in found["dose"].items():
        assert dose["dose"] == pytest.approx(0.2, rel=0.1)
        norm = found["gain_norm"][category]
        assert norm["last"] == pytest.approx(0.8, abs=0.02)
    assert 0 <= found["padding_share"] < 0.3
    assert found["tokens_per_second"] > found["sentences_per_second"] > 0
    assert {"python", "torch", "transformers"} <= set(found["versions"])
    for name in ("training.png", "gain_table.json", "run.json", "checkpoint-18"):
        assert (tmp_path / "run" / name).exists()


def test_the_same_seed_gives_the_same_run(tmp_path: Path, data: Path) -> None:
    runs = [
        train([*experiment(tmp_path, data), "--output_dir", str(tmp_path / name)])["log"]
        for name in ("one", "two")
    ]
    first, second = ([entry["loss"] for entry in log if "loss" in entry] for log in runs)
    assert first == second


def test_resume_continues_where_the_run_stopped(tmp_path: Path, data: Path) -> None:
    argv = experiment(tmp_path, data, num_train_epochs=1, lr_scheduler_type="constant", dose=None)
    argv += ["--weight_decay", "0.1"]
    train(argv)
    whole = train([*argv, "--num_train_epochs", "2", "--output_dir", str(tmp_path / "whole")])
    with pytest.raises(GammaError, match=r"already holds a run \(checkpoint-9, results\.json\)"):
        train(argv)
    with pytest.raises(GammaError, match=r"at step 9 of 9: the run is finished"):
        train([*argv, "--resume"])
    resumed = train([*argv, "--resume", "--num_train_epochs", "2"])
    assert resumed["resumed"] and not whole["resumed"]
    assert resumed["final"] == pytest.approx(whole["final"], rel=1e-4)
    assert resumed["gain_norm"]["head"] == pytest.approx(whole["gain_norm"]["head"], rel=1e-5)


def test_what_is_missing_after_the_last_step_is_made_up_in_a_folder_that_was_moved(
    tmp_path: Path, data: Path
) -> None:
    argv = experiment(tmp_path, data)
    whole = train(argv)
    assert whole["best_checkpoint"] == str(tmp_path / "run" / "checkpoint-9")
    scored = read_items(tmp_path / "run" / "items" / "validation.npz")
    (tmp_path / "run").rename(tmp_path / "moved")
    for path in (*(tmp_path / "moved").glob("items/*"), tmp_path / "moved" / "results.json"):
        path.unlink()
    found = train([*argv, "--resume", "--output_dir", str(tmp_path / "moved")])
    assert found["final"] == whole["final"] and found["dose"] == whole["dose"]
    assert found["best_checkpoint"] == str(tmp_path / "moved" / "checkpoint-9")
    again = read_items(tmp_path / "moved" / "items" / "validation.npz")
    assert all((again.columns[name] == one).all() for name, one in scored.columns.items())


def test_few_shapes_take_the_same_steps_and_count_no_empty_rows(tmp_path: Path, data: Path) -> None:
    argv = experiment(tmp_path, data, num_train_epochs=1, max_train_examples=70, batch_shapes="few")
    found = train(argv)
    assert found["batch_shapes"] == "few" and found["shapes"] <= 9 == found["steps"]
    sentences = found["sentences_per_second"] * found["train_seconds"]
    assert sentences == pytest.approx(70, abs=1)  # of 72 rows
    assert 0 < found["padding_share"] < 0.3
    with pytest.raises(GammaError, match="batch_shapes was 'few' and is 'any'"):
        train([*argv, "--resume", "--batch_shapes", "auto"])


def test_few_shapes_need_classes(tmp_path: Path, data: Path) -> None:
    argv = ["--task", "stsb", "--use_cpu", "true", "--output_dir", str(tmp_path)]
    assert read_arguments(argv)[0].batch_shapes == "any"
    with pytest.raises(GammaError, match="stsb is scored in numbers: give any"):
        read_arguments([*argv, "--batch_shapes", "few"])


def test_shapes_are_few_on_a_gpu_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {}

    def note(values: dict[str, Any]) -> None:
        complete(values, output_dir="run", names={})
        chosen[values["use_cpu"], cuda] = values["batch_shapes"]
        raise GammaError("enough: no run is made")

    for cuda in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)  # noqa: B023
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
        for word in ("true", "false"):
            with pytest.raises(GammaError, match="enough"):
                read_settings(
                    (BatchArguments, TrainingArguments), ["--use_cpu", word], complete=note
                )
    assert [key for key, value in chosen.items() if value == "few"] == [(False, True)]
    assert len(chosen) == 4


def test_a_folder_with_another_run_is_refused_before_training(tmp_path: Path, data: Path) -> None:
    argv = experiment(tmp_path, data)
    checkpoint = whole_checkpoint(tmp_path / "run", 4)
    (checkpoint / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(GammaError, match="add --resume, to start over give another --output_dir"):
        train(argv)
    with pytest.raises(GammaError, match=r"no readable run\.json"):
        train([*argv, "--resume"])
    (tmp_path / "run" / "run.json").write_text('{"task": "cola"}')
    with pytest.raises(GammaError, match=r"another run: .*task was 'cola' and is 'sst2'"):
        train([*argv, "--resume"])
    assert (checkpoint / "model.safetensors").read_bytes() == b"precious"
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == {"task": "cola"}


# ModernBERT takes no token types, which tell the two texts of a pair apart in BERT.
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_a_pair_task_with_its_own_score(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "MRPC"
    folder.mkdir()
    row = "{}\t1\t2\tthe cat sat .\t{} sat .\n"
    rows = "".join(row.format(i % 2, "a cat" if i % 2 else "a dog that") for i in range(24))
    head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    for name in ("train.tsv", "dev.tsv"):
        (folder / name).write_text(head + rows, encoding="utf-8")
    run = experiment(tmp_path, tmp_path, model_config=BERT | {"model_type": kind})
    found = train([*run, "--task", "mrpc", "--vocab_size", "60"])
    assert {"eval_accuracy", "eval_f1"} <= set(found["final"])
    assert found["score"] == "eval_accuracy"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_config": None}, "give either model"),
        ({"model_config": {"hidden_size": 8}}, "model_type is missing"),
        ({"model_config": {"model_type": "no-such"}}, "cannot build 'no-such'"),
        ({"model_config": None, "model": "./nowhere"}, "no model './nowhere'"),
        ({"decay_policy": "nothing"}, "unknown policy 'nothing'"),
        ({"dose": 1.5}, "dose must lie between 0 and 1"),
        ({"dose": None, "weight_decay": 0.0}, "weight_decay is 0"),
        ({"vocab_size": 20}, "vocab_size 20 is below"),
        (
            {"model_config": BERT | {"max_position_embeddings": 4}},
            r"longer than the 4 that the model accepts; give --max_length 4",
        ),
        ({"cpu_threads": 0}, "cpu_threads must be at least 1"),
    ],
)
def test_bad_input_is_an_error_before_any_step(
    changes: dict[str, Any], message: str, tmp_path: Path, data: Path
) -> None:
    with pytest.raises(GammaError, match=message):
        train(experiment(tmp_path, data, **changes))
    assert not list(tmp_path.glob("run/checkpoint-*"))


def test_the_plan_is_what_the_trainer_does(tmp_path: Path, data: Path) -> None:
    argv = experiment(tmp_path, data, gradient_accumulation_steps=2, num_train_epochs=1.5)
    argv += ["--warmup_steps", "0.3", "--logging_steps", "1"]
    found = train(argv)
    args = read_arguments(argv)[1]
    rates = rates_of_arguments(args, sentence_batches(args, 72))
    logged = [entry["learning_rate"] for entry in found["log"] if "learning_rate" in entry]
    assert found["steps"] == len(rates)
    assert logged == pytest.approx(rates)


def test_the_decay_for_a_dose_takes_that_share() -> None:
    rates = [0.1 * i for i in range(10)]
    decay = decay_for_dose(0.25, rates)
    assert math.exp(-decay * sum(rates)) == pytest.approx(0.75)
    with pytest.raises(GammaError, match="all zero"):
        decay_for_dose(0.1, [0.0])


def test_the_script_prints_an_error_without_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(recipe().main, [str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.startswith("error: cannot read ")


def test_the_script_names_the_extra_of_a_missing_package(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    data: Path,
) -> None:
    argv = experiment(tmp_path, data)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(recipe().main, argv) == 2
    shown = capsys.readouterr().err
    assert shown == "error: fine-tuning needs matplotlib: pip install 'gamma_nlp[recipes]'\n"
    assert not (tmp_path / "run").exists()


def test_the_script_runs_on_its_own(tmp_path: Path, data: Path) -> None:
    argv = experiment(tmp_path, data, num_train_epochs=1)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(RECIPES.parent)  # also where the package is not installed
    done = subprocess.run(
        [sys.executable, str(RECIPES / "sst2.py"), *argv],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "final epoch: loss" in done.stdout
    assert "dose where it decays 20.0%" in done.stdout


def test_a_few_steps_on_the_official_sst2(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    argv = experiment(tmp_path, real_data("glue").parent, vocab_size=2000)
    with pytest.raises(GammaError, match="longer than the 64 that the model accepts"):
        train([*argv, "--max_length", "128"])
    found = train([*argv, "--max_steps", "3", "--save_strategy", "no"])
    assert found["steps"] == 3
    assert found["padding_share"] < 0.1


def test_a_warm_up_longer_than_the_run_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for steps, said in ((1, False), (500, True)):
        argv = experiment(
            tmp_path, data, max_steps=3, warmup_steps=steps, output_dir=str(tmp_path / f"{steps}")
        )
        finetune(*read_arguments(argv))
        shown = capsys.readouterr().out
        line = f"warm-up takes {steps} steps: the learning rate never reaches its peak"
        assert (line in shown) is said
