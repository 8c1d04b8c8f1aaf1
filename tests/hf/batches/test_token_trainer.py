"""A Trainer on a token budget: batches as they are, tokens weighted alike, resumes exactly."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainingArguments, TrainerCallback

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.batches.budget import TokenBudget, pair_lengths
from gamma_nlp.hf.batches.by_tokens import PairCollator, TokenBatches
from gamma_nlp.hf.batches.token_trainer import TokenBudgetMixin, token_mean
from gamma_nlp.hf.trainer import GammaSeq2SeqTrainer
from tests.support.torchrun import two_processes

VOCAB, PAD = 64, 1
BUDGET = TokenBudget(max_tokens=40)
FEW = TokenBudget(max_tokens=40, max_shapes=3)


class Translation(TokenBudgetMixin, GammaSeq2SeqTrainer):
    """Notes the target tokens of every batch it trains on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[list[int]] = []

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        first = inputs["labels"][:, 0]
        self.seen.append(sorted(first[first != -100].tolist()))  # not of rows without a pair
        return super().training_step(model, inputs, *args, **kwargs)


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


class Gradients(TrainerCallback):
    def on_pre_optimizer_step(self, *args: Any, model: Any, **kwargs: Any) -> None:
        self.found = {
            name: parameter.grad.clone()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }


def tiny_marian(dropout: float = 0.1) -> MarianMTModel:
    torch.manual_seed(0)
    return MarianMTModel(
        MarianConfig(
            vocab_size=VOCAB,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=32,
            dropout=dropout,
            pad_token_id=PAD,
            eos_token_id=2,
            forced_eos_token_id=2,
            decoder_start_token_id=PAD,
        )
    )


def pairs(count: int = 42) -> list[dict[str, list[int]]]:
    """The first target token tells the pair."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        source, target = rng.integers(3, VOCAB, 2 + index % 9), rng.integers(3, VOCAB, index % 7)
        made.append({"input_ids": source.tolist(), "labels": [3 + index, *target.tolist()]})
    return made


def trainer(
    folder: Path, *, dropout: float = 0.1, budget: TokenBudget = BUDGET, **changes: Any
) -> Any:
    chosen: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "max_steps": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "seed": 5,
        **changes,
    }
    return Translation(
        model=tiny_marian(dropout),
        args=Seq2SeqTrainingArguments(**chosen),
        train_dataset=pairs(),
        data_collator=PairCollator(PAD),
        decay_policy="all",
        token_budget=budget,
    )


def order(epoch: int, **options: Any) -> list[list[int]]:
    batches = TokenBatches(*pair_lengths(pairs()), BUDGET, seed=5, **options)
    batches.set_epoch(epoch)
    return [sorted(3 + index for index in batch) for batch in batches]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_trainer_takes_the_batches_as_they_are(tmp_path: Path, workers: int) -> None:
    run = trainer(tmp_path, max_steps=-1, num_train_epochs=3, dataloader_num_workers=workers)
    run.train()
    assert run.seen == [batch for epoch in range(3) for batch in order(epoch)]
    assert run.state.global_step == 3 * len(order(0))


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize(("epochs", "steps"), [(0, 3), (1, -1), (1, 0), (1, 3)])
def test_a_stopped_run_ends_with_the_same_weights(
    tmp_path: Path, accumulated: int, epochs: int, steps: int
) -> None:
    assert len(order(0)) % 2 == 1, "the last step of an epoch has one batch"
    stop = epochs * math.ceil(len(order(0)) / accumulated) + steps
    options = {"gradient_accumulation_steps": accumulated, "max_steps": stop + 3}
    torch.set_num_threads(1)
    whole = trainer(tmp_path / "whole", **options)
    whole.train()
    first = trainer(tmp_path / "run", **options)
    first.add_callback(StopAt(stop))
    first.train()
    second = trainer(tmp_path / "run", **options)
    torch.manual_seed(99)
    second.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{stop}"))
    assert second.state.global_step == stop + 3
    assert first.seen + second.seen == whole.seen
    expected, found = whole.model.state_dict(), second.model.state_dict()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    before = first.model.state_dict()
    assert any(not torch.equal(before[name], found[name]) for name in found)


def test_a_stopped_run_on_few_shapes_ends_with_the_same_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = trainer(tmp_path / "whole", budget=FEW, max_steps=20)
    whole.train()
    shapes = whole.token_batches.shapes
    assert len(shapes) == 3 and len(whole.token_batches) + 2 < 20
    first = trainer(tmp_path / "run", budget=FEW, max_steps=20)
    stop = len(whole.token_batches) + 2
    first.add_callback(StopAt(stop))
    first.train()
    checkpoint = str(tmp_path / "run" / f"checkpoint-{stop}")
    with pytest.raises(GammaError, match="max_shapes"):
        trainer(tmp_path / "other", max_steps=20).train(checkpoint)
    second = trainer(tmp_path / "run", budget=FEW, max_steps=20)
    second.train(resume_from_checkpoint=checkpoint)
    assert first.seen + second.seen == whole.seen
    expected, found = whole.model.state_dict(), second.model.state_dict()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.parametrize(("smoothing", "budget"), [(0.0, BUDGET), (0.1, BUDGET), (0.1, FEW)])
def test_accumulated_batches_count_by_their_tokens(
    tmp_path: Path, smoothing: float, budget: TokenBudget
) -> None:
    split = trainer(
        tmp_path,
        budget=budget,
        dropout=0.0,
        gradient_accumulation_steps=3,
        max_grad_norm=0.0,
        max_steps=1,
        label_smoothing_factor=smoothing,
    )
    noted = Gradients()
    split.add_callback(noted)
    split.train()
    taken = [index - 3 for batch in split.seen for index in batch]
    sizes = [sum(len(pairs()[i - 3]["labels"]) for i in batch) for batch in split.seen]
    assert len(split.seen) == 3 and len(set(sizes)) > 1, "a mean of means would be the same"

    model = tiny_marian(0.0)
    batch = PairCollator(PAD)([pairs()[index] for index in taken])
    labels = batch.pop("labels")
    logits = model(
        **batch, decoder_input_ids=model.prepare_decoder_input_ids_from_labels(labels)
    ).logits
    kept = labels.flatten() != -100
    log_p = logits.flatten(0, 1)[kept].log_softmax(-1)
    right = log_p.gather(1, labels.flatten()[kept, None]).mean()
    loss = -(1 - smoothing) * right - smoothing * log_p.mean()
    loss.backward()
    assert split.state.log_history[0]["loss"] == pytest.approx(loss.item(), abs=1e-4)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(expected) > 20
    torch.testing.assert_close(noted.found, expected, rtol=1e-4, atol=1e-6)


def test_the_loss_is_that_of_the_model() -> None:
    model = tiny_marian(0.0)
    batch = PairCollator(PAD)(pairs(5))
    labels = batch["labels"]
    outputs = model(**batch)
    torch.testing.assert_close(token_mean(outputs, labels), outputs.loss)
    torch.testing.assert_close(
        token_mean(outputs, labels, 2 * labels.ne(-100).sum()), outputs.loss / 2
    )


def test_evaluation_gives_the_loss(tmp_path: Path) -> None:
    run = trainer(tmp_path, dropout=0.0)
    found = run.evaluate(pairs(8))["eval_loss"]
    batch = PairCollator(PAD)(pairs(8))
    assert found == pytest.approx(tiny_marian(0.0).eval()(**batch).loss.item(), rel=1e-5)


def test_a_checkpoint_of_other_batches_is_refused(tmp_path: Path) -> None:
    first = trainer(tmp_path, max_steps=3, save_strategy="steps", save_steps=2)
    first.train()
    checkpoint = str(tmp_path / "checkpoint-2")
    saved = json.loads((tmp_path / "checkpoint-2" / "token_batches.json").read_text())
    assert (saved["epoch"], saved["position"], saved["world_size"]) == (0, 2, 1)
    with pytest.raises(GammaError, match="the same max_tokens"):
        trainer(tmp_path, budget=TokenBudget(max_tokens=50)).train(checkpoint)
    with pytest.raises(GammaError, match="seed 5, these 6"):
        trainer(tmp_path, data_seed=6).train(checkpoint)
    with pytest.raises(GammaError, match="gradient_accumulation_steps=1, but this run has 2"):
        trainer(tmp_path, gradient_accumulation_steps=2).train(checkpoint)
    (tmp_path / "checkpoint-2" / "token_batches.json").unlink()
    with pytest.raises(GammaError, match="ignore_data_skip=True"):
        trainer(tmp_path).train(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_find_batch_size": True}, "auto_find_batch_size"),
        ({"accelerator_config": {"split_batches": True}}, "split_batches=True"),
        ({"accelerator_config": {"dispatch_batches": True}}, "dispatch_batches=True"),
    ],
)
def test_settings_against_the_budget_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(GammaError, match=message):
        trainer(tmp_path, **changes)


def test_a_collator_that_pads_further_is_refused(tmp_path: Path) -> None:
    args = Seq2SeqTrainingArguments(output_dir=str(tmp_path), use_cpu=True, weight_decay=0.1)
    with pytest.raises(GammaError, match=r"TokenBudget\(width_multiple=8\)"):
        Translation(
            model=tiny_marian(),
            args=args,
            train_dataset=pairs(),
            data_collator=PairCollator(PAD, width_multiple=8),
            decay_policy="all",
            token_budget=BUDGET,
        )


def test_a_collator_that_knows_no_shapes_is_refused(tmp_path: Path) -> None:
    args = Seq2SeqTrainingArguments(output_dir=str(tmp_path), use_cpu=True, weight_decay=0.1)
    with pytest.raises(GammaError, match=r"max_shapes needs .* method does not; use Pai"):
        Translation(
            model=tiny_marian(),
            args=args,
            train_dataset=pairs(),
            data_collator=PairCollator(PAD).__call__,
            decay_policy="all",
            token_budget=FEW,
        )


def test_data_without_labels_is_named() -> None:
    with pytest.raises(GammaError, match=r"example 1 of train_dataset .* text"):
        pair_lengths([{"input_ids": [1], "labels": [2]}, {"text": "a"}])


@pytest.mark.slow
def test_two_processes_train_like_one_that_accumulates_two(tmp_path: Path) -> None:
    two_processes(__file__, str(tmp_path))
    alone = trainer(tmp_path / "alone", dropout=0.0, gradient_accumulation_steps=2, max_steps=3)
    alone.train()
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for rank in (0, 1):
        assert ranks[rank]["seen"] == order(0, rank=rank, world_size=2)[:3]
        assert ranks[rank]["seen"] == alone.seen[rank::2]
        torch.testing.assert_close(
            ranks[rank]["weights"],
            [parameter.sum().item() for parameter in alone.model.parameters()],
            rtol=1e-3,
            atol=1e-3,
        )
    losses = [entry["loss"] for entry in alone.state.log_history if "loss" in entry]
    assert ranks[0]["loss"] == pytest.approx(losses, rel=1e-3)


def main() -> None:
    folder = Path(sys.argv[1])
    run = trainer(folder / "two", dropout=0.0, max_steps=3)
    run.train()
    found = {
        "seen": run.seen,
        "weights": [parameter.sum().item() for parameter in run.model.parameters()],
        "loss": [entry["loss"] for entry in run.state.log_history if "loss" in entry],
    }
    (folder / f"{run.args.process_index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
