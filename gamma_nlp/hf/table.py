"""The gain table of a Trainer's model: made again when the model changes, and told to the user.

At the start of training it is logged and saved with the decay that is planned; training logs carry
the norms of its gains.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import TrainerCallback

from gamma_nlp.decay.announce import GAIN_NORM, announce, gain_norms
from gamma_nlp.decay.assign import table_for
from gamma_nlp.decay.attached import decided_for
from gamma_nlp.decay.plan import Rates, plan_decay
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.gains.table import GainTable
from gamma_nlp.hf.models import whole_model
from gamma_nlp.hf.optimizer import made_here
from gamma_nlp.wrappers import plain_names, unwrap_optimizer

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

logger = logging.getLogger("gamma_nlp")


class GainTableMixin(_Base):
    """Keep the gain table of the model that is trained, and tell what its decay will do."""

    gain_table: GainTable | None = None
    policy: DecayPolicy
    _inputs: Any = None
    _rates: list[Rates] | None = None
    _values: dict[str, torch.Tensor] | None = None

    def call_model_init(self, trial: Any = None) -> nn.Module:
        model: nn.Module = super().call_model_init(trial)
        self.gain_table = table_for(whole_model(model), self._inputs, None, self.policy)
        return model

    def _table(self) -> GainTable:
        """Return the current model's table, made again if layers were added, cast or replaced."""
        if self.gain_table is None or not _fits(self.gain_table, self.model):
            model = whole_model(self.model)
            self.gain_table = table_for(model, self._inputs, None, self.policy)
        return self.gain_table

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as the Trainer does, with gain norms in training entries and in the last one."""
        if self.gain_table is not None and ("loss" in logs or "train_loss" in logs):
            norms = gain_norms(self.model, self.gain_table)
            logs.update({f"{GAIN_NORM}{category}": norm for category, norm in norms.items()})
        super().log(logs, *args, **kwargs)

    def _announce(self) -> None:
        """Log and save the gain table with the decay planned for this run."""
        optimizer = unwrap_optimizer(self.optimizer)
        if not made_here(optimizer):
            logger.warning(
                "the optimizer (%s) was made by an overridden create_optimizer: decay policy %r "
                "has no effect",
                type(optimizer).__name__,
                self.policy.name,
            )
            return
        table = self._table() if self.gain_table is None else self.gain_table
        # On every process: a refusal must stop all of them.
        plan = plan_decay(optimizer, self._rates, values=self._values)
        if not self.is_world_process_zero():
            return
        made = decided_for(optimizer)  # of optimizers=, which has a policy of its own
        announce(
            table,
            plan,
            policy=made.policy if made else self.policy,
            weight_decay=made.weight_decay if made else self.args.weight_decay,
            optimizer=type(optimizer).__name__,
            steps=self.state.max_steps,
            autocast=bool(self.args.bf16 or self.args.fp16),
            folder=Path(self._get_output_dir(getattr(self, "_trial", None))),
        )


class Announcement(TrainerCallback):
    """Has a Trainer announce its table at the start of training."""

    def __init__(self, trainer: GainTableMixin) -> None:
        self.trainer = trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.trainer._announce()


def _fits(table: GainTable, model: nn.Module) -> bool:
    plain = plain_names([*(gain.name for gain in table), *table.roles])
    present = plain_names(name for name, _ in model.named_parameters())
    if set(plain.values()) != set(present.values()):
        return False
    dtypes = {present[name]: p.dtype for name, p in model.named_parameters()}
    return all(f"torch.{gain.dtype}" == str(dtypes[plain[gain.name]]) for gain in table)
