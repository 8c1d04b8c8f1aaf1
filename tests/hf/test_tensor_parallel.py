"""Models that transformers itself cuts into parts train as they do in a single process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import ParallelismConfig
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from gamma_nlp import DecayPolicy, GammaError, categorize, make_optimizer
from gamma_nlp.hf.models import whole_model
from gamma_nlp.hf.trainer import GammaTrainer
from gamma_nlp.wrappers import whole
from tests.support.tiny_models import LENGTH, VOCAB, arguments, texts
from tests.support.torchrun import two_processes

EVERY: dict[str, float] = {"branch_inner": 1.0, "branch_last": 1.0, "shortcut": 1.0, "head": 1.0}
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": LENGTH,
}
# Adam divides a gradient of rounding errors by its own size.
ADAM = {"lr": 1e-2, "eps": 1e-5}
RUNS: dict[str, tuple[str, DecayPolicy, dict[str, Any]]] = {
    "plain gains": ("llama", DecayPolicy(**EVERY), {}),
    "towards the start": (
        "llama",
        DecayPolicy(**EVERY, target="start"),
        {"optim": "adamw_torch", "gradient_accumulation_steps": 2},
    ),
    "by the hook": ("gemma3", DecayPolicy(**EVERY, mode="coupled"), {}),
    "what a norm follows": (
        "gemma3",
        DecayPolicy(**EVERY, target="one", schedules={"normalized": "lr_squared"}),
        {},
    ),
}
BARE: dict[str, dict[str, Any]] = {"foreach": {"foreach": True}, "fused": {"fused": True}}


def save_models(folder: Path) -> None:
    torch.manual_seed(0)
    models = {
        "llama": LlamaForCausalLM(LlamaConfig(**SIZES)),
        "gemma3": Gemma3ForCausalLM(Gemma3TextConfig(**SIZES)),
    }
    for name, model in models.items():
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))
        model.save_pretrained(folder / name)


def by_trainer(folder: Path, out: Path, name: str, **plan: Any) -> nn.Module:
    """Train by GammaTrainer, which also leaves a checkpoint and ``gain_table.json`` in ``out``."""
    kind, policy, changes = RUNS[name]
    model = AutoModelForCausalLM.from_pretrained(folder / kind, **plan)
    saved = {"save_strategy": "steps", "save_steps": 4, "save_only_model": True}
    rates = {"learning_rate": ADAM["lr"], "adam_epsilon": ADAM["eps"]}
    args = arguments(out / name, **saved, **rates, **changes)
    trainer = GammaTrainer(model=model, args=args, train_dataset=texts(), decay_policy=policy)
    trainer.train()
    return model


def by_hand(folder: Path, name: str, **plan: Any) -> nn.Module:
    model = AutoModelForCausalLM.from_pretrained(folder / "llama", **plan)
    optimizer = make_optimizer(
        torch.optim.AdamW,
        model,
        weight_decay=0.1,
        policy=DecayPolicy(**EVERY, target="start"),
        **ADAM,
        **BARE[name],
    )
    ids = torch.stack([text["input_ids"] for text in texts()])
    for batch in ids.chunk(4):
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: whole(p).detach().clone() for name, p in model.named_parameters()}


def equal(found: dict[str, Tensor], alone: dict[str, Tensor]) -> None:
    assert found.keys() == alone.keys()
    for name, w in found.items():
        assert (w - alone[name]).norm() <= 1e-5 * alone[name].norm(), name


@pytest.mark.slow
def test_tensor_parallel_run_equals_the_one_in_a_single_process(tmp_path: Path) -> None:
    save_models(tmp_path)
    alone = {name: weights(by_trainer(tmp_path, tmp_path / "one", name)) for name in RUNS}
    alone |= {name: weights(by_hand(tmp_path, name)) for name in BARE}
    torch.save(alone, tmp_path / "alone.pt")
    two_processes(__file__, str(tmp_path))
    for name in RUNS:
        one, two = (tmp_path / which / name for which in ("one", "two"))
        table = "gain_table.json"
        assert (two / table).read_text("utf-8") == (one / table).read_text("utf-8")
        saved = AutoModelForCausalLM.from_pretrained(two / "checkpoint-4")
        equal(weights(saved), alone[name])


def main() -> None:
    # accelerate takes tensor parallelism on GPUs alone; on CPUs it runs all the same.
    ParallelismConfig._validate_accelerator = lambda *_: None  # type: ignore[method-assign]
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    alone = torch.load(folder / "alone.pt")
    for name in RUNS:
        model = by_trainer(folder, folder / "two", name, tp_plan="auto")
        assert any(isinstance(p, DTensor) for p in model.parameters()), os.environ["RANK"]
        equal(weights(model), alone[name])
    for name in BARE:
        equal(weights(by_hand(folder, name, tp_plan="auto")), alone[name])
    check_tables(folder)


def check_tables(folder: Path) -> None:
    """The trace refuses a model in parts; one with an adapter has no whole form, but names."""
    ids = torch.arange(LENGTH).unsqueeze(0)
    table = categorize(AutoModelForCausalLM.from_pretrained(folder / "llama"), ids, method="graph")
    model = AutoModelForCausalLM.from_pretrained(folder / "llama", tp_plan="auto")
    with pytest.raises(GammaError, match="tp_plan: load it twice, first without"):
        categorize(model, ids, method="graph")
    assert str(categorize(whole_model(model), ids, method="graph")) == str(table)
    model.extra = nn.Parameter(torch.ones(2))
    assert whole_model(model) is model


if __name__ == "__main__":
    main()
