"""Train on batches by token budget with any Trainer for encoder-decoder models.

A Trainer would shard the batches again, average the means of unequal batches, and resume from a
checkpoint that counts other batches. The mixin hands the batches over as they are, divides the
summed loss by all target tokens of an optimizer step, and checks a checkpoint's batches.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.data_loader import prepare_data_loader
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from transformers.trainer_utils import seed_worker

from gamma_nlp.errors import GammaError
from gamma_nlp.files.write import write_json
from gamma_nlp.hf.batches.budget import TokenBudget, pair_lengths
from gamma_nlp.hf.batches.by_tokens import TokenBatches

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

STATE = "token_batches.json"


class TokenBudgetMixin(_Base):
    """Give a Trainer batches by token budget; put it first among the bases.

    ``class TranslationTrainer(TokenBudgetMixin, GammaSeq2SeqTrainer): ...`` takes every argument
    of ``GammaSeq2SeqTrainer`` and the budget. The training set must have a length and hold
    mappings with ``input_ids`` and ``labels``; ``PairCollator`` collates them.
    ``per_device_train_batch_size`` has no effect on training. The seed is ``data_seed``, or else
    ``seed``. ``dataloader_drop_last`` drops the remainder instead of filling it.

    The loss is the cross-entropy of all target tokens of an optimizer step, over accumulated
    batches and processes, divided by their number, with ``label_smoothing_factor``. Pass
    ``compute_loss_func`` for another loss; a router's loss, for instance, is not added here.

    A checkpoint also holds ``token_batches.json``, which says what its count of steps refers to.

    Args:
        token_budget: The size of a batch on one process.
        pair_lengths: Tokens of each source and of each target; without it, every training example
            is read once to count them.

    Attributes:
        token_batches: The ``TokenBatches`` of the current training.

    Raises:
        GammaError: Before any training step: a setting that contradicts the budget, a collator
            that pads to other widths, data without a length, or a checkpoint with other batches.
    """

    token_batches: TokenBatches | None = None
    compute_loss_func: Any

    def __init__(
        self,
        *args: Any,
        token_budget: TokenBudget,
        pair_lengths: tuple[Sequence[int], Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.token_budget = token_budget
        self._pair_lengths = pair_lengths
        _check_settings(self)
        if self.compute_loss_func is None:
            self.compute_loss_func = partial(
                token_mean, label_smoothing=self.args.label_smoothing_factor
            )

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches of this process, on its device.

        Raises:
            GammaError: Data without a length, or whatever :class:`TokenBatches` refuses.
        """
        data, args = self.train_dataset, self.args
        if data is None or isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
            raise GammaError(
                "a token budget needs a train_dataset with a length and with examples by index; "
                f"this is {type(data).__name__}"
            )
        if self._pair_lengths is None:
            self._pair_lengths = pair_lengths(data)
        source, target = self._pair_lengths
        if len(source) != len(data):
            raise GammaError(f"pair_lengths has {len(source)} pairs, train_dataset {len(data)}")
        self.token_batches = TokenBatches(
            source,
            target,
            self.token_budget,
            seed=args.seed if args.data_seed is None else args.data_seed,
            rank=args.process_index,
            world_size=args.world_size,
            remainder="drop" if args.dataloader_drop_last else "fill",
        )
        collate: Any = self.data_collator
        if self.token_budget.max_shapes is not None:
            collate = collate.shaped(self.token_batches.shapes)
        loader = DataLoader(
            data,
            batch_sampler=self.token_batches,
            collate_fn=self._get_collator_with_removed_columns(collate, "Training"),
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=getattr(args, "dataloader_multiprocessing_context", None),
            worker_init_fn=partial(
                seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index
            ),
        )
        # As for a single process: these batches are already this process's own.
        return prepare_data_loader(
            loader,
            device=self.accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=self.accelerator.device_placement,
            non_blocking=self.accelerator.non_blocking,
        )

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # The Trainer withholds the labels from a model whose loss it computes, so the model cannot
        # make the decoder's inputs from them.
        if "labels" in inputs and "decoder_input_ids" not in inputs:
            bare = self.accelerator.unwrap_model(model)
            shifted = getattr(bare, "prepare_decoder_input_ids_from_labels", None)
            if shifted is None:
                raise GammaError(
                    f"{type(bare).__name__} does not make decoder inputs from labels; let the "
                    "collator give decoder_input_ids"
                )
            inputs["decoder_input_ids"] = shifted(labels=inputs["labels"])
            inputs["use_cache"] = False
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.token_batches is not None and self.args.should_save:
            write_json(Path(output_dir) / STATE, self._counted())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and not self.args.ignore_data_skip:
            self._check_checkpoint(Path(checkpoint) / STATE)
        super()._load_optimizer_and_scheduler(checkpoint)

    def _counted(self) -> dict[str, Any]:
        """Return what the Trainer's count of steps refers to, besides the position."""
        assert self.token_batches is not None
        accumulated = self.args.gradient_accumulation_steps
        steps = -(-len(self.token_batches) // accumulated)
        epoch, done = divmod(self.state.global_step, steps)
        return {
            **self.token_batches.state_dict(done * accumulated),
            "epoch": epoch,
            "world_size": self.args.world_size,
            "gradient_accumulation_steps": accumulated,
            "dataloader_drop_last": self.args.dataloader_drop_last,
        }

    def _check_checkpoint(self, path: Path) -> None:
        if self.token_batches is None:
            return
        if not path.exists():
            raise GammaError(
                f"{path} is missing: the checkpoint was not made with a token budget, so its steps "
                "count other batches; set ignore_data_skip=True to begin an epoch of new ones"
            )
        saved, present = json.loads(path.read_text(encoding="utf-8")), self._counted()
        self.token_batches.check(saved)
        for name in ("world_size", "gradient_accumulation_steps", "dataloader_drop_last"):
            if saved[name] != present[name]:
                raise GammaError(
                    f"{path.parent} was saved with {name}={saved[name]}, but this run has "
                    f"{present[name]}: batches would be missed or come twice; resume with "
                    f"{saved[name]}"
                )


def token_mean(
    outputs: Any,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    *,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the cross-entropy summed over labels that are not -100, divided by the item count.

    Args:
        outputs: The model's, with ``logits`` of shape (pairs, width, vocabulary).
        labels: Of shape (pairs, width).
        num_items_in_batch: Target tokens of the whole optimizer step; by default, of these labels.
        label_smoothing: Share of the target that is spread evenly over the vocabulary.
    """
    total = functional.cross_entropy(
        outputs["logits"].float().flatten(0, 1),
        labels.flatten(),
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    count = labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch
    return total / count


def _check_settings(trainer: Any) -> None:
    args, config = trainer.args, trainer.args.accelerator_config
    for name, chosen in (
        ("auto_find_batch_size", args.auto_find_batch_size),
        ("split_batches", config.split_batches),
        ("dispatch_batches", config.dispatch_batches),
    ):
        if chosen:
            raise GammaError(f"{name}=True does not work with a token budget; leave it out")
    if args.world_size > 1 and not args.average_tokens_across_devices:
        raise GammaError(
            "average_tokens_across_devices=False would average unequal batches; leave it out"
        )
    if args.n_gpu > 1:
        raise GammaError(
            f"one process with {args.n_gpu} GPUs would split each batch among them; start one "
            f"process per GPU: torchrun --nproc_per_node {args.n_gpu} ..."
        )
    if trainer.get_tp_size() * trainer.get_cp_size() * trainer.get_sp_size() > 1:
        raise GammaError(
            "a token budget works with data parallelism only, not with a model split over processes"
        )
    collator = trainer.data_collator
    if trainer.token_budget.max_shapes is not None and not hasattr(collator, "shaped"):
        raise GammaError(
            f"max_shapes needs a collator that pads to given shapes, and {type(collator).__name__} "
            "does not; use PairCollator, or leave max_shapes out"
        )
    width = getattr(collator, "width_multiple", getattr(collator, "pad_to_multiple_of", None)) or 1
    if trainer.token_budget.width_multiple % width:
        raise GammaError(
            f"{type(collator).__name__} pads to multiples of {width}, which would break the "
            f"budget; set TokenBudget(width_multiple={width})"
        )
