"""The learning rates that a Trainer's run will have, known before the optimizer is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import Trainer

from gamma_nlp.decay.plan import Rates, rates_of_scheduler
from gamma_nlp.hf.schedule import planned_rates

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class PlannedRatesMixin(_Base):
    """Note how many steps a run will have, and the rates of each."""

    _steps: int | None = None
    _rates: list[Rates] | None = None

    def _planned_rates(self, lr: float | None) -> list[float] | None:
        """Return the learning rate of every step, or ``lr`` for each where it cannot be known."""
        steps = self._steps or max(self.args.max_steps, 0)
        if not steps or lr is None:
            return None
        makers = {one for one in type(self).__mro__ if "create_scheduler" in vars(one)}
        known = makers <= {PlannedRatesMixin, Trainer}
        rates = planned_rates(self.args, steps, rate=lr) if known else None
        return rates or [lr] * steps

    def set_initial_training_values(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the Trainer returns, the number of steps last, which the plan needs."""
        values = super().set_initial_training_values(*args, **kwargs)
        self._steps = values[-1]
        return values

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Make both; the policy's groups are planned for so many steps."""
        self._steps = num_training_steps
        super().create_optimizer_and_scheduler(num_training_steps)

    def create_scheduler(self, num_training_steps: int, *args: Any, **kwargs: Any) -> Any:
        """Make the Trainer's scheduler, and read the planned learning rates before any resume."""
        scheduler = super().create_scheduler(num_training_steps, *args, **kwargs)
        self._rates = rates_of_scheduler(scheduler, num_training_steps)
        return scheduler
