"""All companions on one model, with a gain policy, across a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Trainer

from gamma_nlp import DecayPolicy, GammaTrainer, make_optimizer
from gamma_nlp.companions.effective_rate.callback import EffectiveRateCallback
from gamma_nlp.companions.effective_rate.invariance import scale_invariant
from gamma_nlp.companions.effective_rate.rate import effective_lr
from gamma_nlp.companions.effective_rate.unit_norm import WITHIN, UnitNorm
from gamma_nlp.companions.strong.callback import StrongCallback
from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from tests.support.tiny_models import arguments

HELD = ["first.weight", "second.weight"]
X = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
Y = X[:, :3].argmax(1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16)
        self.second, self.last = nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor, labels: Any = None) -> dict[str, Tensor]:
        z = self.norm(self.first(x)).relu()
        logits = self.head(z + self.last(self.second(z)).relu())
        loss = logits.sum() if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def companions(model: nn.Module, optimizer: Any) -> tuple[UnitNorm, StrongRegularizer]:
    report = scale_invariant(model, X)
    held = UnitNorm(optimizer, HELD, invariance=report, model=model, every=2)
    how: dict[str, Any] = {"l1": 0.1, "rule": "magnitude", "ratio": 8.0, "every": 3}
    return held, StrongRegularizer(optimizer, model=model, inputs=X, **how)


def equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("mode", ["decoupled", "coupled"])
def test_a_resumed_loop_with_all_of_them_ends_where_the_whole_one_does(
    mode: Any, tmp_path: Path
) -> None:
    policy = replace(DecayPolicy.load("guidelines"), mode=mode)

    def start() -> tuple[Any, Any, UnitNorm, StrongRegularizer]:
        torch.manual_seed(0)
        model = Net()
        optimizer = make_optimizer(
            torch.optim.AdamW, model, weight_decay=0.1, lr=0.01, policy=policy, inputs=X
        )
        return model, optimizer, *companions(model, optimizer)

    def train(model: Any, optimizer: Any, first: int, last: int) -> None:
        for step in range(first, last):
            some = slice(step % 4 * 8, step % 4 * 8 + 8)
            optimizer.zero_grad()
            model(X[some], Y[some])["loss"].backward()
            optimizer.step()

    model, optimizer, held, strong = start()
    train(model, optimizer, 0, 24)
    stopped, first, _, _ = start()
    train(stopped, first, 0, 13)  # between two turns of both
    torch.save([stopped.state_dict(), first.state_dict()], tmp_path / "state")
    weights, state = torch.load(tmp_path / "state")
    resumed, second, _, again = start()
    train(resumed, second, 0, 2)  # what it did before must not survive the load
    resumed.load_state_dict(weights)
    second.load_state_dict(state)
    train(resumed, second, 13, 24)
    assert equal(resumed, model) and str(again.report()) == str(strong.report())
    assert strong.report().acted > 0 and strong.report().sparsity > 0
    held.apply()
    for name in HELD:
        norms = model.get_parameter(name).detach().norm(dim=1)
        torch.testing.assert_close(norms, held.norms[name].flatten(), rtol=2 * WITHIN, atol=0)
    decays = {one.name: one.weight_decay for one in effective_lr(optimizer, model=model)}
    assert decays["last.weight"] == 0.1 and decays["norm.weight"] == 0.0


@pytest.mark.parametrize("cls", [GammaTrainer, Trainer])
def test_a_resumed_trainer_with_all_of_them_ends_where_the_whole_one_does(
    cls: Any, tmp_path: Path
) -> None:
    def make(folder: Path) -> tuple[Any, StrongRegularizer]:
        torch.manual_seed(0)
        trainer = cls(
            model=Net(),
            args=arguments(
                folder, max_steps=8, learning_rate=0.02, save_strategy="steps", save_steps=5
            ),
            train_dataset=[{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)],
            **({"inputs": X} if cls is GammaTrainer else {}),
        )
        _, strong = companions(trainer.model, trainer.create_optimizer())
        trainer.add_callback(StrongCallback(strong))
        trainer.add_callback(EffectiveRateCallback(HELD))
        return trainer, strong

    whole, strong = make(tmp_path / "whole")
    whole.train()
    resumed, again = make(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-5"))
    assert equal(resumed.model, whole.model) and str(again.report()) == str(strong.report())
    assert any({"effective_lr", "angle", "sparsity"} <= set(log) for log in whole.state.log_history)
