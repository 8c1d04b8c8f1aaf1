"""What a run notes of itself is as it was written, or it is not resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.folder import claimed
from gamma_nlp.tasks.run.record import read_record, write_record
from tests.support.whole_checkpoint import whole_checkpoint

PART = {"from_step": 0, "num_train_epochs": 2.0, "max_steps": -1}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = {"seed": 1, "policy": {"head": 0.1}, "parts": [PART]}
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record


def test_every_flipped_bit_of_what_it_says_is_noticed(tmp_path: Path) -> None:
    record = {"seed": 1, "lr": 1e-3, "parts": [PART]}
    write_record(tmp_path, record)
    file = tmp_path / "run.json"
    written = file.read_bytes()
    for at in range(8 * len(written)):
        flipped = bytearray(written)
        flipped[at // 8] ^= 1 << at % 8
        file.write_bytes(flipped)
        try:
            found = read_record(tmp_path)
        except GammaError as error:
            assert "\n" not in str(error)
        else:  # in the spaces between, or in the name of the checksum itself
            assert {key: found[key] for key in record} == record


def test_a_run_whose_record_was_changed_is_not_resumed(tmp_path: Path) -> None:
    with claimed(tmp_path, resume=False) as claim:
        claim.agree(task="sst2")
        claim.write([PART])
    whole_checkpoint(tmp_path, 3)
    text = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(text.replace('"num_train_epochs": 2.0', '"epochs": 2.0'))
    with (
        pytest.raises(GammaError, match=r"no readable run\.json \(it was changed: its checksum"),
        claimed(tmp_path, resume=True),
    ):
        pass


@pytest.mark.parametrize(
    "part", [{"from_step": 0}, PART | {"num_train_epochs": "2"}, PART | {"max_steps": None}]
)
def test_parts_without_a_checksum_say_how_they_were_planned(
    part: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"seed": 1, "parts": [PART]}))
    assert read_record(tmp_path)["seed"] == 1
    (tmp_path / "run.json").write_text(json.dumps({"seed": 1, "parts": [PART, part]}))
    with pytest.raises(GammaError, match="its parts are not those of a run"):
        read_record(tmp_path)
