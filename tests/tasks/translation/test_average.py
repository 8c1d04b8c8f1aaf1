"""The mean of checkpoints: exact, of one model, whole or not at all, and loads as it was saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.average import average_checkpoints, last_checkpoints
from tests.support.tiny_models import tiny_marian


def checkpoint(folder: Path, **tensors: torch.Tensor) -> Path:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"from": folder.name}))
    return folder


def save(model: Any, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    (folder / "trainer_state.json").write_text("{}")  # comes last: the checkpoint is whole
    return folder


def mean(tmp_path: Path, *values: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    folders = [
        checkpoint(tmp_path / f"checkpoint-{n}", w=torch.tensor(value, dtype=dtype))
        for n, value in enumerate(values)
    ]
    average_checkpoints(folders, tmp_path / "averaged")
    return load_file(tmp_path / "averaged" / "model.safetensors")["w"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_mean_of_known_numbers(tmp_path: Path) -> None:
    found = mean(tmp_path, [[1.0, -2.0]], [[2.0, 4.0]], [[6.0, 1.0]])
    assert torch.equal(found, torch.tensor([[3.0, 1.0]]))


def test_mean_keeps_what_float32_would_lose(tmp_path: Path) -> None:
    # In float32 the sum 2^24 + 1 is 2^24.
    assert mean(tmp_path, 2.0**24, 1.0, 1.0, -(2.0**24)).item() == 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_mean_has_the_dtype_of_the_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    # 256 + 1 is not a bfloat16: summed in that type the mean would be 86.
    found = mean(tmp_path, [256.0, 1.0], [1.0, 2.0], [1.0, 3.0], dtype=dtype)
    assert found.dtype is dtype
    assert torch.equal(found, torch.tensor([86.0, 2.0], dtype=dtype))


def test_one_checkpoint_gives_the_same_bits(tmp_path: Path) -> None:
    odd = [0.1, -0.0, 1e-45, float("inf"), 3.4e38]
    found = mean(tmp_path, odd)
    assert torch.equal(found.view(torch.int32), torch.tensor(odd).view(torch.int32))


def test_counters_come_from_the_last_checkpoint(tmp_path: Path) -> None:
    folders = [
        checkpoint(tmp_path / f"c-{n}", batches=torch.tensor(n), positions=torch.arange(4))
        for n in (3, 9, 7)
    ]
    average_checkpoints(folders, tmp_path / "averaged")
    found = load_file(tmp_path / "averaged" / "model.safetensors")
    assert found["batches"].item() == 7
    assert torch.equal(found["positions"], torch.arange(4))


def test_other_integers_that_differ_are_refused(tmp_path: Path) -> None:
    folders = [checkpoint(tmp_path / f"c-{n}", packed=torch.arange(n, n + 4)) for n in (0, 1)]
    with pytest.raises(GammaError, match=r"packed \(int64 of shape \(4,\)\) differs .*c-0 .*c-1"):
        average_checkpoints(folders, tmp_path / "averaged")


def test_model_loads_with_its_ties_and_the_mean_of_its_weights(tmp_path: Path) -> None:
    models = [tiny_marian(seed) for seed in range(3)]
    for step, model in enumerate(models):
        model.generation_config.num_beams = step + 1
        save(model, tmp_path / f"checkpoint-{step}")
    average_checkpoints(last_checkpoints(tmp_path, 3), tmp_path / "averaged")
    loaded, info = transformers.MarianMTModel.from_pretrained(
        tmp_path / "averaged", output_loading_info=True
    )
    assert not any(info.values()), info
    states = [model.state_dict() for model in models]
    for name, tensor in loaded.state_dict().items():
        exact = torch.stack([state[name].double() for state in states]).sum(0) / 3
        assert torch.equal(tensor, exact.float()), name
    assert loaded.model.shared.weight is loaded.lm_head.weight
    assert loaded.generation_config.num_beams == 3
    with safe_open(tmp_path / "averaged" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_shards_and_whole_files_give_the_same_mean(tmp_path: Path) -> None:
    for seed in range(2):
        save(tiny_marian(seed), tmp_path / "whole" / f"checkpoint-{seed}")
        save(tiny_marian(seed), tmp_path / "shards" / f"checkpoint-{seed}", max_shard_size="2KB")
    assert len(list((tmp_path / "shards" / "checkpoint-1").glob("*.safetensors"))) > 2
    found = []
    for kind in ("whole", "shards"):
        average_checkpoints(last_checkpoints(tmp_path / kind, 2), tmp_path / kind / "averaged")
        found.append(load_file(tmp_path / kind / "averaged" / "model.safetensors"))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_folder_says_what_it_is_the_mean_of_and_may_be_written_again(tmp_path: Path) -> None:
    folders = [checkpoint(tmp_path / f"checkpoint-{n}", w=torch.full((2,), n)) for n in (1.0, 2.0)]
    output = tmp_path / "averaged"
    average_checkpoints(folders, output)
    before = json.loads((output / "averaged.json").read_text())
    average_checkpoints(folders[:1], output)
    after = json.loads((output / "averaged.json").read_text())
    assert before == {"checkpoints": ["checkpoint-1.0", "checkpoint-2.0"]}
    assert after == {"checkpoints": ["checkpoint-1.0"]}
    assert json.loads((output / "config.json").read_text()) == {"from": "checkpoint-1.0"}


def test_last_checkpoints_go_by_step_not_by_name(tmp_path: Path) -> None:
    for name in ("checkpoint-900", "checkpoint-1000", "checkpoint-80", "averaged", "checkpoint-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-2000").mkdir()  # was being written when the run was killed
    assert [path.name for path in last_checkpoints(tmp_path, 2)] == [
        "checkpoint-900",
        "checkpoint-1000",
    ]
    assert len(last_checkpoints(tmp_path, 7)) == 3
    assert last_checkpoints(tmp_path / "none", 1) == []


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_checkpoint_cannot_be_asked_for(tmp_path: Path, count: int) -> None:
    with pytest.raises(GammaError, match=f"at least 1, not {count}"):
        last_checkpoints(tmp_path, count)


def test_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match="no checkpoint to average"):
        average_checkpoints([], tmp_path / "averaged")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": torch.ones(2)}, "b is in .*one but not in .*other"),
        ({name: torch.ones(2) for name in "abc"}, "c is in .*other but not in .*one"),
        (
            {"a": torch.ones(2), "b": torch.ones(3)},
            r"b is float32 of shape \(2,\) in .*one but float32 of shape \(3,\) in .*other",
        ),
        (
            {"a": torch.ones(2), "b": torch.ones(2, dtype=torch.bfloat16)},
            "b is float32 .*one but bfloat16 .*other",
        ),
    ],
)
def test_checkpoints_of_two_models_are_refused_by_tensor_and_folder(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    one = checkpoint(tmp_path / "one", a=torch.ones(2), b=torch.ones(2))
    other = checkpoint(tmp_path / "other", **tensors)
    with pytest.raises(GammaError, match=message):
        average_checkpoints([one, other], tmp_path / "averaged")
    assert not (tmp_path / "averaged").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", None, r"bad has no model\.safetensors"),
        ("model.safetensors", b"cut", "weights in .*bad cannot be read"),
        ("model.safetensors.index.json", b"[]", "weights in .*bad cannot be read"),
        ("model.safetensors.index.json", b'{"weight_map": {"w": "x"}}', "bad cannot be read"),
        ("config.json", None, r"bad has no config\.json"),
    ],
)
def test_unreadable_checkpoint_is_named_and_nothing_is_written(
    tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    good = checkpoint(tmp_path / "good", w=torch.ones(2))
    bad = checkpoint(tmp_path / "bad", w=torch.ones(2))
    if file.endswith("index.json"):
        (bad / "model.safetensors").unlink()
    if content is None:
        (bad / file).unlink()
    else:
        (bad / file).write_bytes(content)
    with pytest.raises(GammaError, match=message):
        average_checkpoints([good, bad], tmp_path / "averaged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "good"]


def test_what_is_not_an_averaged_model_is_not_replaced(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one", w=torch.ones(2))
    before = contents(one)
    for output, message in ((one, "not an averaged model"), (one / "config.json", "not a folder")):
        with pytest.raises(GammaError, match=message):
            average_checkpoints([one], output)
    (tmp_path / "link").symlink_to(one)
    with pytest.raises(GammaError, match="link is not a folder"):
        average_checkpoints([one], tmp_path / "link")
    assert contents(one) == before


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("save_file", SafetensorError("No space left on device")),
        ("write_json", OSError(28, "No space left on device")),
    ],
)
def test_failed_write_leaves_the_earlier_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    one = checkpoint(tmp_path / "one", w=torch.ones(2))
    average_checkpoints([one], tmp_path / "averaged")
    before = contents(tmp_path / "averaged")

    def full(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(f"gamma_nlp.tasks.translation.average.{step}", full)
    with pytest.raises(GammaError, match=r"cannot write .*averaged: No space left"):
        average_checkpoints([one], tmp_path / "averaged")
    assert contents(tmp_path / "averaged") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["averaged", "one"]
