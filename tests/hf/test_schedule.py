"""A run planned from its arguments: the same rates as the run's own, for every step."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import get_scheduler

from gamma_nlp.decay.plan import GRID
from gamma_nlp.errors import GammaError
from gamma_nlp.hf.schedule import decay_for_dose, rates_of_arguments
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
