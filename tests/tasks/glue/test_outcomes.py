"""The items that a fine-tuning run writes, its plan, and seeds that pair its arms."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.glue.metrics import GlueMetric
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.train import finetune, plan_finetune
from gamma_nlp.tasks.glue.trainer import FinetuneTrainer
from gamma_nlp.tasks.run.items import read_items
from tests.support.glue_runs import BERT, experiment


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sst2(tmp_path_factory.mktemp("glue") / "SST-2", train=72, dev=40).parent


def train(argv: list[str]) -> dict[str, Any]:
    return finetune(*read_arguments(argv), quiet=True)


@pytest.mark.parametrize("sampling", ["group_by_length", "random"])
def test_scores_follow_from_the_items(tmp_path: Path, data: Path, sampling: str) -> None:
    found = train(experiment(tmp_path, data, train_sampling_strategy=sampling))
    items = read_items(tmp_path / "run" / "items" / "validation.npz")
    assert items.ids.tolist() == [str(i) for i in range(40)]
    assert items.columns["correct"].mean() == pytest.approx(found["final"]["eval_accuracy"])
    assert items.columns["loss"].mean() == pytest.approx(found["final"]["eval_loss"], rel=1e-4)
    rows = (data / "SST-2" / "dev.tsv").read_text().splitlines()[1:]
    assert items.columns["label"].tolist() == [int(row.split("\t")[1]) for row in rows]
    right = items.columns["label"] == items.columns["prediction"]
    assert np.array_equal(right, items.columns["correct"])
    written = json.loads((tmp_path / "run" / "results.json").read_text())["items"]
    assert written["final.eval_accuracy"] == {
        "file": "items/validation.npz", "statistic": "mean", "columns": ["correct"],
    }  # fmt: skip
    assert written.keys() == {"final.eval_accuracy", "final.eval_loss"}


def test_order_of_evaluation_does_not_change_the_items(tmp_path: Path, data: Path) -> None:
    columns = []
    for sampling in ("group_by_length", "random"):
        folder = tmp_path / sampling
        folder.mkdir()
        changes = {"learning_rate": "1e-9", "train_sampling_strategy": sampling}
        train(experiment(folder, data, num_train_epochs=1, **changes))
        columns.append(read_items(folder / "run" / "items" / "validation.npz").columns["loss"])
    assert np.allclose(*columns, atol=1e-6)
    assert np.ptp(columns[0]) > 1e-4  # so that another order would be seen


def write_pairs(folder: Path) -> Path:
    folder.mkdir(parents=True)
    head = "\t".join(("index", "genre", "sentence1", "sentence2", "score"))
    for name, count in (("train", 24), ("dev", 12)):
        rows = [f"{i}\tg\tword {'a ' * (i % 5)}\tword b{i % 3}\t{i % 6}" for i in range(count)]
        (folder / f"{name}.tsv").write_text("\n".join([head, *rows]) + "\n")
    return folder.parent


def test_a_regression_writes_its_guesses(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "glue" / "STS-B")
    found = train(experiment(tmp_path, folder, task="stsb", num_train_epochs=1))
    items = read_items(tmp_path / "run" / "items" / "validation.npz")
    assert "correct" not in items.columns
    guesses, labels = items.columns["prediction"], items.columns["label"]
    scores = GlueMetric("stsb").compute(predictions=guesses, references=labels)
    assert scores is not None
    assert scores["pearson"] == pytest.approx(found["final"]["eval_pearson"], abs=1e-6)
    assert found["items"].keys() == {"final.eval_pearson", "final.eval_loss"}


def test_a_run_whose_results_were_lost_writes_the_same_items(tmp_path: Path, data: Path) -> None:
    words = experiment(tmp_path, data)
    train(words)
    before = read_items(tmp_path / "run" / "items" / "validation.npz")
    (tmp_path / "run" / "results.json").unlink()
    (tmp_path / "run" / "items" / "validation.npz").unlink()
    train([*words, "--resume"])
    after = read_items(tmp_path / "run" / "items" / "validation.npz")
    for name, values in before.columns.items():
        assert np.array_equal(values, after.columns[name]), name


def test_a_plan_says_what_the_run_then_does_and_writes_nothing(tmp_path: Path, data: Path) -> None:
    words = experiment(tmp_path, data)
    plan = plan_finetune(*read_arguments(words))
    assert not (tmp_path / "run").exists()
    found = json.loads(json.dumps(train(words), default=str))
    for key in ("groups", "data", "weight_decay", "sum_of_learning_rates", "steps", "parameters"):
        assert plan[key] == found[key], key
    assert plan["dose"].keys() == found["dose"].keys()
    assert plan["dose"]["shortcut"]["dose"] == pytest.approx(0.2, rel=0.01)


def test_a_plan_draws_the_model_where_it_is_asked_to(tmp_path: Path, data: Path) -> None:
    words = experiment(tmp_path, data)
    assert "picture" not in plan_finetune(*read_arguments(words))
    drawn = plan_finetune(*read_arguments(words), picture=True)["picture"]
    assert drawn.startswith("<svg") and "shortcut" in drawn


def test_groups_are_equal_where_every_parameter_decays_alike(tmp_path: Path, data: Path) -> None:
    def groups(*more: str) -> str:
        return str(plan_finetune(*read_arguments([*words, *more]))["groups"])

    words = experiment(tmp_path, data)
    none = groups("--decay_policy", "none")
    assert none == groups("--decay_policy", "guidelines")  # post-norm: nothing for it to decay
    others = [
        groups("--decay_policy", "all"),
        groups("--decay_policy", "none", "--dose", "0.3"),
        groups("--decay_policy", "none", "--decay_mode", "coupled", "--weight_decay", "9"),
    ]
    assert len({none, *others}) == 4


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Keep, for every step: the batch, the random state, and at first the weights."""
    seen: list[tuple[str, str, str]] = []
    usual = FinetuneTrainer.training_step

    def step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        weights = [] if seen else [p.detach().numpy().tobytes() for p in model.parameters()]
        batch = [inputs[name].numpy().tobytes() for name in sorted(inputs)]
        state = torch.get_rng_state().numpy().tobytes()
        texts = (b"".join(batch), state, b"".join(weights))
        seen.append(tuple(hashlib.sha256(text).hexdigest() for text in texts))  # type: ignore[arg-type]
        return usual(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(FinetuneTrainer, "training_step", step)
    return seen


def test_a_seed_gives_all_arms_the_same_start_batches_and_dropout(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = recorded(monkeypatch)
    runs = []
    arms = (
        ["none"],
        ["all"],
        ["all", "--dose", "0.5"],
        ["all", "--decay_mode", "coupled", "--weight_decay", "0.1"],
    )
    for index, (policy, *more) in enumerate(arms):
        folder = tmp_path / str(index)
        folder.mkdir()
        config = BERT | {"hidden_dropout_prob": 0.3}
        train([*experiment(folder, data, model_config=config), "--decay_policy", policy, *more])
        runs.append(list(seen))
        seen.clear()
    assert len(runs[0]) == 18 and all(run == runs[0] for run in runs)
    folder = tmp_path / "other"
    folder.mkdir()
    train([*experiment(folder, data), "--seed", "2"])
    assert all(one[0] != other[0] for one, other in zip(seen, runs[0], strict=True))


def test_init_noise_moves_the_weights_and_nothing_else(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = recorded(monkeypatch)
    runs = []
    for index, more in enumerate(([], ["--init_noise", "1e-7"])):
        folder = tmp_path / str(index)
        folder.mkdir()
        train([*experiment(folder, data, num_train_epochs=1), *more])
        runs.append(list(seen))
        seen.clear()
    one, other = runs
    assert [step[:2] for step in one] == [step[:2] for step in other]
    assert one[0][2] != other[0][2]


def test_training_on_fewer_examples_takes_the_same_for_every_seed(
    tmp_path: Path, data: Path
) -> None:
    words = [*experiment(tmp_path, data), "--max_train_examples", "30"]
    plans = [plan_finetune(*read_arguments([*words, "--seed", seed])) for seed in "12"]
    whole = plan_finetune(*read_arguments(words[:1]))
    assert plans[0]["data"] == plans[1]["data"]
    assert plans[0]["data"]["train"] != whole["data"]["train"]
    assert plans[0]["data"]["validation"] == whole["data"]["validation"]
    assert plans[0]["steps"] == 8
    with pytest.raises(GammaError, match="max_train_examples 73 is more than the 72"):
        plan_finetune(*read_arguments([*words[:1], "--max_train_examples", "73"]))
