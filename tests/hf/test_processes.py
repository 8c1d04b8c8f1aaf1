"""Two processes on one machine: the same run as one process with a batch of twice the size."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from gamma_nlp.hf.trainer import GammaTrainer
from tests.support.tiny_models import arguments, classified, texts, tiny_bert, tiny_gpt2
from tests.support.torchrun import two_processes


class Penalised(GPT2LMHeadModel):
    """Adds the mean of a square to its loss, which the item count does not divide."""

    def forward(self, input_ids: Any = None, labels: Any = None, **kwargs: Any) -> Any:
        outputs = super().forward(input_ids=input_ids, labels=labels, **kwargs)
        if labels is not None:
            outputs.loss = outputs.loss + outputs.logits.square().mean()
        return outputs


def penalised() -> Penalised:
    torch.manual_seed(0)
    return Penalised(tiny_gpt2().config)


MODELS: dict[str, Any] = {
    "bert": (tiny_bert, classified),
    "gpt2": (tiny_gpt2, texts),
    "penalised": (penalised, texts),
}


def train(kind: str, folder: Path, batch: int) -> dict[str, Any]:
    """Train and return what there is to compare."""
    make, data = MODELS[kind]
    args = arguments(folder, per_device_train_batch_size=batch, max_grad_norm=1e9)
    trainer = GammaTrainer(
        model=make(), args=args, train_dataset=data(), eval_dataset=data(), decay_policy="all"
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "world_size": args.world_size,
        "eval_before": before,
        "eval_after": trainer.evaluate()["eval_loss"],
        "curve": [(entry["loss"], entry["grad_norm"]) for entry in steps],
        "weights": [parameter.sum().item() for parameter in trainer.model.parameters()],
        "counts": trainer.model_accepts_loss_kwargs,
    }


@pytest.mark.slow
def test_two_processes_train_like_one_with_the_double_batch(tmp_path: Path) -> None:
    two_processes(__file__, str(tmp_path))
    for kind in MODELS:
        one = train(kind, tmp_path / "single", 4)
        ranks = [
            json.loads((tmp_path / f"{kind}-{rank}.json").read_text(encoding="utf-8"))
            for rank in (0, 1)
        ]
        assert [rank["world_size"] for rank in ranks] == [2, 2]
        assert ranks[0] == ranks[1], "the processes have drifted apart"
        assert ranks[0]["counts"] is (kind != "bert")
        # A language model's evaluation loss is a mean of batch means, which depends on the split.
        same = ["curve", "weights"] + ["eval_before", "eval_after"] * (kind == "bert")
        for key in same:
            expected = one[key]
            if key == "curve":
                expected = [list(row) for row in expected]
            torch.testing.assert_close(ranks[0][key], expected, rtol=1e-3, atol=1e-4)
        assert (tmp_path / kind / "gain_table.json").exists()


def main() -> None:
    folder = Path(sys.argv[1])
    for kind in MODELS:
        found = train(kind, folder / kind, 2)
        name = f"{kind}-{os.environ['RANK']}.json"
        (folder / name).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
