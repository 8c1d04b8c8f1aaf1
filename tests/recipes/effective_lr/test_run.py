"""The recipe on effective learning rates: its runs, its figures, and the whole on a small scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp import GammaError
from recipes.common.grid_runner import Done
from recipes.effective_lr.grid import Sweep, decades, spread
from recipes.effective_lr.models import make_network
from recipes.effective_lr.run import main
from recipes.effective_lr.training import OPTIMIZERS, Cell, invariance, make_optimizer, train_cell

SETTINGS = {"train": 50, "test": 30, "batch": 25}
CELL = {
    "network": "conv", "optimizer": "sgd", "unit_norm": False,
    "lr": 0.5, "decay": 0.1, "seed": 0, "epochs": 3,
}  # fmt: skip


def train(**changes: Any) -> dict[str, Any]:
    result = train_cell(CELL | changes, SETTINGS, None)
    assert result.pop("cpu_seconds") > 0
    return result


def test_every_weight_but_ends_and_gains_of_both_networks_is_scale_invariant() -> None:
    conv = {one.names[0]: len(one.units) for one in invariance("conv")}
    assert conv == {f"body.{i}.weight": n for i, n in ((0, 8), (3, 16), (6, 32), (9, 32))}
    found = {one.names[0]: len(one.units) for one in invariance("transformer")}
    for block in ("blocks.0", "blocks.1"):
        for part, units in {"q": 4, "k": 4, "v": 0, "out": 0, "up": 0, "down": 0}.items():
            assert found[f"{block}.{part}.weight"] == units


@pytest.mark.parametrize("network", ["conv", "transformer"])
def test_networks_map_images_to_logits_and_a_seed_is_a_start(network: str) -> None:
    images = torch.randn(2, 3, 32, 32)
    one, same, other = (make_network(network, seed)(images) for seed in (1, 1, 2))
    assert one.shape == (2, 10)
    assert torch.equal(one, same) and not torch.equal(one, other)
    with pytest.raises(GammaError, match="no network is called 'mlp'; there are conv, transf"):
        make_network("mlp", 0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_decay_is_on_the_weights_that_are_named_alone(optimizer: str) -> None:
    network = make_network("conv", 0)
    cell = Cell(**(CELL | {"optimizer": optimizer}))
    decayed, free = make_optimizer(cell, network, ["body.0.weight"]).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert decayed["param_names"] == ["body.0.weight"]
    assert len(free["params"]) == len(list(network.parameters())) - 1


def test_a_cell_gives_the_same_result_twice_and_its_decay_counts() -> None:
    assert train() == train()
    assert train()["weights"] != train(decay=0.2)["weights"]
    assert train()["steps"] == 6 and not train()["diverged"]


def test_norms_held_are_those_of_the_start_whatever_the_decay() -> None:
    first = dict(make_network("conv", 0).named_parameters())
    plain, held = train(), train(unit_norm=True)
    for w in held["weights"]:
        assert w["norm"] == pytest.approx(float(first[w["name"]].detach().norm()), rel=1e-4)
    for w in plain["weights"]:
        assert w["norm"] != pytest.approx(float(first[w["name"]].detach().norm()), rel=1e-3)


def test_turnovers_are_steps_times_lr_times_decay() -> None:
    for optimizer in ("sgd", "adamw"):
        for w in train(optimizer=optimizer, lr=0.01)["weights"]:
            assert w["turnovers"] == pytest.approx(6 * 0.01 * 0.1)


def test_a_training_that_breaks_is_reported_as_such() -> None:
    result = train(lr=1e30, epochs=1)
    assert result["diverged"] and result["weights"] == []
    assert 80 <= result["error"] <= 100


def test_too_few_images_are_an_error() -> None:
    with pytest.raises(GammaError, match="is missing"):
        train_cell(CELL, SETTINGS, "/no/such/folder")


def test_decades_are_even_in_the_logarithm() -> None:
    assert decades(1e-3, 1e-1, 2) == (0.001, 0.00316, 0.01, 0.0316, 0.1)


def test_spread_is_over_the_decays_of_means_over_the_seeds() -> None:
    sweep = Sweep(
        network="conv", optimizer="sgd", lrs=(0.1, 1.0), decays=(0.01, 0.1), seeds=2, epochs=1
    )
    errors = {(0.1, 0.01): (50, 54), (0.1, 0.1): (60, 64), (1.0, 0.01): (40, 40)}
    errors[1.0, 0.1] = (70, 74)

    def point(cell: dict[str, Any]) -> tuple[float, float]:
        return cell["lr"], cell["decay"]

    done = [
        Done(
            cell=cell, result={"error": errors[cell["lr"], cell["decay"]][cell["seed"]]}, seconds=1
        )
        for cell in sweep.cells()
        if not cell["unit_norm"]
    ]
    found = spread(done, sweep, unit_norm=False)
    assert found.per_lr == {0.1: 10.0, 1.0: 32.0}
    assert (found.mean, found.best_lr, found.at_best, found.lowest) == (21.0, 1.0, 32.0, 40.0)
    assert found.seeds == pytest.approx((3 * 8 / 4) ** 0.5)  # variances 8, 8, 0, 8


def test_without_data_the_recipe_says_what_to_give(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.delenv("GAMMA_NLP_DATA", raising=False)
    assert main(["--output", str(tmp_path / "out")]) == 2
    assert "--data" in capsys.readouterr().err
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "data_batch_1 is missing" in capsys.readouterr().err  # before anything is computed
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_recipe_runs_to_its_plots_and_continues_where_it_was(
    tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    assert main(["--smoke", "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "4-layer ConvNet, SGD" in printed and "predicted | fitted" in printed
    drawn = {path.name for path in out.glob("*.png")}
    assert drawn == {"conv_sgd.png", "conv_adam.png", "transformer_adamw.png", "norms.png"}
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert len(results["cells"]) == 24 and results["cpu_seconds"] > 0
    assert results["exponents"]["simulated sgd"]["largest_difference"] < 0.1
    lines = (out / "training" / "cells.jsonl").read_text(encoding="utf-8")
    assert main(["--smoke", "--output", str(out)]) == 0
    assert (out / "training" / "cells.jsonl").read_text(encoding="utf-8") == lines
    again = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert again["spreads"] == results["spreads"]
