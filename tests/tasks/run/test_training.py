"""What stands between a claimed folder and the first step."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.folder import Claim
from gamma_nlp.tasks.run.training import begin, is_trained
from tests.support.whole_checkpoint import whole_checkpoint


def claim(folder: Path, parts: list[dict[str, Any]]) -> Claim:
    whole_checkpoint(folder, 3)
    return Claim(folder, folder / "checkpoint-3", {"parts": parts})


@pytest.mark.parametrize("steps", ["many", None, [3], 2.5])
def test_results_that_were_edited_count_as_none(steps: Any, tmp_path: Path) -> None:
    resumed = claim(tmp_path, [])
    for results in ({"steps": steps, "history": 7}, [steps], {"history": [steps]}):
        (tmp_path / "results.json").write_text(json.dumps(results))
        assert is_trained(resumed, None, 3) and not is_trained(resumed, None, 9)


def test_a_run_that_does_not_say_how_it_began_is_not_resumed(tmp_path: Path) -> None:
    args = SimpleNamespace(
        num_train_epochs=2.0, max_steps=-1, bf16=False, fp16=False, world_size=1,
        device=SimpleNamespace(type="cpu"),
    )  # fmt: skip
    trainer = SimpleNamespace(args=args, add_callback=lambda callback: None)
    with pytest.raises(GammaError, match=r"run\.json does not say how its first 3 steps were pl"):
        begin(claim(tmp_path, []), trainer, "sst2", [0.1] * 9, quiet=True)
