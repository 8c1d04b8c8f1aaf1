"""What the user names becomes checkpoints in the order of their steps, or an error that helps."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gamma_nlp.diagnose.checkpoints import Checkpoint, find_checkpoints
from gamma_nlp.errors import GammaError
from gamma_nlp.files.manifest import seal


def saved(folder: Path, name: str = "model.safetensors", step: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"ln.weight": torch.ones(2)}, folder / name)
    if step is not None:
        state = json.dumps({"global_step": step})
        (folder / "trainer_state.json").write_text(state, encoding="utf-8")
    return folder


def find(*sources: Path | str) -> list[Checkpoint]:
    return find_checkpoints([str(source) for source in sources], lambda text: None)


def refused(*sources: Path | str) -> str:
    with pytest.raises(GammaError) as stop:
        find(*sources)
    assert "\n" not in str(stop.value)
    return str(stop.value)


def test_a_run_stands_for_its_checkpoints_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (1000, 200, 30):
        saved(tmp_path / f"checkpoint-{step}")
    saved(tmp_path / "checkpoint-best")
    assert [one.step for one in find(tmp_path)] == [30, 200, 1000]
    assert [one.label for one in find(tmp_path)] == ["step 30", "step 200", "step 1000"]


def test_weights_beside_checkpoints_are_left_out_and_said_to_be(tmp_path: Path) -> None:
    saved(tmp_path)
    saved(tmp_path / "checkpoint-5")
    told: list[str] = []
    assert [one.step for one in find_checkpoints([str(tmp_path)], told.append)] == [5]
    assert told == [f"{tmp_path} holds checkpoints, which are read, and model.safetensors, which "
                    "is left out"]  # fmt: skip
    assert [one.step for one in find(tmp_path / "model.safetensors")] == [None]


def test_the_state_of_the_trainer_is_believed_before_a_name(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "checkpoint-1", step=900), saved(tmp_path / "last", step=20)
    assert [(c.path, c.step) for c in find(one, two)] == [(two, 20), (one, 900)]


def test_checkpoints_without_steps_stay_as_they_were_given(tmp_path: Path) -> None:
    b, a, late = saved(tmp_path / "b"), saved(tmp_path / "a"), saved(tmp_path / "checkpoint-9")
    assert [one.label for one in find(late, b, a)] == ["step 9", "b", "a"]


def test_runs_of_fairseq_are_ordered_by_the_steps_inside(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for name, step in (("1", 90), ("_2_40", 40), ("_last", 90), ("_best", 40)):
        content = {
            "model": {"ln.weight": torch.ones(2)},
            "optimizer_history": [{"num_updates": step}],
        }
        torch.save(content, folder / f"checkpoint{name}.pt")
    assert [one.step for one in find(tmp_path / "run")] == [40, 90]
    assert [one.step for one in find(folder)] == [40, 90]
    assert [one.step for one in find(folder / "checkpoint_last.pt")] == [90]


def test_the_first_file_that_transformers_would_read_is_read(tmp_path: Path) -> None:
    saved(tmp_path)
    torch.save({"other": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert find(tmp_path)[0].file.name == "model.safetensors"
    assert find(tmp_path / "pytorch_model.bin")[0].weights.names == ("other",)


def test_one_checkpoint_given_twice_is_refused(tmp_path: Path) -> None:
    one = saved(tmp_path / "checkpoint-1")
    assert refused(one, one).endswith("is given twice; name each checkpoint once")
    assert "is given twice" in refused(tmp_path, one)
    (tmp_path / "link").symlink_to(one)
    assert "is given twice" in refused(one, tmp_path / "link")


def test_two_checkpoints_of_one_step_are_of_two_runs(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "a" / "checkpoint-5"), saved(tmp_path / "b" / "checkpoint-5")
    assert f"{one} and {two} are both of step 5, so they are not of one run" in refused(one, two)


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"no checkpoint '{tmp_path}/none'" in refused(tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    assert "holds no weights; give the folder" in refused(tmp_path / "config.json")
    assert "holds no weights (it holds config.json)" in refused(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "it holds nothing" in refused(tmp_path / "empty")


def test_a_name_whose_weights_are_not_in_the_cache_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    monkeypatch.setattr("gamma_nlp.diagnose.checkpoints.find_config", lambda name: config)
    assert refused("owner/model") == (
        "the weights of 'owner/model' are not in the cache: run hf download owner/model first"
    )
    saved(tmp_path)
    (found,) = find("owner/model")
    assert found.label == "model" and found.file == tmp_path / "model.safetensors"


def test_a_checkpoint_of_a_run_that_has_no_weights_yet_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-2").mkdir()
    assert f"{tmp_path / 'checkpoint-2'} holds no weights" in refused(tmp_path)


def test_a_checkpoint_that_is_not_as_it_was_written_is_left_out_of_its_run(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        seal(saved(tmp_path / f"checkpoint-{step}", step=step))
    (tmp_path / "checkpoint-4" / "manifest.json").unlink()
    weights = tmp_path / "checkpoint-3" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    (tmp_path / "checkpoint-2" / "optimizer.pt").write_bytes(b"no matter")
    told: list[str] = []
    assert [one.step for one in find_checkpoints([str(tmp_path)], told.append)] == [1, 2]
    assert told == [
        f"left out of {tmp_path}: checkpoint-3: model.safetensors is damaged: its checksum is not "
        "the one it was written with",
        f"left out of {tmp_path}: checkpoint-4: it was not finished (it has no manifest)",
    ]
    for named in (weights, weights.parent):
        assert "checkpoint-3: model.safetensors is damaged" in refused(named)
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text('{"global_step": 7}')
    assert "checkpoint-2: trainer_state.json is damaged" in refused(tmp_path / "checkpoint-2")
    weights.unlink()
    shutil.rmtree(tmp_path / "checkpoint-1")
    shutil.rmtree(tmp_path / "checkpoint-2")
    left = "is whole (checkpoint-3: model.safetensors is missing; checkpoint-4: it was not fini"
    assert left in refused(tmp_path)


def test_of_large_weights_the_sizes_are_checked_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gamma_nlp.diagnose.checkpoints._MOST_READ", 9)
    seal(saved(tmp_path / "checkpoint-1"))
    told: list[str] = []
    assert len(find_checkpoints([str(tmp_path)], told.append)) == 1
    assert "GiB of weights were checked by their sizes alone" in told[0]
    (tmp_path / "checkpoint-1" / "model.safetensors").write_bytes(b"short")
    assert "model.safetensors has 5 bytes of" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("adapter_config.json", "holds an adapter alone; the gains are those of the model"),
        ("zero_to_fp32.py", "zero_to_fp32.py {0} OUT, and give OUT with --config"),
        ("global_step5/x", "DeepSpeed's shards of optimizer and weights"),
        ("pytorch_model_fsdp_0/__0_0.distcp", "accelerate merge-weights {0}/pytorch_model_fsdp_0"),
        ("__0_0.distcp", "accelerate merge-weights {0} OUT"),
        ("model-Q4.gguf", "holds model-Q4.gguf (GGUF)"),
        ("consolidated.00.pth", "holds consolidated.00.pth (PyTorch) and none of"),
    ],
)
def test_what_holds_no_whole_weights_says_what_to_type(
    tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / name
    os.makedirs(path.parent, exist_ok=True)
    path.write_text("{}")
    assert text.format(tmp_path) in refused(tmp_path)
