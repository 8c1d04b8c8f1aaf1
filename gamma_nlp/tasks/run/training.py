"""The middle of a recipe's run: its decay is settled, its plan said and noted, then it trains."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainerState

from gamma_nlp.decay.announce import GAIN_NORM, gain_norms
from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.files.read import read_json
from gamma_nlp.hf.schedule import decay_for_dose
from gamma_nlp.tasks.run.checkpoints import STATE, step_of
from gamma_nlp.tasks.run.counts import saved_counts
from gamma_nlp.tasks.run.folder import RESULTS, Claim, check_unfinished
from gamma_nlp.tasks.run.identity import Parts, joined, part
from gamma_nlp.tasks.run.record import RECORD
from gamma_nlp.tasks.run.report import evaluations, plan_line, resume_lines
from gamma_nlp.tasks.run.stopping import StopAndSave

History = Sequence[Mapping[str, Any]]


def settle_decay(
    claim: Claim, recipe: Any, args: Any, rates: Sequence[float], training_data: str
) -> None:
    """Choose ``weight_decay`` by the dose, if there is one, and hold a resumed run to it.

    Args:
        claim: On the output folder.
        recipe: The recipe's settings.
        args: The Trainer's; ``weight_decay`` is changed in place.
        rates: The learning rate of every step.
        training_data: What differs where the data does.

    Raises:
        GammaError: The run to resume had another weight decay, or other data.
    """
    if recipe.dose is not None:
        args.weight_decay = decay_for_dose(recipe.dose, rates)
        was = claim.noted("weight_decay")
        if isinstance(was, float) and not math.isclose(was, args.weight_decay, rel_tol=1e-5):
            raise GammaError(
                f"output_dir {claim.folder}: weight_decay was {was!r} and is "
                f"{args.weight_decay!r}, which dose {recipe.dose:g} asks for over {len(rates)} "
                f"steps; to continue the run give --weight_decay {was!r} in place of the dose"
            )
    claim.agree(weight_decay=args.weight_decay, training_data=training_data)


def is_trained(
    claim: Claim,
    args: Any,
    steps: int,
    spent: Callable[[History], bool] = lambda history: False,
) -> bool:
    """Return whether training is over, so that only what follows it is missing.

    Args:
        claim: On the output folder.
        args: The Trainer's.
        steps: Planned steps.
        spent: Tells from a run's evaluations whether its patience ended it.

    Raises:
        GammaError: The run is finished: its results are from this checkpoint or a later step.
    """
    if claim.last is None:
        return False
    done, history = _results(claim.folder)
    if done >= claim.step:
        check_unfinished(claim.folder, steps)
        if spent(history):
            raise GammaError(
                f"output_dir {claim.folder} ended at step {done} of {steps}, when its patience was "
                "spent: the run is finished; give more --patience to continue, or another "
                "--output_dir"
            )
    state = json.loads((claim.last / STATE).read_text(encoding="utf-8"))
    return claim.step >= steps or spent(evaluations(state.get("log_history", [])))


def begin(claim: Claim, trainer: Any, what: str, rates: Sequence[float], *, quiet: bool) -> Parts:
    """Say what a run is about to do and note it in its folder; return the parts that it has.

    Args:
        claim: On the output folder.
        trainer: Before training.
        what: The task and the size of its data.
        rates: The learning rate of every step.
        quiet: Print no logs.

    Raises:
        GammaError: The run to resume does not say how it began.
    """
    args = trainer.args
    claim.trainer = trainer
    trainer.add_callback(StopAndSave())
    parts = joined(claim.parts, part(args, len(rates), claim.step))
    if parts[0]["from_step"]:
        raise GammaError(
            f"output_dir {claim.folder}: {RECORD} does not say how its first "
            f"{parts[0]['from_step']} steps were planned; give another --output_dir to start over"
        )
    if quiet:
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
    if args.process_index == 0:
        if not quiet:
            plan = plan_line(what, args, trainer.policy, rates, torch.get_num_threads())
            said = (trainer.graphs_line(), trainer.compile_decision)
            print(plan, *resume_lines(parts), *(line for line in said if line), sep="\n")
        claim.write(parts)
    return parts


def train(trainer: Any, last: Path | None, *, trained: bool = False) -> float:
    """Train and evaluate, from the checkpoint ``last`` on if there is one; return the seconds.

    Args:
        trainer: Ready to train.
        last: The checkpoint to continue from.
        trained: Whether no step is left: the state of ``last`` is restored, and no more.

    Raises:
        GammaError: It cannot continue from ``last``.
    """
    start = time.perf_counter()
    if last is not None:
        trainer.before = saved_counts(last)
    try:
        if trained and last is not None:
            _restore(trainer, last)
        else:
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
            if trainer.args.process_index == 0 and (line := trainer.compile_line()):
                print(line)
    except (GammaError, OSError):
        raise
    except Exception as error:  # tensors that do not fit, a file that is damaged within
        if last is None or trainer.state.global_step > step_of(last):
            raise
        raise GammaError(
            f"cannot continue from {last}: {one_line(error)}; delete this checkpoint to --resume "
            "from the one before it, or start over elsewhere"
        ) from error
    history = evaluations(trainer.state.log_history)
    if not history or history[-1]["step"] < trainer.state.global_step:
        trainer.evaluate()  # the final score is that of the last step
    return time.perf_counter() - start


def _restore(trainer: Any, checkpoint: Path) -> None:
    trainer.create_optimizer()
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.model_wrapped = trainer.accelerator.prepare_model(trainer.model, evaluation_mode=True)
    trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))
    if best := trainer.state.best_model_checkpoint:  # where the folder was when it was saved
        here = Path(trainer.args.output_dir) / Path(best).name
        trainer.state.best_model_checkpoint = str(here) if here.is_dir() else None
    # What the Trainer logs at its end comes after the last checkpoint.
    norms = gain_norms(trainer.model, trainer._table())
    trainer.log({f"{GAIN_NORM}{category}": norm for category, norm in norms.items()})


def _results(run: Path) -> tuple[int, History]:
    """Return the step and the evaluations of a run's results; -1 where there are none."""
    try:
        results = read_json(run / RESULTS)
    except GammaError:
        return -1, []
    found = results if isinstance(results, dict) else {}
    steps, history = found.get("steps"), found.get("history")
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        history = []
    return steps if isinstance(steps, int) else -1, history
