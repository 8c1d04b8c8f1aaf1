"""``gamma-nlp translate`` gives a line for each line, with the model that was asked for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp.tasks.translation import decode as decoding
from gamma_nlp.tasks.translation.checkpoints import find_model, load_saved
from gamma_nlp.tasks.translation.decode import Search, decode
from gamma_nlp.tasks.translation.text import TranslationText
from tests.support.tiny_run import POSITIONS, checkpoint, tiny_run
from tests.support.translated import LINES, Capture, Input, error, translate

BLANK = [1, 2]


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


def test_help_states_the_defaults_of_the_search(capsys: Capture) -> None:
    assert translate("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"--beams N ({Search.beams})" in text
    assert f"shorter ones ({Search.length_penalty})" in text
    assert f"of the longest ({Search.max_tokens})" in text


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
