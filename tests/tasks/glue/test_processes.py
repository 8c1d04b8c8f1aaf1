"""Two processes evaluate each example once, whatever the number of examples."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.ready import fields_of, make_ready
from gamma_nlp.tasks.glue.tasks import glue_task
from gamma_nlp.tasks.glue.train import finetune
from gamma_nlp.tasks.run.checkpoints import checkpoints
from gamma_nlp.tasks.run.items import read_items
from tests.support.glue_runs import experiment
from tests.support.torchrun import two_processes

DEV = 13
"""Three batches of 2 x 2 and one left over: the last batch is filled up with examples once more."""


def options(folder: Path, data: Path) -> list[str]:
    return experiment(
        folder, data, dose=None, weight_decay=0.1, num_train_epochs=1, per_device_eval_batch_size=2
    )


@pytest.mark.slow
def test_two_processes_evaluate_each_example_once(tmp_path: Path) -> None:
    data = write_sst2(tmp_path / "glue" / "SST-2", train=24, dev=DEV).parent
    two_processes(__file__, str(data), str(tmp_path))
    run = tmp_path / "run"
    found = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert found["world_size"] == 2
    items = read_items(run / "items" / "validation.npz")
    assert items.ids.tolist() == [str(number) for number in range(DEV)]
    recipe, args = read_arguments(options(tmp_path, data))
    ready = make_ready(recipe, args, glue_task("sst2"), recipe.policy(), fields_of(recipe))
    dev = ready.encoded["validation"]
    model = AutoModelForSequenceClassification.from_pretrained(checkpoints(run)[-1])
    model.eval()
    losses, right = [], []
    with torch.no_grad():
        for row in (dev[number] for number in range(DEV)):
            batch = {name: torch.as_tensor(value)[None] for name, value in row.items()}
            out = model(**batch)
            losses.append(float(out.loss))
            right.append(bool(out.logits.argmax() == batch["labels"].reshape(())))
    assert items.columns["correct"].astype(bool).tolist() == right
    np.testing.assert_allclose(items.columns["loss"], losses, rtol=1e-4)
    assert found["final"]["eval_accuracy"] == pytest.approx(np.mean(right), abs=1e-4)
    assert found["final"]["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-3)


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    own = folder / os.environ["RANK"]
    own.mkdir()
    words = [*options(own, Path(sys.argv[1])), "--output_dir", str(folder / "run")]
    finetune(*read_arguments(words), quiet=True)
