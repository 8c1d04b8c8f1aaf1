"""A Trainer whose steps are recorded once per shape of batch, and replayed.

Between the recordings the Trainer runs as ever: callbacks, schedulers, the check that a loss is a
number, logs and checkpoints see what they saw before.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from gamma_nlp.hf.graphs.capture import Capture, CudaGraphs
from gamma_nlp.hf.graphs.obstacles import host_states, obstacle
from gamma_nlp.hf.graphs.repeated import CannotRecord
from gamma_nlp.hf.graphs.steps import RecordedSteps

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

logger = logging.getLogger("gamma_nlp")

Graphs = Literal["auto", "on", "off"]


class GraphedSteps(_Base):
    """Records a Trainer's steps as CUDA graphs.

    Among the bases it stands before the Trainer, and behind what counts batches in
    ``training_step``: its own is what is recorded. What cannot be recorded runs as usual, and one
    line says why.

    What Python decides within a step is recorded as it was decided: a loss that changes with the
    step, a hook of a module. Parameters that move in memory, are frozen or unfrozen are recorded
    anew.

    Attributes:
        graphs: ``auto`` and ``on`` record where that is possible, ``auto`` without a word where
            there is no GPU; ``off`` does not.
        capture: How to record; ``None`` is CUDA graphs, where the Trainer is on CUDA.
    """

    graphs: Graphs = "off"
    capture: Capture | None = None
    _recorded: RecordedSteps | None = None
    _has_begun = False

    def graphs_line(self) -> str | None:
        """Return what will be recorded, or why nothing; ``None`` where nobody expects it."""
        if self.graphs == "off" or (self.graphs == "auto" and not self._has_device()):
            return None
        why = self._why_not()
        if why is not None:
            return f"graphs: none, since {why}"
        return "graphs: each step is recorded once per shape of batch, then replayed"

    def _has_device(self) -> bool:
        return self.capture is not None or self.args.device.type == "cuda"

    def _why_not(self) -> str | None:
        if not self._has_device():
            return f"the device is {self.args.device.type}, not cuda"
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:  # by accelerate's own config too
            return "an engine that shards the model runs its own step"
        return obstacle(self.args, self.model)

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        self._has_begun = False
        try:
            return super()._inner_training_loop(*args, **kwargs)
        finally:
            self._record_no_more()

    def _record_no_more(self) -> None:
        if self._recorded is not None:
            self._recorded.remove()
        self._recorded = None

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        first = not self._has_begun
        if first:
            self._has_begun = True
            if self.graphs != "off" and self._why_not() is None:
                usual = super().training_step
                self._recorded = RecordedSteps(self, model, usual, self.capture or CudaGraphs())
        if self._recorded is not None:
            try:
                return self._record_or_replay(inputs, num_items_in_batch, first=first)
            except CannotRecord as error:
                self._recorded.gradients.clear()  # of half a step
                self._give_up(str(error))
        return super().training_step(model, inputs, num_items_in_batch, *args, **kwargs)

    def _record_or_replay(self, inputs: Any, count: Any, *, first: bool) -> Any:
        assert self._recorded is not None
        if not first:
            return self._recorded.passes(inputs, count)
        on_gpu = self.args.device.type == "cuda"
        before = host_states(on_gpu=on_gpu)
        loss = self._recorded.passes(inputs, count)
        if host_states(on_gpu=on_gpu) != before:
            self._give_up(
                "a step draws random numbers in Python, which would be the same ever after"
            )
        return loss

    def _give_up(self, why: str) -> None:
        logger.warning("graphs: none from step %d on, since %s", self.state.global_step + 1, why)
        self._record_no_more()
