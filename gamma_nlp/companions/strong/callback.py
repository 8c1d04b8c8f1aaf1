"""Log what a strong regulariser does in a Trainer, and save its zeros as zeros."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from gamma_nlp.companions.strong.regularizer import StrongRegularizer


class StrongCallback(TrainerCallback):
    """Add what a strong regulariser does to the Trainer's log.

    Each log entry gets, over the steps since the last one, ``regularized`` (the share of decisions
    in which it acted) and ``coherence`` (mean of cos(g, g + r)); and ``sparsity``, the share of
    zeros now. Before evaluations and checkpoints, and at the end, the callback restores the zeros
    that have moved since the last decision.

    Make the optimizer before training, so that the regulariser is there when a checkpoint is
    loaded::

        strong = StrongRegularizer(trainer.create_optimizer(), model=trainer.model, l1=1e-4)
        trainer.add_callback(StrongCallback(strong))
        trainer.train()

    Args:
        strong: The regulariser of the trainer's optimizer.
    """

    def __init__(self, strong: StrongRegularizer) -> None:
        self.strong = strong
        self._before = (0.0, 0.0, 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._before = self.strong.totals()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if control.should_save or control.should_evaluate:
            self.strong.restore_zeros()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not args.load_best_model_at_end:  # the zeros of the best model are its own
            self.strong.restore_zeros()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        now = self.strong.totals()
        acted, coherence, count = (a - b for a, b in zip(now, self._before, strict=True))
        self._before = now
        new = {"sparsity": self.strong.report().sparsity}
        if count:
            new |= {"regularized": acted / count, "coherence": coherence / count}
        logs.update(new)
        state.log_history[-1].update(new)
