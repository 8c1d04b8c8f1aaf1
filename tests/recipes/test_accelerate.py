"""The launch files that come along: read by accelerate's own loader, started by their own line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from gamma_nlp.launch.reading import read_launch
from tests.support.paths import RECIPES, ROOT

FOLDER = RECIPES / "accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))
EXPECTED = {
    "one_gpu": ("one process", 1, 1, 1, 0),
    "eight_gpu": ("DDP", 8, 1, 1, 0),
    "fsdp2_nodes": ("FSDP2", 16, 2, 16, 0),
    "zero2": ("DeepSpeed", 8, 1, 8, 2),
    "zero3": ("DeepSpeed", 8, 1, 8, 3),
}


def head(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(line[1:].strip() for line in lines if line.startswith("#"))


def commands(path: Path) -> list[list[str]]:
    """The words behind each ``accelerate launch`` of a head, continued lines joined."""
    text = head(path).replace("\\ ", "")
    found = re.findall(r"accelerate launch (.*?\.py \S+\.yaml)", text)
    return [shlex.split(line) for line in found]


def test_they_are_those_that_are_expected() -> None:
    assert {path.stem for path in FILES} == set(EXPECTED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_loads_it_and_so_does_the_plan(path: Path) -> None:
    config = load_config_from_file(str(path))
    launch = read_launch(path)
    expected = EXPECTED[path.stem]
    assert (
        launch.engine, launch.processes, launch.machines, launch.shard, launch.stage
    ) == expected  # fmt: skip
    assert (config.num_processes, config.num_machines) == expected[1:3]
    assert launch.precision == config.mixed_precision == "bf16" and not launch.ignored


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_head_starts_both_recipes_with_this_file(path: Path) -> None:
    parser = launch_command_parser()
    words = {"RANK": "0"}
    scripts = []
    for line in commands(path):
        parsed = parser.parse_args([words.get(word, word) for word in line])
        assert parsed.config_file == path.relative_to(ROOT).as_posix()
        assert (ROOT / parsed.training_script).is_file()
        assert (ROOT / parsed.training_script_args[0]).is_file()
        scripts.append(parsed.training_script)
    assert scripts == ["recipes/sst2.py", "recipes/translation.py"]


@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_zero_has_no_optimizer_of_its_own(stage: str) -> None:
    config = load_config_from_file(str(FOLDER / f"{stage}.yaml"))
    assert "deepspeed_config_file" not in config.deepspeed_config


def test_fsdp_keeps_each_parameter_itself() -> None:
    config = load_config_from_file(str(FOLDER / "fsdp2_nodes.yaml"))
    assert config.fsdp_config["fsdp_version"] == 2
