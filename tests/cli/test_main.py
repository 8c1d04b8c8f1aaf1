"""``gamma-nlp`` names its commands, and a user's error is one line."""

from __future__ import annotations

import argparse
import gc
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import gamma_nlp
from gamma_nlp.cli import demo, main
from tests.support.command_line import Capture


def test_garbage_is_collected_seldom_while_a_command_runs_and_as_before_after_it(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before, within = gc.get_threshold(), []
    real = argparse.ArgumentParser.parse_known_args

    def parsed(self: argparse.ArgumentParser, *words: object, **more: object) -> object:
        found, left = real(self, *words, **more)  # type: ignore[arg-type]
        found.run = lambda arguments: within.append(gc.get_threshold()[0]) or 2
        return found, left

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parsed)
    assert main.main(["audit", model]) == 2
    assert within[-1] > 10_000 and gc.get_threshold() == before


def test_audit_prints_and_dumps(model: str, capsys: Capture) -> None:
    assert main.main(["audit", model]) == 0
    assert "decayed by accident: none" in capsys.readouterr().out
    assert main.main(["audit", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decayed_by_accident"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table", "./nope"], "no model './nope'"),
        (["audit", "./nope"], "no model './nope'"),
        (["table", "MODEL", "--policy", "guidlines"], "guidelines"),
        (
            ["table", "MODEL", "--weight-decay", "-1"],
            "--weight-decay must be a number >= 0, not -1",
        ),
        (["table", "MODEL", "--weight-decay", "nan"], "--weight-decay must be a number >= 0"),
        (["table", "MODEL", "--weight-decay", "inf"], "--weight-decay must be a number >= 0"),
        (
            ["table", "MODEL", "--policy", "all", "--weight-decay", "0"],
            "--weight-decay is 0",
        ),
        (["table", "MODEL", "--warmup", "5"], "--warmup goes with --lr and --steps"),
        (["table", "MODEL", "--warmup", "0"], "--warmup goes with --lr and --steps"),
        (["table", "MODEL", "--schedule", "cosine"], "--schedule goes with --lr and --steps"),
        (["table", "MODEL", "--lr", "1", "--steps", "9" * 12], "--steps must be at most"),
        (["table", ""], "MODEL is empty"),
        (["table", "  "], "MODEL is empty"),
        (["table", "~nobody-of-this-name/x"], "no model '~nobody"),
        (["table", "MODEL", "--policy", ""], "unknown policy ''"),
        (["coverage", "--types", ""], "'' is not a model type"),
        (["coverage", "--types", "brt"], "did you mean 'bert'"),
        (["audit", "--all", "--types", "bert,"], "'' is not a model type"),
        (["table", "MODEL", "--lr", "1e-3"], "--steps is missing"),
        (["table", "MODEL", "--steps", "5"], "--lr is missing"),
        (["table", "MODEL", "--lr", "0", "--steps", "5"], "--lr must be"),
        (["table", "MODEL", "--lr", "1", "--steps", "5", "--warmup", "6"], "--warmup"),
        (
            ["table", "MODEL", "--lr", "1e-8", "--steps", "5", "--schedule", "polynomial"],
            "--schedule polynomial --lr 1e-08 cannot be planned: lr_end (1e-07) must be",
        ),
        (
            [
                "table",
                "MODEL",
                "--lr",
                "1",
                "--steps",
                "5",
                "--warmup",
                "1",
                "--schedule",
                "constant",
            ],
            "give --schedule constant_with_warmup",
        ),
    ],
)
def test_user_errors_exit_2_without_output(
    words: list[str], message: str, model: str, capsys: Capture
) -> None:
    assert main.main([model if word == "MODEL" else word for word in words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert message in output.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND; for help type: gamma-nlp --help"),
        (["tabel"], "no command 'tabel'; did you mean 'table'?"),
        (["xyz"], "no command 'xyz'; the commands are table, audit, probe,"),
        (["table"], "required: MODEL; for help type: gamma-nlp table --help"),
        (["table", "m", "--jsno"], "gamma-nlp table takes no '--jsno'; did you mean '--json'?"),
        (["--jsno", "table", "m"], "gamma-nlp table takes no '--jsno'; did you mean '--json'?"),
        (["--jsno", "tabel", "m"], "no command 'tabel'; did you mean 'table'?"),
        (["table", "m", "--lr", "high"], "--lr: invalid float value: 'high'; for help type: "),
        (["score", "a", "b", "c"], "takes no 'c'; for help type: gamma-nlp score --help"),
        (["demo", "--epoch", "x"], "invalid float value: 'x'; for help type: gamma-nlp demo"),
    ],
)
def test_wrong_use_exits_2_and_says_what_to_type(
    words: list[str], message: str, capsys: Capture
) -> None:
    assert main.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err


def test_version_is_the_packages(capsys: Capture) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"gamma-nlp {gamma_nlp.__version__}"


def test_help_names_every_command_with_its_question(capsys: Capture) -> None:
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, question in main.COMMANDS.items():
        assert f"  {name:11}{question}\n" in text
    assert max(map(len, text.splitlines())) < 80


@pytest.mark.parametrize("command", main.COMMANDS)
def test_help_of_a_command_ends_with_examples_that_parse(command: str, capsys: Capture) -> None:
    assert main.main([command, "--help"]) == 0
    text, _, examples = capsys.readouterr().out.partition("\nexamples:\n")
    assert main.COMMANDS[command] in text
    lines = examples.splitlines()
    assert 2 <= len(lines) <= 3
    for line in lines:
        words = shlex.split(line.partition("| ")[2] or line)
        assert words[:2] == ["gamma-nlp", command]
        main.parser().parse_args(words[1:])


def test_help_and_version_import_no_torch() -> None:
    code = """
import sys
from gamma_nlp.cli import main
for words in [["--version"], ["--help"], ["tabel"], *([c, "--help"] for c in main.COMMANDS)]:
    main.main(words)
    heavy = {"torch", "transformers", "numpy"} & set(sys.modules)
    assert not heavy, (words, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_interrupted_command_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.demo, "run", stop)
    assert main.main(["demo"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_an_output_folder_below_a_file_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    assert main.main(["demo", "--output", str(tmp_path / "file" / "out")]) == 2
    error = f"error: cannot use {tmp_path / 'file' / 'out'}: Not a directory; check the path\n"
    assert capsys.readouterr().err == error


def test_demo_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []

    def record(arguments: argparse.Namespace, note: object) -> int:
        seen.append(arguments)
        return 1

    monkeypatch.setattr(demo.demo, "run", record)
    assert main.main(["demo", "--output", "x", "--dose", "0.2"]) == 1
    assert (str(seen[0].output), seen[0].dose) == ("x", 0.2)
