"""Tensors are read one by one, whatever the file; what cannot be read is named."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gamma_nlp.diagnose.weights import Weights
from gamma_nlp.errors import GammaError

GAIN, OTHER = torch.tensor([1.0, 2.0]), torch.zeros(3, 2)


def both() -> dict[str, torch.Tensor]:
    return {"ln.weight": GAIN, "fc.weight": OTHER}


def index(folder: Path, places: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    return path


def sharded(folder: Path) -> Path:
    save_file({"ln.weight": GAIN}, folder / "a.safetensors")
    save_file({"fc.weight": OTHER}, folder / "b.safetensors")
    return index(folder, {"ln.weight": "a.safetensors", "fc.weight": "b.safetensors"})


def refused(path: Path, names: tuple[str, ...] = ("ln.weight",)) -> str:
    with pytest.raises(GammaError) as stop:
        Weights(path).read(names)
    return str(stop.value)


@pytest.mark.parametrize("nest", [None, "model", "state_dict", "module"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_is_read_in_every_form(
    tmp_path: Path, nest: str | None, zipped: bool
) -> None:
    content = both() if nest is None else {nest: both(), "args": argparse.Namespace(lr=1)}
    torch.save(content, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    weights = Weights(tmp_path / "x.bin")
    assert set(weights.names) == {"ln.weight", "fc.weight"}
    assert weights.read(["ln.weight"])["ln.weight"].equal(GAIN)
    assert weights.step is None


def test_what_the_caller_lets_torch_load_stays_allowed(tmp_path: Path) -> None:
    torch.save({"model": both(), "args": argparse.Namespace(lr=1)}, tmp_path / "x.pt")
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert Weights(tmp_path / "x.pt").names
        assert torch.load(tmp_path / "x.pt")["args"].lr == 1


def test_fairseq_keeps_its_step_in_the_file(tmp_path: Path) -> None:
    torch.save({"model": both(), "optimizer_history": [{"num_updates": 70}]}, tmp_path / "x.pt")
    assert Weights(tmp_path / "x.pt").step == 70


def test_shards_are_one(tmp_path: Path) -> None:
    weights = Weights(sharded(tmp_path))
    assert set(weights.names) == {"ln.weight", "fc.weight"}
    assert weights.read(["ln.weight"])["ln.weight"].equal(GAIN)


def test_shards_of_torch_are_one(tmp_path: Path) -> None:
    torch.save({"ln.weight": GAIN}, tmp_path / "a.bin")
    torch.save({"fc.weight": OTHER}, tmp_path / "b.bin")
    path = index(tmp_path, {"ln.weight": "a.bin", "fc.weight": "b.bin"})
    path = path.rename(tmp_path / "pytorch_model.bin.index.json")
    assert Weights(path).read(["fc.weight"])["fc.weight"].equal(OTHER)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_narrow_numbers_are_read_as_they_are(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"ln.weight": GAIN.to(dtype)}, tmp_path / "m.safetensors")
    found = Weights(tmp_path / "m.safetensors").read(["ln.weight"])["ln.weight"]
    assert found.double().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("end", ["_scale_inv", "_scale"])
def test_numbers_with_a_scale_are_not_the_gain(tmp_path: Path, end: str) -> None:
    content = {"ln.weight": GAIN.to(torch.float8_e4m3fn), f"ln.weight{end}": torch.ones(1)}
    save_file(content, tmp_path / "m.safetensors")
    assert f"quantised, beside its scale 'ln.weight{end}'" in refused(tmp_path / "m.safetensors")


def test_whole_numbers_are_not_the_gain(tmp_path: Path) -> None:
    save_file({"ln.weight": torch.ones(2, dtype=torch.int8)}, tmp_path / "m.safetensors")
    assert "holds 'ln.weight' quantised, as int8" in refused(tmp_path / "m.safetensors")


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    assert "names 'b.safetensors', which is not there; copy it into" in refused(path)
    (tmp_path / "a.safetensors").unlink()
    assert "'a.safetensors', 'b.safetensors', which are not there; copy them" in refused(path)


def test_an_index_of_another_model_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path)
    path = index(tmp_path, {"ln.bias": "a.safetensors", "fc.weight": "b.safetensors"})
    assert "names 'ln.bias', which no shard holds" in refused(path)
    for content in ({}, [], {"weight_map": ["a"]}, {"weight_map": {"a": 1}}):
        path.write_text(json.dumps(content), encoding="utf-8")
        assert "has no weight_map" in refused(path)
    path.write_text("{", encoding="utf-8")
    assert f"{path}:1: not valid JSON" in refused(path)


@pytest.mark.parametrize("size", [0, 4, 40, -2])
@pytest.mark.parametrize("name", ["m.safetensors", "m.bin"])
def test_a_file_that_was_cut_short_is_named(tmp_path: Path, name: str, size: int) -> None:
    path = tmp_path / name
    save_file(both(), path) if path.suffix == ".safetensors" else torch.save(both(), path)
    data = path.read_bytes()
    path.write_bytes(data[:size])
    text = refused(path)
    assert text.startswith(f"{path} ({len(data[:size]):,} bytes) is cut short or no file of its")
    assert "\n" not in text


def test_a_shard_that_was_cut_short_is_found_though_it_holds_no_gain(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    shard = tmp_path / "b.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert str(shard) in refused(path)


def test_a_pointer_of_lfs_is_told_from_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "git lfs pull" in refused(path)


def test_python_objects_are_never_run(tmp_path: Path) -> None:
    torch.save({"model": Path("x")}, tmp_path / "m.bin")
    assert "holds Python objects beside tensors, which are not run" in refused(tmp_path / "m.bin")


@pytest.mark.parametrize("content", [{}, {"a": 1}, [GAIN], 3])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "m.bin")
    assert "holds no weights" in refused(tmp_path / "m.bin")


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert "give a file that ends in .safetensors, .bin" in refused(tmp_path / "m.gguf")
