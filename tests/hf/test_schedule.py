"""A run planned from its arguments: the same rates as the run's own, for every step."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import get_scheduler

from gamma_nlp.decay.plan import GRID
from gamma_nlp.errors import GammaError
from gamma_nlp.hf.schedule import decay_for_dose, rates_of_arguments, sentence_batches
from tests.support.optim_models import Toy
from tests.support.tiny_models import arguments


def test_a_long_run_is_planned_step_by_step(tmp_path: Path) -> None:
    steps = GRID + 7
    args = arguments(tmp_path, max_steps=steps, lr_scheduler_type="cosine", warmup_steps=10)
    rates = rates_of_arguments(args, batches=3)
    optimizer = torch.optim.SGD(Toy().parameters(), lr=args.learning_rate)
    scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=10, num_training_steps=steps)
    (factor,) = scheduler.lr_lambdas
    assert rates == [args.learning_rate * factor(step) for step in range(steps)]
    assert decay_for_dose(0.1, rates) == pytest.approx(-math.log(0.9) / math.fsum(rates))


def test_a_schedule_that_follows_the_score_is_refused(tmp_path: Path) -> None:
    args = arguments(tmp_path, lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="steps")
    with pytest.raises(GammaError, match="reduce_lr_on_plateau follows the score"):
        rates_of_arguments(args, batches=3)


@pytest.mark.parametrize(
    ("batches", "changes", "steps"),
    [
        (7, {"gradient_accumulation_steps": 3, "num_train_epochs": 2}, 6),
        (1, {"gradient_accumulation_steps": 3, "num_train_epochs": 2}, 2),
        (0, {"num_train_epochs": 2}, 2),
        (7, {"num_train_epochs": 1.5}, 11),
        (7, {"num_train_epochs": 2, "max_steps": 5}, 5),
    ],
)
def test_steps_of_a_run_are_counted_as_the_trainer_counts_them(
    tmp_path: Path, batches: int, changes: dict, steps: int
) -> None:
    args = arguments(tmp_path, **{"max_steps": -1, **changes})
    assert len(rates_of_arguments(args, batches=batches)) == steps


def test_batches_of_an_epoch_are_those_of_each_process(tmp_path: Path) -> None:
    args = arguments(tmp_path, per_device_train_batch_size=4)
    assert sentence_batches(args, 17) == 5
    args.dataloader_drop_last = True
    assert sentence_batches(args, 17) == 4
    two = SimpleNamespace(train_batch_size=4, world_size=2, dataloader_drop_last=False)
    assert sentence_batches(two, 17) == 3


@pytest.mark.parametrize("dose", [0.0, 1.0, -0.1, float("nan")])
def test_a_dose_lies_between_nothing_and_everything(dose: float) -> None:
    with pytest.raises(GammaError, match="dose must lie between 0 and 1"):
        decay_for_dose(dose, [0.1])
