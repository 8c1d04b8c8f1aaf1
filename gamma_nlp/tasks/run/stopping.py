"""A run that is asked to end finishes its step and saves, so that nothing is lost."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from gamma_nlp.tasks.run.processes import any_process
from gamma_nlp.tasks.run.signals import asked_to_stop, may_wait, raise_asked


class StopAndSave(TrainerCallback):
    """Saves at the end of the step in which a signal came, and raises it then.

    All processes of a run stop after the same step, whichever of them got the signal. An
    evaluation that is due at that step still takes place, so that a resumed run goes on as if it
    had never stopped.

    Attributes:
        saved_step: The step of a checkpoint that was not planned.
    """

    def __init__(self) -> None:
        self.saved_step: int | None = None
        self._stops = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        may_wait(True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        may_wait(False)
        if asked_to_stop():
            raise_asked()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if not any_process(asked_to_stop(), args.device):
            return control
        self._stops = True
        if args.save_strategy == "no":
            raise_asked()
        if not control.should_save:
            control.should_save, self.saved_step = True, state.global_step
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._stops:
            raise_asked()
