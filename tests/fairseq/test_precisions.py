"""Decay acts on the same gains by the same dose in every precision of fairseq."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gamma_nlp import GammaError
from tests.support.fairseq_runs import ADAM, PRECISIONS, Session, is_gain, need_fairseq

need_fairseq()


@pytest.mark.usefixtures("flat_on_cpu")
@pytest.mark.parametrize(
    "precision",
    [
        "float32",
        "flat",
        "memory-efficient",
        "memory-efficient-bf16",
        pytest.param("unflattened", marks=pytest.mark.slow),
        pytest.param("bf16", marks=pytest.mark.slow),
        pytest.param("amp", marks=pytest.mark.slow),
    ],
)
def test_silent_gains_shrink_by_the_dose_and_only_where_they_decay(
    begin: Callable[..., Session], precision: str, tmp_path: Path
) -> None:
    run = begin(*ADAM, *PRECISIONS[precision])
    before = run.weights()
    run.train(20, silent=True)
    doses = {
        row["name"]: row["dose"]
        for row in json.loads((tmp_path / "run" / "gain_table.json").read_text())["gains"]
    }
    assert min(doses.values()) == 0
    assert max(doses.values()) == pytest.approx(1 - 0.99**20, abs=0.005)
    for name, value in run.weights().items():
        if is_gain(name) and doses[name] == 0:
            assert torch.equal(value, before[name]), name
        elif is_gain(name):
            assert (1 - value).mean().item() == pytest.approx(doses[name], rel=0.02), name
        elif name.endswith("bias"):
            assert torch.equal(value, before[name]), name
        else:
            kept = value.norm() / before[name].norm()
            rounded = 0.03 if precision.endswith("bf16") else 0.01  # as in stock adam
            assert kept == pytest.approx(0.99**20, rel=rounded), name


@pytest.mark.usefixtures("flat_on_cpu")
def test_flat_and_unflattened_half_precision_train_the_same_weights(
    begin: Callable[..., Session],
) -> None:
    flat, unflattened = (begin(*ADAM, *PRECISIONS[key]) for key in ("flat", "unflattened"))
    for one in (flat, unflattened):
        one.train(3)
    assert len(flat.trainer.optimizer.fp32_params) == 1
    expected = unflattened.weights()
    assert all(torch.equal(value, expected[name]) for name, value in flat.weights().items())


@pytest.mark.usefixtures("flat_on_cpu")
def test_flat_all_params_is_flat_stock_adam_bit_for_bit(begin: Callable[..., Session]) -> None:
    stock = begin("--optimizer", "adam", "--weight-decay", 1, "--fp16", "--clip-norm", 0.1)
    ours = begin(*ADAM, "--decay-policy", "all_params", "--fp16", "--clip-norm", 0.1)
    for one in (stock, ours):
        one.train(3)
    expected = stock.weights()
    assert all(torch.equal(value, expected[name]) for name, value in ours.weights().items())


@pytest.mark.usefixtures("flat_on_cpu")
def test_a_flat_tensor_that_is_replaced_is_noticed(begin: Callable[..., Session]) -> None:
    run = begin(*ADAM, "--fp16")
    run.train(1)
    (flat,) = run.optimizer.fp32_params.values()
    flat.grad = torch.zeros_like(flat)
    with pytest.raises(GammaError, match="--fp16-no-flatten-grads"):
        run.train(1)


def test_flat_half_precision_without_a_gpu_says_what_to_type(
    begin: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> int:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.cuda, "current_device", none)
    with pytest.raises(GammaError, match=r"torch finds none .*add --fp16-no-flatten-grads"):
        begin(*ADAM, "--fp16")
    begin(*ADAM, "--fp16", "--fp16-no-flatten-grads").train(1)
