from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer

from gamma_nlp.hf.loss_scale import LossScale, loss_scale
from gamma_nlp.hf.trainer import GammaTrainer
from tests.support.tiny_models import arguments, classified, texts, tiny_bert, tiny_gpt2


def curve(
    folder: Path, kind: type[Trainer], model: nn.Module, data: Any, **changes: Any
) -> list[tuple[float, float]]:
    args = arguments(folder, max_grad_norm=1e9, **changes)
    extra: dict[str, Any] = {} if kind is Trainer else {"decay_policy": "none"}
    trainer = kind(model=model, args=args, train_dataset=data, **extra)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [(entry["loss"], entry["grad_norm"]) for entry in steps]


SPLIT = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}


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
    assert loss_scale(gpt2, batch_of(texts()), torch.tensor(0)) is LossScale.UNKNOWN


def test_the_question_leaves_no_trace(tmp_path: Path) -> None:
    model = tiny_bert().train()
    model.bert.pooler.eval()
    model.classifier = nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 2))
    trainer = trainer_of(tmp_path, model, classified())
    trainer._metrics = {"eval": [1.0]}
    modes = [module.training for module in model.modules()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    batch = batch_of(classified())
    random = torch.get_rng_state()
    before = dict(vars(trainer))
    loss_scale(trainer, batch, torch.tensor(4))
    assert torch.equal(torch.get_rng_state(), random)
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


def test_a_loss_function_of_the_user_is_not_asked(tmp_path: Path) -> None:
    def own(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        loss = nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")
        return loss / num_items_in_batch

    trainer = trainer_of(tmp_path, tiny_bert(), classified(), compute_loss_func=own)
    assert not trainer._loss_in_doubt()
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(0.69, abs=0.05)
