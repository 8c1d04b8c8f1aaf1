"""The command refuses in one line what it cannot do, and shares its minutes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from gamma_nlp import GammaError
from tests.support.paths import SCRIPTS

NAMES = ["correctness", "optimizer", "translation", "sst2", "rate", "study"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a folder for the results"),
        (["OUT", "--minutes", "0"], "--minutes must be a number above 0, not 0"),
        (["OUT", "--minutes", "nan"], "--minutes must be a number above 0, not nan"),
        (["OUT", "--minutes", "soon"], "--minutes: invalid float value: 'soon'"),
        (["OUT", "--only", "translations"], "no stage 'translations'; did you mean 'translation'"),
        (["OUT", "--only"], "--only: expected at least one argument"),
        (["OUT", "--device", "tpu"], "--device: invalid choice: 'tpu'"),
        (["OUT", "--data", "OUT"], "OUT is no prepared folder .* bash scripts/prepare_iwslt14"),
        (["OUT", "more"], "more"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    command: ModuleType, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(command.main, words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    with pytest.raises(GammaError, match=message):
        command.arguments(words)


def test_a_folder_with_results_is_not_written_over(command: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "log.txt").touch()
    command.arguments([str(tmp_path)])
    (tmp_path / "sst2.json").touch()
    with pytest.raises(GammaError, match="holds results already"):
        command.arguments([str(tmp_path)])
    with pytest.raises(GammaError, match="is a file"):
        command.arguments([str(tmp_path / "log.txt")])


def test_stages_run_most_important_first_whatever_the_order_of_only(command: ModuleType) -> None:
    assert [stage.name for stage in command.arguments(["OUT"])[1]] == NAMES
    _, chosen = command.arguments(["OUT", "--only", "study", "optimizer"])
    assert [stage.name for stage in chosen] == ["optimizer", "study"]


def test_parts_that_use_their_limits_end_with_the_whole(load: Callable[[str], ModuleType]) -> None:
    module = load("stages")
    known, left = module.stages(), 475.0
    total = sum(stage.seconds for stage in known)
    for index, stage in enumerate(known):
        own = module.share(left, stage, known[index + 1 :])
        assert own == pytest.approx(475.0 * stage.seconds / total), stage.name
        left -= own
        for number in range(len(stage.parts)):
            limit = module.limit(own, len(stage.parts) - number)
            assert 0 < limit <= own
            own -= limit
        assert own == pytest.approx(0.0, abs=1e-6)
    assert left == pytest.approx(0.0, abs=1e-6)


def test_what_a_stage_leaves_goes_to_later_ones(load: Callable[[str], ModuleType]) -> None:
    module = load("stages")
    first, *later = module.stages()
    few, many = (module.share(left, later[0], later[1:]) for left in (100.0, 200.0))
    assert many == pytest.approx(2 * few)
    assert module.share(100.0, later[-1], []) == module.limit(100.0, 1) == 100.0
    assert module.limit(100.0, len(first.parts)) < 40


def test_every_test_marked_for_a_gpu_is_a_part(load: Callable[[str], ModuleType]) -> None:
    files = [path.name for path in load("stages").test_files()]
    assert {"test_places.py", "test_doses.py", "test_zero.py"} <= set(files)
    assert files[-1] == "test_compiled.py" or "graphs" in files[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_in_one_line(
    command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(command.main, [str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: there is no CUDA device (")
    assert line.endswith("to try the command: --device cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_every_stage_runs_on_the_cpu(tmp_path: Path) -> None:
    script, out = SCRIPTS / "gpu_check", tmp_path / "out"
    words = ["bash", str(script), str(out), "--device", "cpu", "--quick", "--minutes", "20"]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (out / "README.md").read_text(encoding="utf-8")
    assert "no figure here is a measurement" in table
    for name in NAMES:
        found = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
        states = {part["part"]: (part["state"], part["why"]) for part in found["parts"]}
        assert {state for state, _ in states.values()} <= {"done", "skipped"}, states
        assert f"| {name} |" in table
        assert any(part["rows"] for part in found["parts"]), states
    assert "**FAIL**" not in table
