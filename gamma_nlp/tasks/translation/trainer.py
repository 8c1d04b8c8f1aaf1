"""The Trainer of the translation recipe: batches by token budget, and BLEU at every evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from gamma_nlp.hf.batches.budget import TokenBudget
from gamma_nlp.hf.batches.by_tokens import TokenBatches
from gamma_nlp.hf.batches.token_trainer import TokenBudgetMixin
from gamma_nlp.hf.graphs.trainer import GraphedSteps
from gamma_nlp.hf.trainer import GammaSeq2SeqTrainer
from gamma_nlp.tasks.run.counts import RunCounts
from gamma_nlp.tasks.run.finite import FiniteRun
from gamma_nlp.tasks.run.report import evaluations
from gamma_nlp.tasks.run.saving import WholeCheckpoints
from gamma_nlp.tasks.run.speed import CompileTime
from gamma_nlp.tasks.translation.data import PairData
from gamma_nlp.tasks.translation.decode import Search, decode, no_gradients
from gamma_nlp.tasks.translation.scores import token_bleu
from gamma_nlp.tasks.translation.text import TranslationText

LOSS_TOKENS = 16_384
"""Tokens of a batch whose loss is computed; each has a row as wide as the vocabulary."""


class TranslationTrainer(
    FiniteRun,
    WholeCheckpoints,
    RunCounts,
    CompileTime,
    GraphedSteps,
    TokenBudgetMixin,
    GammaSeq2SeqTrainer,
):
    """GammaSeq2SeqTrainer on batches by token budget, evaluated by what the model translates.

    ``evaluate`` gives ``loss`` (nats per target token, without label smoothing) and ``bleu`` (over
    tokens, as fairseq prints it), each over the whole set whatever the number of processes.

    Args:
        text: Turns ids into text.
        search: How to translate in ``evaluate``.
    """

    def __init__(self, *args: Any, text: TranslationText, search: Search, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.text = text
        self.search = search

    def counted(self, inputs: Any) -> torch.Tensor:
        mask: torch.Tensor = inputs["labels"].ne(-100)
        return mask

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return the data alone: :meth:`evaluation_loop` makes batches of its own."""
        return _Whole(self.eval_dataset if eval_dataset is None else eval_dataset)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: Any = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Compute loss and BLEU of ``dataloader.dataset``."""
        data = dataloader.dataset
        bleu = token_bleu(self.translate(data, self.search), data.references.tokens)
        metrics = {
            f"{metric_key_prefix}_loss": self._loss(data),
            f"{metric_key_prefix}_bleu": round(bleu.score, 4),
        }
        return EvalLoopOutput(
            predictions=None, label_ids=None, metrics=metrics, num_samples=len(data)
        )

    def translate(self, data: PairData, search: Search, *, model: Any = None) -> list[str]:
        """Translate all sources, in their order, to tokenised text; each process does its share.

        Args:
            data: What to translate.
            search: How to search.
            model: The model that translates; default: the one in training.
        """
        rank, world = self.args.process_index, self.args.world_size
        mine = [ids.tolist() for ids in data.source[rank::world]]
        with self._weights_cast_once() if model is None else contextlib.nullcontext():
            ids = decode(self._unwrapped() if model is None else model, mine, search)
        together: list[str] = [""] * len(data)
        for number, part in enumerate(self._gathered(self.text.decode(ids))):
            together[number::world] = part
        return together

    @contextlib.contextmanager
    def _weights_cast_once(self) -> Iterator[None]:
        """Keep the model's autocast from casting every weight again for every token.

        Casts are kept until the outermost autocast ends. Each pass of the model has one of its own;
        this one is around all of them.
        """
        with self.accelerator.autocast(), no_gradients(self.args.device.type):
            yield

    def _loss(self, data: PairData) -> float:
        model = self._unwrapped()
        longest = max(map(max, data.lengths))
        budget = TokenBudget(max_tokens=max(min(self.search.max_tokens, LOSS_TOKENS), longest))
        batches = TokenBatches(*data.lengths, budget).order()
        collate = self.data_collator
        total, tokens = 0.0, 0
        was_training = model.training
        model.eval()
        with self._weights_cast_once():
            for batch in batches[self.args.process_index :: self.args.world_size]:
                inputs = collate([data[index] for index in batch])
                inputs = {name: value.to(self.args.device) for name, value in inputs.items()}
                labels = inputs.pop("labels")
                shifted = model.prepare_decoder_input_ids_from_labels(labels=labels)
                logits = model(**inputs, decoder_input_ids=shifted, use_cache=False).logits
                total += float(
                    functional.cross_entropy(
                        logits.float().flatten(0, 1), labels.flatten(), reduction="sum"
                    )
                )
                tokens += int(labels.ne(-100).sum())
        model.train(was_training)
        parts = self._gathered((total, tokens))
        return sum(part[0] for part in parts) / max(sum(part[1] for part in parts), 1)

    def _unwrapped(self) -> Any:
        model: nn.Module = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return model

    def _gathered(self, mine: Any) -> list[Any]:
        if self.args.world_size == 1:
            return [mine]
        from torch import distributed

        parts: list[Any] = [None] * self.args.world_size
        distributed.all_gather_object(parts, mine)
        return parts


class Patience(TrainerCallback):
    """Stops training once the best score is ``evaluations`` evaluations old.

    It counts in the log that is saved with checkpoints, so a resumed run stops at the same step.

    Args:
        evaluations: How many without a better one.
    """

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations

    def spent(self, args: Any, history: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether these evaluations end a run."""
        key = f"eval_{args.metric_for_best_model.removeprefix('eval_')}"
        scores = [entry[key] for entry in history if key in entry]
        pick = max if args.greater_is_better else min
        return bool(scores) and len(scores) - 1 - scores.index(pick(scores)) >= self.evaluations

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.spent(args, evaluations(state.log_history)):
            control.should_training_stop = True


class _Whole:
    def __init__(self, dataset: PairData) -> None:
        self.dataset = dataset
