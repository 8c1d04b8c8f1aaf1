"""StrongRegularizer under GammaTrainer, the stock Trainer, accelerate and a bare loop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer

from gamma_nlp import GammaTrainer
from gamma_nlp.companions.strong.callback import StrongCallback
from gamma_nlp.companions.strong.regularizer import KEY, StrongRegularizer
from tests.support.tiny_models import arguments

NAMES = ["first.weight", "last.weight"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 30), nn.LayerNorm(30), nn.Linear(30, 2)

    def forward(self, x: torch.Tensor, labels: Any = None) -> dict[str, torch.Tensor]:
        logits = self.last(self.norm(self.first(x)))
        loss = logits.sum() if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def data() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(32, 4, generator=generator)
    return [{"x": x, "labels": (x[0] > 0).long()} for x in rows]


def make(
    folder: Path, cls: Any = GammaTrainer, every: int = 1, **changes: Any
) -> tuple[Any, StrongRegularizer]:
    torch.manual_seed(0)
    trainer = cls(
        model=Net(),
        args=arguments(folder, max_steps=8, learning_rate=0.02, **changes),
        train_dataset=data(),
        eval_dataset=data(),
        **({"inputs": torch.randn(2, 4)} if cls is GammaTrainer else {}),
    )
    optimizer = trainer.create_optimizer()
    strong = StrongRegularizer(
        optimizer,
        model=trainer.model,
        inputs=torch.randn(2, 4),
        l1=2.0,
        rule="direction",
        threshold=0.1 if every == 1 else -0.5,
        every=every,
    )
    trainer.add_callback(StrongCallback(strong))
    return trainer, strong


@pytest.mark.parametrize("cls", [GammaTrainer, Trainer])
def test_a_trainer_regularises_its_weights_and_logs_it(cls: Any, tmp_path: Path) -> None:
    trainer, strong = make(tmp_path, cls)
    trainer.train()
    report = strong.report()
    assert [row.name for row in report.rows] == NAMES
    assert report.steps == 8 and 0 < report.sparsity < 1
    assert report.sparsity == sum(
        int((trainer.model.get_parameter(name) == 0).sum()) for name in NAMES
    ) / (4 * 30 + 2 * 30)
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == 8
    assert [entry["coherence"] for entry in entries] == pytest.approx(
        [span.coherence for span in strong.history()], abs=1e-5
    )
    acted = [entry["regularized"] for entry in entries]
    assert set(acted) == {0.0, 1.0} and sum(acted) / 8 == pytest.approx(report.acted)
    assert entries[-1]["sparsity"] == report.sparsity


def test_a_resumed_training_ends_where_the_whole_one_does(tmp_path: Path) -> None:
    saving: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3}
    whole, first = make(tmp_path / "a", every=2, **saving)
    whole.train()
    resumed, second = make(tmp_path / "b", every=2, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    for name, p in whole.model.named_parameters():
        assert torch.equal(p, resumed.model.get_parameter(name)), name
    assert str(second.report()) == str(first.report())
    assert second.report().steps == 8 and second.report().sparsity > 0


def test_checkpoints_hold_the_zeros_of_the_last_decision(tmp_path: Path) -> None:
    trainer, strong = make(tmp_path, every=2, save_strategy="steps", save_steps=3)
    trainer.train()
    state = torch.load(tmp_path / "checkpoint-3" / "optimizer.pt")
    marked = state[KEY]["zeros"]
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "checkpoint-3" / "model.safetensors")
    assert any(bool(zeros.any()) for zeros in marked.values())
    for name in NAMES:
        assert bool((saved[name][marked[name]] == 0).all())
    assert KEY not in strong.optimizer.state and strong.report().sparsity > 0


def loop(accelerated: bool) -> tuple[nn.Module, StrongRegularizer]:
    torch.manual_seed(0)
    model: Any = Net()
    optimizer: Any = torch.optim.AdamW(model.named_parameters(), lr=0.02, weight_decay=0.0)
    strong = StrongRegularizer(
        optimizer, names=NAMES, l1=2.0, l2=0.1, rule="direction", threshold=0.1
    )
    x, y = (torch.stack([row[key] for row in data()]) for key in ("x", "labels"))
    backward: Any = torch.Tensor.backward
    if accelerated:
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True)
        model, optimizer = accelerator.prepare(model, optimizer)
        backward = accelerator.backward
    for _ in range(10):
        optimizer.zero_grad()
        backward(model(x, y)["loss"])
        optimizer.step()
    return model, strong


def test_an_optimizer_that_accelerate_prepared_does_what_a_bare_one_does() -> None:
    (bare, one), (prepared, other) = loop(False), loop(True)
    assert one.report().steps == other.report().steps == 10
    assert 0 < one.report().sparsity < 1 and not math.isnan(one.report().coherence)
    for a, b in zip(bare.parameters(), prepared.parameters(), strict=True):
        assert torch.equal(a, b)
    assert str(one.report()) == str(other.report())
