"""``gamma-nlp translate`` names what it cannot use, and overwrites nothing of a run."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.checkpoints import find_model
from tests.support.tiny_run import POSITIONS, checkpoint, tiny_run
from tests.support.translated import Capture, Input, error


def test_what_is_not_there_is_named_with_what_is(run: Path) -> None:
    with pytest.raises(GammaError, match="no checkpoints, only averaged; leave out --checkpoint"):
        find_model(run, "best")
    checkpoint(run, 5)
    checkpoint(run, 10)
    with pytest.raises(GammaError, match="checkpoint-10 does not say which checkpoint is best"):
        find_model(run, "best")
    with pytest.raises(GammaError, match="no checkpoint-7; it has checkpoint-5, checkpoint-10, av"):
        find_model(run, "checkpoint-7")
    state = {"best_model_checkpoint": "x/checkpoint-2"}  # deleted by save_total_limit
    (run / "checkpoint-10/trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(GammaError, match="no checkpoint-2; it has"):
        find_model(run, "best")
    shutil.rmtree(run / "averaged")
    with pytest.raises(GammaError, match="no averaged; it has checkpoint-5, checkpoint-10"):
        find_model(run, "averaged")


def test_a_run_without_a_model_is_named(tmp_path: Path, file: Path, capsys: Capture) -> None:
    run = tiny_run(tmp_path, averaged=False)
    assert f"{run} has no model yet" in error(capsys, run, file)


def test_a_folder_that_is_not_a_run_is_named(tmp_path: Path, file: Path, capsys: Capture) -> None:
    message = error(capsys, tmp_path, file)
    assert f"{tmp_path} is not the folder of a translation run" in message


@pytest.mark.parametrize("kind", ["nothing", "a file", "other files"])
def test_what_is_there_in_place_of_a_run_is_told(
    kind: str, tmp_path: Path, file: Path, capsys: Capture
) -> None:
    place, told = tmp_path / "place", "there is no such folder;"
    if kind == "a file":
        place.touch()
        told = "it is a file;"
    elif kind == "other files":
        (place / "guidelines-seed1").mkdir(parents=True)
        told = "it holds 'guidelines-seed1', and no text;"
    message = error(capsys, place, file)
    assert f"{place} is not the folder of a translation run: {told} give the output_dir" in message
    assert f"{place}/text" not in message


def link_to(file: Path, kind: str) -> Path:
    """Another name of a file."""
    other = file.parent / "other"
    if kind == "symbolic link":
        other.symlink_to(file)
    elif kind == "hard link":
        other.hardlink_to(file)
    elif kind == "detour":
        (file.parent / "sub").mkdir()
        other = file.parent / "sub" / ".." / file.name
    else:
        other = file
    return other


@pytest.mark.parametrize("kind", ["itself", "symbolic link", "hard link", "detour"])
def test_the_input_is_not_overwritten(
    kind: str, run: Path, file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()
    assert "is the same file as" in error(capsys, run, file, "-o", link_to(file, kind))
    with file.open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert "is the same file as standard input" in error(capsys, run, "-o", file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["text/codes", "averaged/model.safetensors"])
def test_a_file_of_the_run_is_not_overwritten(
    name: str, run: Path, file: Path, capsys: Capture
) -> None:
    before = (run / name).read_bytes()
    assert "is a file of the run" in error(capsys, run, file, "-o", run / name)
    assert (run / name).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text/codes", "a b c d\n"),
        ("text/codes", ""),
        ("text/text.json", '{"source_language": 5}'),
        ("text/text.json", "[" * 100_000),
        ("text/source/tokenizer.json", '{"model": 3}'),
        ("text/source/tokenizer.json", "{"),
        ("averaged/config.json", "[]"),
    ],
)
def test_a_damaged_file_of_the_run_is_one_line(
    name: str, content: str, run: Path, file: Path, capsys: Capture
) -> None:
    (run / name).write_text(content)
    assert str(run) in error(capsys, run, file)


def test_weights_of_another_model_are_refused(run: Path, file: Path, capsys: Capture) -> None:
    from safetensors.torch import save_file

    save_file({"other.weight": torch.ones(2)}, run / "averaged/model.safetensors", {"format": "pt"})
    assert "which would be random" in error(capsys, run, file)


@pytest.mark.parametrize("content", ["[]", "{}", '{"best_model_checkpoint": null}'])
def test_a_damaged_state_is_named(content: str, run: Path) -> None:
    checkpoint(run, 5)
    (run / "checkpoint-5/trainer_state.json").write_text(content)
    with pytest.raises(GammaError, match="checkpoint-5"):
        find_model(run, "best")


def test_a_damaged_model_is_named(run: Path, file: Path, capsys: Capture) -> None:
    (run / "averaged/model.safetensors").write_bytes(b"x")
    assert f"the model in {run / 'averaged'} cannot be loaded" in error(capsys, run, file)


def test_bad_input_is_named_with_file_and_line(run: Path, tmp_path: Path, capsys: Capture) -> None:
    bad = tmp_path / "bad.de"
    assert f"cannot read {bad}: No such file" in error(capsys, run, bad)
    bad.write_bytes(b"ein\nh\xfcnd\n")
    assert f"{bad}:2: byte 0xfc at offset 5 is not UTF-8" in error(capsys, run, bad)
    bad.write_text(f"ein\n\n{'5 ' * POSITIONS}\n")
    message = f"{bad}:3 has 41 tokens with its end token, and the model takes at most 40"
    assert message in error(capsys, run, bad)


def test_bad_options_are_named_before_anything_is_loaded(tmp_path: Path, capsys: Capture) -> None:
    for option in ("--beams", "--max-tokens", "--threads"):
        message = f"{option} must be at least 1, not 0"
        assert message in error(capsys, "no-run", "no-file", option, "0")
    message = "--beams must be at most 1000, not 99999"
    assert message in error(capsys, "no-run", "no-file", "--beams", "99999")
    message = "--length-penalty must be a finite number"
    assert message in error(capsys, "no-run", "no-file", "--length-penalty", "nan")
    message = f"there is no folder {tmp_path / 'no'}; make it first"
    assert message in error(capsys, "no-run", "no-file", "-o", tmp_path / "no/out")
    message = f"--output {tmp_path} is not a file"
    assert message in error(capsys, "no-run", "no-file", "-o", tmp_path)


def test_a_folder_of_another_number_of_layers_is_refused(
    run: Path, file: Path, capsys: Capture
) -> None:
    config = run / "averaged" / "config.json"
    settings = json.loads(config.read_text())
    for change, told in ((1, "would be random"), (-1, "more layers than its config says")):
        layers = settings["encoder_layers"] + change
        config.write_text(json.dumps(settings | {"encoder_layers": layers}))
        assert told in error(capsys, run, file)
    config.write_text(json.dumps(settings | {"encoder_layers": 10**7}))
    assert "encoder_layers is 10000000, more than any model has" in error(capsys, run, file)


def test_code_in_a_folder_is_never_run_unasked(
    run: Path, file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ran = run / "averaged", tmp_path / "ran"
    (folder / "theirs.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (folder / "config.json").write_text(json.dumps(settings))
    monkeypatch.setattr(sys, "stdin", Input(b"yes\n" * 9))
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    message = error(capsys, run, file)
    assert "auto_map), which are not run; " in message and "--trust-remote-code" in message
    assert not ran.exists()
