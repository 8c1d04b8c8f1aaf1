"""A run of a tiny Gemma 3 in half precision, for tests that kill it: FOLDER [--resume]."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, TrainingArguments

from gamma_nlp.files.write import write_json
from gamma_nlp.hf.trainer import GammaTrainer
from gamma_nlp.tasks.run.checkpoints import choose
from gamma_nlp.tasks.run.main import run
from gamma_nlp.tasks.run.report import evaluations
from gamma_nlp.tasks.run.saving import WholeCheckpoints
from gamma_nlp.tasks.run.stopping import StopAndSave


class Trainer(WholeCheckpoints, GammaTrainer):
    """Seals its checkpoints."""


def main(words: list[str]) -> None:
    """Train, and write the last evaluation."""
    folder = Path(words[0])
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    rows = torch.randint(0, 64, (96, 12))
    data = [{"input_ids": row, "labels": row} for row in rows]
    trainer = Trainer(
        model=Gemma3ForCausalLM(config).to(torch.bfloat16),
        args=TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            num_train_epochs=3,
            learning_rate=1e-3,
            weight_decay=1.0,
            save_strategy="steps",
            save_steps=5,
            save_total_limit=2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=data,
        eval_dataset=data[:16],
        decay_policy="all",
    )
    trainer.add_callback(StopAndSave())
    write_json(folder / "run.json", {"parts": []})
    last = choose(folder).last if "--resume" in words else None
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    trainer.evaluate()
    history = [
        {key: value for key, value in entry.items() if key != "epoch"}
        for entry in evaluations(trainer.state.log_history)
    ]
    write_json(folder / "results.json", {"final": history[-1], "steps": trainer.state.global_step})


if __name__ == "__main__":
    sys.exit(run(main))  # type: ignore[arg-type]
