"""fairseq's --fp16 puts all parameters into one flat tensor; gains in it decay by their dose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.cuda, pytest.mark.needs("fairseq")]
UPDATES = 20


@pytest.mark.parametrize("precision", ["flat", "memory-efficient", "unflattened"])
def test_silent_gains_shrink_by_their_dose(
    precision: str, tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.fairseq_runs import ADAM, PRECISIONS, call, is_gain, session

    if device.type == "cpu":  # the flat tensor goes to where the parameters are
        monkeypatch.setattr(torch.cuda, "current_device", lambda: None)
    for code, word in (("de", "Hund"), ("en", "dog")):
        for split in ("train", "valid"):
            text = "".join(f"{word} {number} {word}\n" for number in range(8))
            (tmp_path / f"{split}.{code}").write_text(text, encoding="utf-8")
    words = ["--source-lang", "de", "--target-lang", "en", "--joined-dictionary"]
    files = ["--trainpref", tmp_path / "train", "--validpref", tmp_path / "valid"]
    assert call("preprocess", *words, *files, "--destdir", tmp_path / "binary") == 0
    where = ["--cpu"] if device.type == "cpu" else []
    run = session(tmp_path / "binary", tmp_path / "run", *ADAM, *PRECISIONS[precision], *where)
    assert next(run.model.parameters()).device.type == device.type
    before = run.weights()
    run.train(UPDATES, silent=True)
    table = json.loads((tmp_path / "run" / "gain_table.json").read_text(encoding="utf-8"))
    doses = {row["name"]: row["dose"] for row in table["gains"]}
    assert min(doses.values()) == 0 and max(doses.values()) > 0.1
    for name, value in run.weights().items():
        if is_gain(name) and doses[name] == 0:
            assert torch.equal(value, before[name]), name
        elif is_gain(name):
            assert (1 - value).mean().item() == pytest.approx(doses[name], rel=0.02), name
