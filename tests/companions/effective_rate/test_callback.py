"""The Trainer's log says how fast scale-invariant tensors turn."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from gamma_nlp import GammaError, GammaTrainer
from gamma_nlp.companions.effective_rate.callback import EffectiveRateCallback, angles
from gamma_nlp.companions.effective_rate.invariance import scale_invariant
from gamma_nlp.companions.effective_rate.rate import effective_lr
from gamma_nlp.companions.effective_rate.unit_norm import UnitNorm
from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from tests.support.tiny_models import arguments

KEYS = ["effective_lr", "effective_lr_predicted", "norm_to_equilibrium", "angle", "angle_predicted"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 6, bias=False), nn.LayerNorm(6)
        self.last = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, labels: Any = None) -> dict[str, torch.Tensor]:
        logits = self.last(self.norm(self.first(x)))
        loss = logits.sum() if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def data() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(16, 4, generator=generator)
    return [{"x": x, "labels": torch.tensor(i % 2)} for i, x in enumerate(rows)]


def trained(folder: Path, callback: EffectiveRateCallback, cls: Any = Trainer, **kw: Any) -> Any:
    torch.manual_seed(0)
    trainer = cls(
        model=Net(),
        args=arguments(folder, optim="adamw_torch", **kw),
        train_dataset=data(),
        callbacks=[callback],
        **({"inputs": torch.randn(2, 4)} if cls is GammaTrainer else {}),
    )
    trainer.train()
    return trainer


def test_each_log_entry_carries_rates_and_angles(tmp_path: Path) -> None:
    net, x = Net(), torch.randn(3, 4)
    report = scale_invariant(net, {"x": x, "labels": torch.tensor([0, 1, 1])})
    callback = EffectiveRateCallback(report)
    assert callback.names == ["first.weight"]
    trainer = trained(tmp_path, callback, GammaTrainer)
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == 4
    for entry in entries:
        assert all(math.isfinite(entry[key]) and entry[key] > 0 for key in KEYS), entry
    assert [one["step"] for one in callback.history] == [1, 2, 3, 4]


def test_the_angle_is_that_between_the_weights_before_and_after(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
            seen.append(model.first.weight.detach().double().flatten().clone())

    callback = EffectiveRateCallback(["first.weight"], every=2)
    torch.manual_seed(0)
    trainer = GammaTrainer(
        model=Net(),
        args=arguments(tmp_path),
        train_dataset=data(),
        callbacks=[callback, Watch()],
        inputs=torch.randn(2, 4),
    )
    trainer.train()
    assert [one["step"] for one in callback.history] == [2, 4]
    cosine = nn.functional.cosine_similarity(seen[2], seen[3], dim=0)
    assert callback.history[1]["angles"]["first.weight"] == pytest.approx(
        float(cosine.acos()), rel=1e-3
    )
    rate = callback.history[1]["rates"]["first.weight"]
    assert rate.norm == pytest.approx(float(seen[2].norm()), rel=1e-5)


def test_reporters_see_it_once_it_stands_first(tmp_path: Path) -> None:
    reported: list[dict[str, Any]] = []

    class Reporter(TrainerCallback):
        def on_log(self, *args: Any, logs: Any = None, **kwargs: Any) -> None:
            reported.append(dict(logs))

    callback = EffectiveRateCallback(["first.weight"])
    trainer = GammaTrainer(
        model=Net(),
        args=arguments(tmp_path, max_steps=1),
        train_dataset=data(),
        callbacks=[Reporter(), callback],
        inputs=torch.randn(2, 4),
    )
    callback.put_first(trainer)
    trainer.train()
    assert set(KEYS) <= set(reported[0])


def test_the_stock_trainer_works_too(tmp_path: Path) -> None:
    callback = EffectiveRateCallback(["first.weight"])
    trainer = trained(tmp_path, callback)
    assert all(key in trainer.state.log_history[0] for key in KEYS)


def test_small_angles_are_exact() -> None:
    w = torch.tensor([1.0, 0.0])
    turned = torch.tensor([math.cos(1e-4), math.sin(1e-4)]) * 3
    assert angles([w, w], [turned, -w]) == pytest.approx([1e-4, math.pi], rel=1e-3)


def test_nothing_to_look_at_is_an_error() -> None:
    with pytest.raises(GammaError, match="no scale-invariant tensor"):
        EffectiveRateCallback([])
    with pytest.raises(GammaError, match=r"names must be a list of names, got 'first\.weight'"):
        EffectiveRateCallback("first.weight")
    for every in (0, -1, 1.5):
        with pytest.raises(GammaError, match=f"every must be a whole number.*got {every}"):
            EffectiveRateCallback(["first.weight"], every=every)  # type: ignore[arg-type]


def test_a_name_that_the_optimizer_does_not_have_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=r"no parameter 'first'; it has"):
        trained(tmp_path, EffectiveRateCallback(["first"]), GammaTrainer)


def test_gradients_that_a_grad_scaler_still_holds_scaled_are_measured_unscaled() -> None:
    """As where the Trainer does not clip, so that the step itself would unscale them."""
    found = []
    for scale in (1.0, 1024.0):
        w = nn.Parameter(torch.ones(4))
        optimizer = torch.optim.SGD([("w", w)], lr=0.1, weight_decay=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        prepared = SimpleNamespace(optimizer=optimizer, scaler=scaler)
        scaler.scale(w.square().sum()).backward()
        callback = EffectiveRateCallback(["w"], every=1)
        state: Any = SimpleNamespace(global_step=0, logging_steps=1)
        callback.on_pre_optimizer_step(None, state, None, optimizer=prepared)
        scaler.step(optimizer)
        callback.on_optimizer_step(None, state, None, optimizer=prepared)
        (rate,) = callback.history[0]["rates"].values()
        found.append([rate.equilibrium_norm, callback.history[0]["angles"]["w"], *w.tolist()])
    assert found[0] == pytest.approx(found[1])


def test_a_tied_tensor_goes_by_any_of_its_names() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    model = nn.ModuleDict({"a": first, "b": second})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert [one.name for one in effective_lr(optimizer, ["b.weight"], model)] == ["a.weight"]
    held = UnitNorm(optimizer, ["b.weight", "a.weight"], model=model, force=True)
    assert list(held.norms) == ["a.weight"]
    strong = StrongRegularizer(optimizer, names=["b.weight"], model=model, l1=0.1)
    assert [row.name for row in strong.report().rows] == ["a.weight"]
    callback = EffectiveRateCallback(["b.weight"])
    state: Any = SimpleNamespace(global_step=0, logging_steps=1)
    callback.on_pre_optimizer_step(None, state, None, optimizer=optimizer, model=model)
    callback.on_optimizer_step(None, state, None, optimizer=optimizer, model=model)
    assert list(callback.history[0]["angles"]) == ["a.weight"]
