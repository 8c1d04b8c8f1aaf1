"""A run that is asked to end finishes its step and saves, so that nothing is lost."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback

from gamma_nlp.tasks.run.processes import any_process
from gamma_nlp.tasks.run.signals import asked_to_stop, may_wait, raise_asked


class StopAndSave(TrainerCallback):
    """Saves at the end of the step in which a signal came, and raises it then.

    All processes of a run stop after the same step, whichever of them got the signal. An
    evaluation that is due at a step that is saved takes place before it, those at an epoch's end
    too: a run that is resumed there does not make it up.

    Attributes:
        saved_step: The step of a checkpoint that was not planned.
    """

    def __init__(self) -> None:
        self.saved_step: int | None = None
        self._stops = False
        self._evaluated_step: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        may_wait(True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        may_wait(False)
        if asked_to_stop():
            raise_asked()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if any_process(asked_to_stop(), args.device):
            self._stops = True
            if args.save_strategy == "no":
                raise_asked()
            if not control.should_save:
                control.should_save, self.saved_step = True, state.global_step
        ends = math.isclose(state.epoch, round(state.epoch), rel_tol=1e-9)
        if control.should_save and ends and args.eval_strategy == "epoch":
            control.should_evaluate, self._evaluated_step = True, state.global_step
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if state.global_step == self._evaluated_step:
            control.should_evaluate = False
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._stops:
            raise_asked()
