"""Plan a Trainer run from its arguments: its learning rates, and the weight decay for a dose."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import transformers
from transformers import TrainingArguments

from gamma_nlp.decay.decided import check_rate
from gamma_nlp.decay.plan import rates_of_scheduler
from gamma_nlp.errors import GammaError, one_line


def rates_of_arguments(args: TrainingArguments, batches: int) -> list[float]:
    """Return the learning rate of every optimizer step of a run.

    Args:
        args: The Trainer's arguments.
        batches: Batches of an epoch on each process.

    Raises:
        GammaError: There is no step, or the schedule cannot be made or planned.
    """
    epoch = max(math.ceil(batches / args.gradient_accumulation_steps), 1)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * epoch)
    if steps < 1:
        raise GammaError(
            f"no step to train: num_train_epochs is {args.num_train_epochs:g}; give more, or "
            "max_steps"
        )
    rates = planned_rates(args, steps)
    if rates is None:
        raise GammaError(
            f"lr_scheduler_type {_kind(args)} follows the score, so its rates cannot be planned; "
            "use another one, for example inverse_sqrt"
        )
    return rates


def planned_rates(
    args: TrainingArguments, steps: int, *, rate: float | None = None
) -> list[float] | None:
    """Return the learning rate of each of so many steps; ``None`` if it follows the score.

    Args:
        args: The Trainer's arguments.
        steps: Optimizer steps of the run.
        rate: The optimizer's learning rate, if it is not that of ``args``.

    Raises:
        GammaError: The schedule cannot be made, or the learning rate is none.
    """
    check_rate(args.learning_rate, "learning_rate")
    rate = args.learning_rate if rate is None else rate
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)
    try:
        schedule = transformers.get_scheduler(
            args.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=args.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
    except (TypeError, ValueError) as error:
        raise GammaError(
            f"lr_scheduler_type {_kind(args)} cannot be made: {one_line(error)}; set "
            "lr_scheduler_kwargs, or use another one"
        ) from error
    # Every step, also of a long run: the weight decay for a dose follows from these.
    rates = rates_of_scheduler(schedule, steps, most=steps)
    return None if rates is None else rates[0]


MOST_STEPS = 10_000_000


def rates_of_schedule(kind: str, lr: float, *, steps: int, warmup: int = 0) -> list[float]:
    """Return the learning rate of every step of a schedule of transformers.

    Args:
        kind: Its name there: one that follows from these numbers alone, such as ``linear``.
        lr: The peak.
        steps: Optimizer steps.
        warmup: Those of them in which the rate rises.

    Raises:
        GammaError: The schedule cannot be made or planned.
    """
    if not 0 <= warmup <= steps or not 1 <= steps <= MOST_STEPS:
        raise GammaError(
            f"steps must lie between 1 and {MOST_STEPS:,} and warmup between 0 and steps, not "
            f"{steps} and {warmup}"
        )
    if kind == "constant" and warmup:
        raise GammaError("constant ignores warmup, as in transformers; give constant_with_warmup")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    try:
        scheduler = transformers.get_scheduler(
            kind, optimizer, num_warmup_steps=warmup, num_training_steps=steps
        )
    except (ValueError, TypeError) as error:  # polynomial ends at 1e-7, which must be below lr
        raise GammaError(f"{kind} with lr {lr:g} cannot be planned: {one_line(error)}") from error
    rates = rates_of_scheduler(scheduler, steps, most=steps)
    if rates is None:
        raise GammaError(f"{kind} follows the score, so its rates cannot be planned")
    return rates[0]


def _kind(args: TrainingArguments) -> str:
    return str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))


def sentence_batches(args: TrainingArguments, examples: int) -> int:
    """Return the batches of an epoch on each process, if they hold a fixed number of examples."""
    together = args.train_batch_size * args.world_size
    return examples // together if args.dataloader_drop_last else math.ceil(examples / together)


def decay_for_dose(dose: float, rates: Sequence[float]) -> float:
    """Return the decoupled weight decay that alone takes the share ``dose`` over these steps.

    Raises:
        GammaError: The share is not between 0 and 1, or no step has a learning rate.
    """
    if not 0.0 < dose < 1.0:
        raise GammaError(f"dose must lie between 0 and 1, not {dose}; 0.1 is a pull of 10 %")
    total = math.fsum(rates)
    if total <= 0.0:
        raise GammaError(
            "dose: the planned learning rates are all zero; train for more steps, or with fewer "
            "warm-up steps"
        )
    return -math.log1p(-dose) / total
