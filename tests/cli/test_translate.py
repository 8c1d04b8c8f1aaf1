"""``gamma-nlp translate``: lines in, as many lines out; which model; what goes wrong."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp.cli import main
from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation import decode as decoding
from gamma_nlp.tasks.translation.checkpoints import find_model, load_saved
from gamma_nlp.tasks.translation.decode import Search, decode
from gamma_nlp.tasks.translation.text import TranslationText
from tests.support.tiny_run import POSITIONS, checkpoint, tiny_run

Capture = pytest.CaptureFixture[str]
LINES = ["Ein Hund 3.", "", "  \t", "Der Hund läuft 4 1 0.", "Ein Dog 5 5 5."]
BLANK = [1, 2]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tiny_run(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.de"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path


class Input(io.StringIO):
    """Standard input with these bytes."""

    def __init__(self, content: bytes, *, terminal: bool = False) -> None:
        super().__init__()
        self.buffer = io.BytesIO(content)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def translate(*words: object) -> int:
    return main.main(["translate", *map(str, words)])


def error(capsys: Capture, *words: object) -> str:
    """The one line on standard error of a command that must fail."""
    assert translate(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def expected(run: Path, lines: list[str], model: str = "averaged", **search: Any) -> list[str]:
    """Tokenised translations, made by hand."""
    text = TranslationText.load(run)
    sources = text.encode_source(text.subwords(lines))
    return text.decode(decode(load_saved(run / model), sources, Search(**search)))


def test_lines_come_out_in_order_and_empty_ones_stay_empty(
    run: Path, file: Path, capsys: Capture
) -> None:
    nonempty = [line for line in LINES if line.strip()]
    tokens = expected(run, nonempty)
    assert len(set(tokens)) == len(nonempty)
    assert translate(run, file, "--tokens") == 0
    out = capsys.readouterr().out
    assert out.endswith("\n")
    found = out[:-1].split("\n")
    assert [found[i] for i in BLANK] == ["", ""]
    assert [line for i, line in enumerate(found) if i not in BLANK] == tokens
    assert translate(run, file) == 0
    captured = capsys.readouterr()
    plain = TranslationText.load(run).plain(tokens)
    assert [line for line in captured.out.split("\n") if line] == plain
    assert captured.err == ""


def test_vocabularies_may_be_separate(tmp_path: Path, capsys: Capture) -> None:
    run = tiny_run(tmp_path, joint=False)
    (tmp_path / "in").write_text("Ein Hund 3.\n")
    assert translate(run, tmp_path / "in", "--tokens") == 0
    assert capsys.readouterr().out == f"{expected(run, ['Ein Hund 3.'])[0]}\n"


def test_options_of_the_search_are_used(run: Path, file: Path, capsys: Capture) -> None:
    nonempty = [line for line in LINES if line.strip()]
    search = {"beams": 2, "length_penalty": 0.0}
    assert expected(run, nonempty, **search) != expected(run, nonempty)
    options = ("--beams", 2, "--length-penalty", 0, "--max-tokens", 9, "--tokens", "--threads", 1)
    assert translate(run, file, *options) == 0
    found = [line for line in capsys.readouterr().out.split("\n") if line]
    assert found == expected(run, nonempty, **search)


def test_standard_input_is_read_without_a_file(
    run: Path, file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert translate(run, file) == 0
    from_file = capsys.readouterr()
    content = file.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    monkeypatch.setattr(sys, "stdin", Input(b"\xef\xbb\xbf" + content))
    assert translate(run) == 0
    assert capsys.readouterr() == from_file


def test_no_lines_give_no_lines(run: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").write_text("")
    assert translate(run, tmp_path / "empty") == 0
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_each_line_at_once_and_survives_a_bad_one(
    run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = f"Ein Hund 3.\n\n{'5 ' * POSITIONS}\n".encode() + b"\xff\nEin Dog 5 5 5."
    monkeypatch.setattr(sys, "stdin", Input(content, terminal=True))
    assert translate(run, "--tokens") == 0
    captured = capsys.readouterr()
    first, *others = expected(run, ["Ein Hund 3.", "\N{REPLACEMENT CHARACTER}", "Ein Dog 5 5 5."])
    assert captured.out == "\n".join([first, "", *others, ""])
    hint, long = captured.err.splitlines()
    assert "Ctrl-D" in hint
    assert "error: this line has 41 tokens" in long


def test_an_output_file_is_written_whole_or_not_at_all(
    run: Path, file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert translate(run, file) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "out" / "in.en"
    out.parent.mkdir()
    assert translate(run, file, "-o", out) == 0
    assert out.read_bytes() == printed.encode()

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(decoding, "decode", fail)
    message = error(capsys, run, file, "-o", out)
    assert "batches of 4096 tokens; give a smaller --max-tokens" in message
    assert out.read_bytes() == printed.encode()
    assert [path.name for path in out.parent.iterdir()] == ["in.en"]


def test_an_output_may_be_a_link_to_a_file(run: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert translate(run, file, "-o", tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert len((tmp_path / "target").read_text().split("\n")) == len(LINES) + 1


def test_an_unfinished_run_translates_with_its_last_checkpoint(
    tmp_path: Path, file: Path, capsys: Capture
) -> None:
    run = tiny_run(tmp_path, averaged=False)
    for step in (90, 100):  # by number, not by name
        checkpoint(run, step, seed=step)
    shutil.copytree(run / "checkpoint-90", run / "checkpoint-200")
    (run / "checkpoint-200" / "trainer_state.json").unlink()  # killed while it was written
    assert translate(run, file, "--tokens") == 0
    captured = capsys.readouterr()
    assert captured.out.split("\n")[0] == expected(run, LINES[:1], "checkpoint-100")[0]
    assert captured.err == f"note: {run} is not finished; translating with checkpoint-100\n"


def test_a_checkpoint_is_chosen_by_name_even_in_a_folder_that_was_moved(
    run: Path, tmp_path: Path, file: Path, capsys: Capture
) -> None:
    for step in (5, 10, 15):
        checkpoint(run, step, seed=step, best=str(run / "checkpoint-10"))
    moved = run.rename(tmp_path / "moved")
    names = {
        "averaged": "averaged",
        "best": "checkpoint-10",
        "last": "checkpoint-15",
        "checkpoint-5": "checkpoint-5",
    }
    for name, folder in names.items():
        assert find_model(moved, name) == moved / folder
    assert find_model(moved) == moved / "averaged"
    assert translate(moved, file, "--tokens", "--checkpoint", "best") == 0
    captured = capsys.readouterr()
    assert captured.out.split("\n")[0] == expected(moved, LINES[:1], "checkpoint-10")[0]
    assert captured.err == ""


def test_a_path_of_another_system_names_the_best_checkpoint(run: Path) -> None:
    checkpoint(run, 5)
    checkpoint(run, 10, best="C:\\runs\\checkpoint-5\\")
    assert find_model(run, "best") == run / "checkpoint-5"


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


def test_help_states_the_defaults_of_the_search(capsys: Capture) -> None:
    assert translate("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"--beams N ({Search.beams})" in text
    assert f"shorter ones ({Search.length_penalty})" in text
    assert f"of the longest ({Search.max_tokens})" in text


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


def test_a_long_file_is_translated_in_parts_and_checked_before_the_first(
    run: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line of a file that cannot be translated to its end comes out."""
    many = tmp_path / "many.de"
    many.write_text("".join(f"{line}\n" for line in LINES * 3), encoding="utf-8")
    assert translate(run, many) == 0
    whole = capsys.readouterr().out
    monkeypatch.setattr("gamma_nlp.cli.translate.PART", 2)
    assert translate(run, many) == 0
    assert capsys.readouterr().out == whole
    assert translate(run, many, "-o", tmp_path / "out.en") == 0
    assert (tmp_path / "out.en").read_text(encoding="utf-8") == whole
    many.write_text("Ein Hund.\n" * 6 + "5 " * POSITIONS)
    assert f"{many}:7 has 41 tokens" in error(capsys, run, many)


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
