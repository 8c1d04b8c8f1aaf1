"""Print what the optimizer of a Trainer's run really does, once, at its first step."""

from __future__ import annotations

import sys
from typing import Any, Literal, TextIO, get_args

from torch import nn
from transformers import TrainerCallback

from gamma_nlp.check.audit.compare import audit
from gamma_nlp.check.audit.optimizer_report import OptimizerAudit
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import GainTable

FailOn = Literal["accident"]


class AuditCallback(TrainerCallback):
    """Audit the optimizer of any Trainer of transformers, as it is at the first step.

    By then accelerate, FSDP2 or DeepSpeed have wrapped model and optimizer, and the Trainer has
    made its groups. The main process prints the audit; with ``fail_on`` all processes stop alike.

    Args:
        table: The model's gain table; by default that of the model when the Trainer is made, before
            anything is sharded.
        inputs: Example inputs for :func:`gamma_nlp.categorize`, for a model that is not of
            transformers.
        fail_on: ``"accident"`` to stop the run where there is one.
        file: Where to print; standard output by default.

    Attributes:
        found: The audit, once it is made.

    Raises:
        GammaError: The model's gains cannot be placed; there are accidents, with ``fail_on``.

    Example:
        ``Trainer(..., callbacks=[AuditCallback(fail_on="accident")])``
    """

    def __init__(
        self,
        table: GainTable | None = None,
        *,
        inputs: Any = None,
        fail_on: FailOn | None = None,
        file: TextIO | None = None,
    ) -> None:
        if fail_on is not None and fail_on not in get_args(FailOn):
            raise GammaError(f"fail_on must be 'accident' or None, got {fail_on!r}")
        self.table, self.inputs, self.fail_on, self.file = table, inputs, fail_on, file
        self._given = table is not None
        self.found: OptimizerAudit | None = None

    def on_init_end(
        self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **kw: Any
    ) -> None:
        if not self._given and model is not None:
            self.table = categorize(model, self.inputs)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self.found = None  # another run has another optimizer

    def on_step_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: nn.Module | None = None,
        optimizer: Any = None,
        **kw: Any,
    ) -> None:
        if self.found is not None or model is None or optimizer is None:
            return
        self.found = audit(model, self.table, optimizer=optimizer, inputs=self.inputs)
        if state.is_world_process_zero:
            print(self.found, file=self.file or sys.stdout, flush=True)
        if self.fail_on and self.found.accidents:
            names = listed(one.name for one in self.found.accidents)
            raise GammaError(
                f"the audit of the optimizer finds by accident: {names}; mend its groups, or leave "
                "out fail_on"
            )
