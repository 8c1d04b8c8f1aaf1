"""Two processes train and evaluate as one."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

from transformers import MarianMTModel

from gamma_nlp.tasks.run.folder import checkpoints
from gamma_nlp.tasks.translation.data import load_splits
from gamma_nlp.tasks.translation.decode import Search, decode
from gamma_nlp.tasks.translation.scores import token_bleu
from gamma_nlp.tasks.translation.text import TranslationText
from tests.support.torchrun import two_processes
from tests.support.translation_runs import experiment, train


def test_two_processes_evaluate_as_one(data: Path, tmp_path: Path) -> None:
    two_processes(__file__, str(data), str(tmp_path))


def _two_processes(data: Path, folder: Path) -> None:
    argv = experiment(folder / os.environ["RANK"], data, num_train_epochs=3, beams=1)
    found = train([*argv, "--output_dir", str(folder / "run")])
    assert found["world_size"] == 2
    text = TranslationText.load(folder / "run")
    valid = load_splits(data, text)["valid"]
    model = MarianMTModel.from_pretrained(checkpoints(folder / "run")[-1])
    lines = text.decode(decode(model, [s.tolist() for s in valid.source], Search(beams=1)))
    bleu = token_bleu(lines, valid.references.tokens).score
    assert math.isclose(found["final"]["eval_bleu"], bleu, abs_tol=1e-3)
    written = (folder / "run/translations/valid.tok.en").read_text().split("\n")[:-1]
    assert written == lines  # average_last is 1: the last checkpoint is the final model


if __name__ == "__main__":
    _two_processes(Path(sys.argv[1]), Path(sys.argv[2]))
