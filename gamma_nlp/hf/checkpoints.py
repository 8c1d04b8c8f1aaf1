"""A Trainer's checkpoints under a policy: other groups' load, and the stock Trainer reads ours.

:mod:`gamma_nlp.hf.resume` fits the states; here the Trainer is told when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gamma_nlp.hf import resume
from gamma_nlp.hf.models import keep_positions
from gamma_nlp.hf.optimizer import made_here, stock_groups

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class CheckpointMixin(_Base):
    """Load optimizer states by parameter name, and save them as the stock Trainer has them."""

    _stock: list[dict[str, Any]] | None = None
    _resumed: str | None = None
    _decays: Sequence[dict[str, Any]] = ()

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
    ) -> Any:
        if self.is_deepspeed_enabled and resume_from_checkpoint:
            resume.check_partitions(resume_from_checkpoint, self.args.world_size)
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kw: Any) -> None:
        self._resumed = resume_from_checkpoint
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kw)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not made_here(self.optimizer):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:  # these load their own way
            super()._load_optimizer_and_scheduler(checkpoint)
            resume.reapply(self.optimizer, self._decays)
            return
        stock = self._stock or stock_groups(self, self.model, None)
        names = [group["param_names"] for group in stock]
        with resume.fitted_loading(self.optimizer, self.lr_scheduler, names):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        own_way = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if own_way or self._stock is None or not made_here(self.optimizer):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        with resume.stock_saving(self.optimizer, self.lr_scheduler, self._stock):
            super()._save_optimizer_and_scheduler(output_dir)

    def _save(self, *args: Any, **kwargs: Any) -> None:
        keep_positions(self.accelerator.unwrap_model(self.model, keep_torch_compile=False))
        super()._save(*args, **kwargs)
