"""SimpleLogic's runs: paired over policies, an item for each test problem of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp import Category, categorize
from gamma_nlp.tasks.run.items import read_items
from recipes.studies.attention_only import AttentionOnly, rotated
from recipes.studies.logic import DRAWS
from recipes.studies.simple_logic import main

SMALL = [
    *("--train_problems", "18", "--test_problems", "18", "--layers", "1", "--width", "8"),
    *("--heads", "2", "--max_steps", "3", "--eval_steps", "3", "--logging_steps", "1"),
    *("--warmup_steps", "0", "--per_device_train_batch_size", "8", "--weight_decay", "0.1"),
]
SIZES: dict[str, Any] = {"names": 3, "roles": 2, "labels": 2, "width": 8, "heads": 2, "start": 0.3}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for policy in ("none", "all"):
        words = ["--decay_policy", policy, "--output_dir", str(folder / policy)]
        assert main([*SMALL, "--problems", str(folder / "problems"), *words]) == 0
        text = (folder / policy / "results.json").read_text("utf-8")
        found[policy] = (folder / policy, json.loads(text))
    return found


def test_every_kind_has_a_score_that_follows_from_its_items(results: Any) -> None:
    folder, found = results["all"]
    assert found["items"].keys() == {f"final.eval_{name}_accuracy" for name in DRAWS}
    for score, source in found["items"].items():
        correct = read_items(folder / source["file"]).columns["correct"]
        assert len(correct) == 18 and source["statistic"] == "mean"
        value = found["final"][score.removeprefix("final.")]
        assert correct.mean() == pytest.approx(value)
    assert found["data"].keys() == {"train", *DRAWS} and len(set(found["data"].values())) == 4


def test_policies_share_weights_and_rows_and_differ_in_the_gains_decay(results: Any) -> None:
    none, every = results["none"][1], results["all"][1]
    assert none["curves"]["loss"][0] == every["curves"]["loss"][0]
    assert none["data"] == every["data"] and none["groups"] != every["groups"]
    assert none["weight_decay"] == every["weight_decay"] == 0.1
    coefficients = [
        {name: part["coefficient"] for name, part in one["dose"].items()} for one in (none, every)
    ]
    assert coefficients == [
        {"branch_inner": 0.0, "head": 0.0},
        {"branch_inner": 0.1, "head": 0.1},
    ]


def test_the_model_is_causal_and_tells_positions_apart() -> None:
    torch.manual_seed(0)
    model = AttentionOnly(layers=2, **SIZES)
    ids = torch.tensor([[1, 2, 4, 6, 5], [4, 2, 1, 6, 5], [0, 2, 4, 6, 5]])
    logits = model(ids)["logits"]
    assert not torch.allclose(logits[0], logits[1]) and not torch.allclose(logits[0], logits[2])
    seen: list[torch.Tensor] = []
    model.layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(ids[:1]), model(torch.tensor([[1, 2, 4, 6, 3]]))
    assert torch.equal(seen[0][:, :-1], seen[1][:, :-1])  # nothing looks ahead
    assert not torch.equal(seen[0][:, -1], seen[1][:, -1])


def test_angles_depend_on_the_distance_alone() -> None:
    x, y = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0)).expand(2, 9, 4)
    scores = rotated(x) @ rotated(y).T
    assert torch.allclose(scores[3, 1], scores[8, 6], atol=1e-5)
    assert not torch.allclose(scores[3, 1], scores[3, 2], atol=1e-3)


def test_gains_are_those_of_a_pre_norm_model() -> None:
    model = AttentionOnly(layers=2, **SIZES)
    table = categorize(model, inputs={"input_ids": torch.tensor([[1, 2, 3, 4, 5]])})
    assert [gain.category for gain in table] == [Category.BRANCH_INNER] * 2 + [Category.HEAD]
