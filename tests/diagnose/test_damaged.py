"""No damaged checkpoint is a traceback: either it is read, or one line names the file."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from gamma_nlp import GammaError, categorize
from gamma_nlp.diagnose.data import to_json
from gamma_nlp.diagnose.diagnosis import diagnose
from gamma_nlp.diagnose.report import report
from tests.support.mutants import of_bytes, of_values


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def state() -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in model().state_dict().items()}


def as_torch() -> bytes:
    file = io.BytesIO()
    torch.save(state(), file)
    return file.getvalue()


def table() -> dict[str, Any]:
    content = json.loads(categorize(model(), torch.ones(2, 4)).to_json())
    return {"model": content["model"], "gains": content["gains"]}


INDEX = {"weight_map": dict.fromkeys(state(), "model.safetensors")}
GOOD = {
    "model.safetensors": save(state()),
    "pytorch_model.bin": as_torch(),
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    "gain_table.json": json.dumps(table()).encode(),
    "trainer_state.json": b'{"global_step": 5}',
}


def values(content: dict[str, Any], seed: int) -> Iterator[bytes]:
    for changed in of_values(content, seed):
        yield json.dumps(changed).encode()


Mutants = Callable[[int], Iterator[bytes]]
CASES: dict[str, tuple[str, Mutants]] = {
    **{
        name: (name, lambda seed, data=data: of_bytes(data, seed))  # type: ignore[misc]
        for name, data in GOOD.items()
        if name != "trainer_state.json"
    },
    "index's values": ("model.safetensors.index.json", lambda seed: values(INDEX, seed)),
    "table's values": ("gain_table.json", lambda seed: values(table(), seed)),
}


def try_all(case: str, folder: Path, seed: int, count: int) -> None:
    name, mutants = CASES[case]
    source = {"pytorch_model.bin": folder / name, "model.safetensors.index.json": folder / name}
    refused = 0
    for number, data in enumerate(itertools.islice(mutants(seed), count)):
        for file, good in GOOD.items():
            (folder / file).write_bytes(good)
        # A file that is mapped must not change below the mapping.
        (folder / name).unlink()
        (folder / name).write_bytes(data)
        try:
            found = diagnose([source.get(name, folder / "model.safetensors")])
            report(found)
            json.dumps(to_json(found), allow_nan=False)
        except GammaError as error:
            refused += 1
            assert "\n" not in str(error), (number, str(error))
            assert len(str(error)) < 1_000
    assert refused > count / 10  # else the damage is none


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_file_is_read_or_refused_in_one_line(case: str, tmp_path: Path) -> None:
    try_all(case, tmp_path, seed=0, count=40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("case", CASES)
def test_many_more_damaged_files(case: str, seed: int, tmp_path: Path) -> None:
    try_all(case, tmp_path, seed, count=200)


@pytest.mark.parametrize("content", ["[]", '{"global_step": "5"}', '{"global_step": true}', "{}"])
def test_a_state_without_a_step_gives_none(content: str, tmp_path: Path) -> None:
    for file, good in GOOD.items():
        (tmp_path / file).write_bytes(good)
    (tmp_path / "trainer_state.json").write_text(content)
    assert diagnose([tmp_path]).states[0].step is None
