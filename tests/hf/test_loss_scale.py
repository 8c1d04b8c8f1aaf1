from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from transformers import GPT2LMHeadModel, Trainer

from gamma_nlp.hf import accumulation
from gamma_nlp.hf.loss_scale import LossScale, loss_scale
from gamma_nlp.hf.trainer import GammaTrainer
from tests.support.tiny_models import arguments, classified, texts, tiny_bert, tiny_gpt2


def curve(
    folder: Path,
    kind: type[Trainer],
    model: nn.Module,
    data: Any,
    loss: Any = None,
    **changes: Any,
) -> list[tuple[float, float]]:
    args = arguments(folder, max_grad_norm=1e9, **changes)
    extra: dict[str, Any] = {} if kind is Trainer else {"decay_policy": "none"}
    extra |= {} if loss is None else {"compute_loss_func": loss}
    trainer = kind(model=model, args=args, train_dataset=data, **extra)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [(entry["loss"], entry["grad_norm"]) for entry in steps]


SPLIT = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}


def trainer_of(folder: Path, model: nn.Module, data: Any, **kwargs: Any) -> GammaTrainer:
    return GammaTrainer(
        model=model,
        args=arguments(folder, **SPLIT),
        train_dataset=data,
        decay_policy="none",
        **kwargs,
    )


def batch_of(data: Any) -> dict[str, torch.Tensor]:
    return {key: torch.stack([row[key] for row in data[:2]]) for key in data[0]}


def test_the_answer_comes_from_the_loss_itself(tmp_path: Path) -> None:
    bert = trainer_of(tmp_path, tiny_bert(), classified())
    gpt2 = trainer_of(tmp_path, tiny_gpt2(), texts())
    assert loss_scale(bert, batch_of(classified()), torch.tensor(4)) is LossScale.IGNORES
    assert loss_scale(gpt2, batch_of(texts()), torch.tensor(9)) is LossScale.FOLLOWS
    for trainer, data in ((gpt2, texts()), (bert, classified())):
        assert loss_scale(trainer, batch_of(data), torch.tensor(0)) is LossScale.UNKNOWN


def test_the_question_leaves_no_trace(tmp_path: Path) -> None:
    model = tiny_bert().train()
    model.bert.pooler.eval()
    model.classifier = nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 2))
    trainer = trainer_of(tmp_path, model, classified())
    trainer._metrics = {"eval": [1.0]}
    modes = [module.training for module in model.modules()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    batch = batch_of(classified())
    model.register_forward_hook(lambda *_: (random.random(), numpy.random.rand(), None)[2])
    drawn = torch.get_rng_state(), random.getstate(), str(numpy.random.get_state())
    before = dict(vars(trainer))
    loss_scale(trainer, batch, torch.tensor(4))
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert (random.getstate(), str(numpy.random.get_state())) == drawn[1:]
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert set(batch) == {"input_ids", "labels"}
    assert vars(trainer) == before


def test_a_batch_without_targets_leaves_the_question_open(tmp_path: Path) -> None:
    rows = [{**row, "labels": torch.full_like(row["labels"], -100)} for row in texts(4)]
    trainer = trainer_of(tmp_path, tiny_gpt2(), rows)
    trainer._get_num_items_in_batch([batch_of(rows)], torch.device("cpu"))
    assert trainer._loss_in_doubt()
    trainer._get_num_items_in_batch([batch_of(texts())], torch.device("cpu"))
    assert not trainer._loss_in_doubt()
    assert trainer.model_accepts_loss_kwargs


def summed(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    loss = nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")
    return loss / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def averaged(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    return nn.functional.cross_entropy(outputs.logits, labels)


def penalised(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    return summed(outputs, labels, num_items_in_batch) + outputs.logits.square().mean()


def rooted(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    return 2 * summed(outputs, labels, num_items_in_batch).sqrt()


class Outer(GammaTrainer):
    """Adds a mean to the stock loss, as the distance to another model is added."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        loss = loss + 0.05 * sum(p.square().sum() for p in model.parameters())
        return (loss, outputs) if return_outputs else loss


class Inner(GPT2LMHeadModel):
    """Adds a mean in training alone, and one that the first step does not have yet."""

    def forward(self, input_ids: Any = None, labels: Any = None, **kwargs: Any) -> Any:
        outputs = super().forward(input_ids=input_ids, labels=labels, **kwargs)
        if self.training:
            distance = (self.lm_head.weight - self.start).square().sum()
            outputs.loss = outputs.loss + 0.5 * self.now * outputs.logits.square().mean()
            outputs.loss = outputs.loss + 10 * distance
        return outputs


def inner(now: float) -> nn.Module:
    torch.manual_seed(0)
    model = Inner(tiny_gpt2().config)
    model.now = now
    model.register_buffer("start", model.lm_head.weight.detach().clone(), persistent=False)
    return model


def test_a_loss_that_follows_the_count_is_asked_less_and_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(trainer: Any, batch: Any, count: Any) -> LossScale:
        asked.append(trainer.state.global_step)
        return loss_scale(trainer, batch, count)

    monkeypatch.setattr(accumulation, "loss_scale", counted)
    trainer_of(tmp_path, tiny_gpt2(), texts()).train()
    assert asked == [0, 1]
    alone = arguments(tmp_path)
    GammaTrainer(model=tiny_gpt2(), args=alone, train_dataset=texts(), decay_policy="none").train()
    assert asked == [0, 1]


def test_the_trainer_is_left_as_it_was_after_each_batch(tmp_path: Path) -> None:
    trainer = Outer(
        model=tiny_gpt2(),
        args=arguments(tmp_path, **SPLIT),
        train_dataset=texts(),
        eval_dataset=texts(),
        decay_policy="none",
    )
    trainer.train()
    assert trainer._loss_scale is LossScale.PARTLY
    assert trainer.args.average_tokens_across_devices is True
    assert trainer.evaluate()["eval_loss"] > 4


def test_a_loss_that_follows_the_count_in_another_way_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_of(tmp_path, tiny_bert(), classified(), compute_loss_func=rooted)
    trainer.train()
    assert caplog.text.count("the loss of rooted is neither a mean nor a sum") == 1
    assert trainer.loss_is_scaled_for_ga is None


@pytest.mark.parametrize("declared", [True, False])
def test_what_the_user_declares_is_not_asked(tmp_path: Path, declared: bool) -> None:
    trainer = trainer_of(tmp_path, tiny_bert(), classified(), compute_loss_func=averaged)
    trainer.loss_is_scaled_for_ga = declared
    assert not trainer._loss_in_doubt()
    trainer.train()
    assert trainer.loss_is_scaled_for_ga is declared
    assert trainer._loss_scale is LossScale.UNKNOWN


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("make", "data"), [(tiny_bert, classified), (tiny_gpt2, texts)])
def test_accumulated_batches_train_like_one_double_batch(
    tmp_path: Path, make: Any, data: Any, smoothing: float
) -> None:
    changes = {"label_smoothing_factor": smoothing}
    whole = curve(tmp_path, GammaTrainer, make(), data(), **changes)
    split = curve(tmp_path, GammaTrainer, make(), data(), **SPLIT, **changes)
    torch.testing.assert_close(split, whole, rtol=2e-4, atol=1e-5)


def test_the_stock_trainer_doubles_what_this_one_does_not(tmp_path: Path) -> None:
    """If this fails, transformers has mended it and the probe may go."""
    whole = curve(tmp_path, Trainer, tiny_bert(), classified(), max_steps=1)
    split = curve(tmp_path, Trainer, tiny_bert(), classified(), max_steps=1, **SPLIT)
    assert split[0][0] == pytest.approx(2 * whole[0][0], rel=1e-3)


def test_a_custom_loss_that_ignores_the_count_is_averaged_too(tmp_path: Path) -> None:
    class Weighted(GammaTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            logits = model(input_ids=inputs["input_ids"]).logits
            return nn.functional.cross_entropy(
                logits, inputs["labels"], weight=torch.tensor([1.0, 1.0])
            )

    whole = curve(tmp_path, Weighted, tiny_bert(), classified())
    split = curve(tmp_path, Weighted, tiny_bert(), classified(), **SPLIT)
    torch.testing.assert_close(split, whole, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("function", [summed, averaged, penalised])
def test_a_loss_function_of_the_user_is_averaged_where_it_ignores_the_count(
    tmp_path: Path, function: Any
) -> None:
    split = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    whole = curve(tmp_path, GammaTrainer, tiny_bert(), classified(), loss=function)
    parts = curve(tmp_path, GammaTrainer, tiny_bert(), classified(), loss=function, **split)
    torch.testing.assert_close(parts, whole, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "make"),
    [(Outer, tiny_gpt2), (GammaTrainer, lambda: inner(1.0)), (GammaTrainer, lambda: inner(0.0))],
    ids=["in the trainer", "in the model", "later"],
)
def test_a_penalty_beside_the_stock_loss_is_averaged(
    tmp_path: Path, kind: Any, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    split = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    whole = curve(tmp_path, kind, make(), texts())
    with caplog.at_level("INFO", logger="gamma_nlp"):
        parts = curve(tmp_path, kind, make(), texts(), **split)
    torch.testing.assert_close(parts, whole, rtol=2e-4, atol=1e-5)
    assert caplog.text.count("a part of the loss of") == 1
