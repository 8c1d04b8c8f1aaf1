"""An evaluation during training: its loss, its translations, and when it ends the run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import MarianMTModel

from gamma_nlp.tasks.run.folder import checkpoints
from gamma_nlp.tasks.translation.data import load_splits
from gamma_nlp.tasks.translation.decode import Search, decode
from gamma_nlp.tasks.translation.scores import token_bleu
from gamma_nlp.tasks.translation.text import TranslationText
from gamma_nlp.tasks.translation.trainer import Patience, TranslationTrainer
from tests.support.translation_runs import experiment, train


def test_the_evaluation_is_that_of_a_plain_loop(whole: Path, data: Path) -> None:
    checkpoint = checkpoints(whole)[-1]
    model = MarianMTModel.from_pretrained(checkpoint).eval()
    text = TranslationText.load(whole)
    valid = load_splits(data, text)["valid"]
    total, tokens = 0.0, 0
    for source, target in zip(valid.source, valid.target, strict=True):
        labels = torch.tensor(target.tolist())
        with torch.no_grad():
            given = torch.tensor([[model.config.decoder_start_token_id, *target[:-1].tolist()]])
            logits = model(torch.tensor([source.tolist()]), decoder_input_ids=given).logits[0]
        total -= float(logits.log_softmax(-1)[torch.arange(len(labels)), labels].sum())
        tokens += len(labels)
    found = json.loads((whole / "results.json").read_text())["final"]
    assert found["eval_loss"] == pytest.approx(total / tokens, rel=1e-5)
    greedy = decode(model, [source.tolist() for source in valid.source], Search(beams=1))
    bleu = token_bleu(text.decode(greedy), valid.references.tokens).score
    assert found["eval_bleu"] == pytest.approx(bleu, abs=1e-3)


def test_training_stops_when_patience_is_spent() -> None:
    args = SimpleNamespace(metric_for_best_model="bleu", greater_is_better=True)

    def stops(scores: list[float], patience: int) -> bool:
        log = [{"step": i, "eval_bleu": score} for i, score in enumerate(scores)]
        state = SimpleNamespace(log_history=[{"step": 0, "loss": 1.0}, *log])
        control = SimpleNamespace(should_training_stop=False)
        Patience(patience).on_evaluate(args, state, control)
        return control.should_training_stop

    assert not stops([1.0, 2.0, 1.5], 2)
    assert stops([1.0, 2.0, 1.5, 2.0], 2)
    assert not stops([1.0, 2.0, 1.5, 2.1], 2)
    assert stops([3.0, 2.0], 1)


def test_a_run_ends_early_and_says_so(data: Path, tmp_path: Path) -> None:
    # BLEU stays at 0 for so short a training, so that the first evaluation is the best.
    argv = experiment(tmp_path, data, num_train_epochs=9, learning_rate="1e-6", patience=2)
    found = train([*argv, "--beams", "1"])
    assert [entry["eval_bleu"] for entry in found["history"]] == [0, 0, 0]
    epoch = found["history"][0]["step"]
    assert (found["steps"], found["planned_steps"]) == (3 * epoch, 9 * epoch)
    assert found["dose"]["shortcut"]["dose"] < 0.2  # of the steps taken, not of those planned


def test_an_evaluation_casts_each_weight_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {}
    translate = TranslationTrainer.translate
    found: dict[str, list[str]] = {}
    way = "once"

    def counted(self: Any, data: Any, search: Any, *, model: Any = None) -> list[str]:
        with _Casts() as casts:
            lines = translate(self, data, search, model=model)
        if model is None:
            counts[way], found[way] = casts.number, lines
        return lines

    monkeypatch.setattr(TranslationTrainer, "translate", counted)
    changes = {"precision": "bf16", "num_train_epochs": 1}
    train(experiment(tmp_path / "one", data, **changes))
    way = "every token"
    monkeypatch.setattr(
        TranslationTrainer, "_weights_cast_once", lambda self: torch.inference_mode()
    )
    train(experiment(tmp_path / "other", data, **changes))
    assert found["once"] == found["every token"]
    # The search is one batch of several tokens; what is no weight is cast in both ways.
    assert 0 < 2 * counts["once"] < counts["every token"], counts


class _Casts(TorchDispatchMode):
    """Counts casts of matrices to 16 bits."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and args and isinstance(args[0], torch.Tensor):
            cast = (args[0].dtype, made.dtype) == (torch.float32, torch.bfloat16)
            self.number += cast and made.dim() == 2
        return made
