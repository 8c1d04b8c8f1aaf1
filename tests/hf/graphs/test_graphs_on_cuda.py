"""Recorded steps on a GPU: they train as usual ones do, and what cannot be recorded goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from gamma_nlp.hf.graphs.trainer import GraphedSteps
from gamma_nlp.hf.trainer import GammaTrainer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
STEPS = 200


class GraphedTrainer(GraphedSteps, GammaTrainer):
    """Counts what was replayed."""

    passes_recorded = 0

    def _record_no_more(self) -> None:
        if self._recorded is not None:
            self.passes_recorded = len(self._recorded._passes.recordings)
        super()._record_no_more()


def bert(dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=100,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "input_ids": torch.randint(5, 100, (8 * (1 + i // 64),), generator=generator),
            "labels": i % 2,
        }
        for i in range(192)
    ]


def trained(folder: Path, graphs: Any, model: Any, **changes: Any) -> GraphedTrainer:
    settings = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 16,
        "train_sampling_strategy": "sequential",
        "learning_rate": 5e-4,
        "warmup_steps": 20,
        "weight_decay": 0.1,
        "bf16": True,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 50,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        **changes,
    }
    data = rows()
    trainer = GraphedTrainer(
        model=model,
        args=TrainingArguments(str(folder), **settings),
        train_dataset=data,
        eval_dataset=data[:32],
        decay_policy="all",
    )
    trainer.graphs = graphs
    trainer.train()
    return trainer


def series(trainer: Any, key: str) -> torch.Tensor:
    return torch.tensor([entry[key] for entry in trainer.state.log_history if key in entry])


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch"])
def test_200_steps_equal_usual_ones_within_rounding(tmp_path: Path, optim: str) -> None:
    usual = trained(tmp_path / "usual", "off", bert(), optim=optim)
    recorded = trained(tmp_path / "recorded", "on", bert(), optim=optim)
    assert recorded.passes_recorded == 3
    assert torch.equal(series(usual, "learning_rate"), series(recorded, "learning_rate"))
    torch.testing.assert_close(
        series(recorded, "loss")[:20], series(usual, "loss")[:20], rtol=2e-2, atol=2e-2
    )
    for key in ("loss", "eval_loss"):
        one, other = series(recorded, key)[-20:].mean(), series(usual, key)[-20:].mean()
        assert abs(one - other) < 0.05, key
    for (name, one), other in zip(
        recorded.model.named_parameters(), usual.model.parameters(), strict=True
    ):
        far = (one - other).norm() / other.norm().clamp(min=1e-3)
        assert far < 0.2, name


def test_dropout_differs_from_replay_to_replay(tmp_path: Path) -> None:
    trainer = trained(
        tmp_path, "on", bert(dropout=0.5), learning_rate=1e-8, max_steps=120, eval_strategy="no"
    )
    assert trainer.passes_recorded == 3
    # The weights stay, and 12 batches take turns: the loss of one differs by its dropout alone.
    losses = series(trainer, "loss")[12::12]
    assert len(set(losses.tolist())) > len(losses) // 2


def test_the_learning_rate_stays_live(tmp_path: Path) -> None:
    model = bert()
    trainer = trained(
        tmp_path, "on", model, lr_scheduler_type="constant_with_warmup", warmup_steps=100,
        max_steps=100, logging_steps=1, eval_strategy="no",
    )  # fmt: skip
    rates = series(trainer, "learning_rate")
    assert rates[0] == 0 and rates[-1] > 0.9 * 5e-4
    started = bert().to(trainer.args.device).parameters()
    moved = max((p - q).abs().max() for p, q in zip(model.parameters(), started, strict=True))
    # Adam moves each weight by about the rate: a frozen rate of 0 would leave all in place.
    assert float(moved) > float(rates.sum()) / 10


def test_memory_does_not_grow_with_replays_and_evaluations(tmp_path: Path) -> None:
    held: list[int] = []

    class Watched(GraphedTrainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> Any:
            scores = super().evaluate(*args, **kwargs)
            held.append(torch.cuda.memory_allocated())
            return scores

    data = rows()
    trainer = Watched(
        model=bert(0.1),
        args=TrainingArguments(
            str(tmp_path), max_steps=160, per_device_train_batch_size=16, bf16=True,
            train_sampling_strategy="sequential", eval_strategy="steps", eval_steps=40,
            report_to=[], disable_tqdm=True, save_strategy="no", weight_decay=0.1,
        ),
        train_dataset=data,
        eval_dataset=data[:32],
    )  # fmt: skip
    trainer.graphs = "on"
    trainer.train()
    assert held[-1] - held[1] < 2**20


class Looks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x * 2 if x.sum().item() > 0 else x, 0.1)


def test_a_recording_that_fails_leaves_a_run_that_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = bert(0.1)
    model.dropout = Looks()
    trainer = trained(tmp_path, "on", model, max_steps=40)
    assert trainer.state.global_step == 40 and trainer.passes_recorded == 0
    assert "graphs: none from step" in caplog.text
    losses = series(trainer, "loss")
    assert torch.isfinite(losses).all()


def test_fp16_says_why_nothing_is_recorded(tmp_path: Path) -> None:
    trainer = trained(tmp_path, "on", bert(), bf16=False, fp16=True, max_steps=4)
    line = trainer.graphs_line()
    assert line is not None and "loss scaler of fp16" in line
