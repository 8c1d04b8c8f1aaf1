from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path

import pytest

import gamma_nlp
from tests.support.paths import ROOT

SCRIPTS = [
    "scripts/gpu_check",
    "scripts/install_fairseq",
    "scripts/quickstart",
    "scripts/test",
    "scripts/prepare_iwslt14",
    "scripts/setup.sh",
    ".ci/run",
]

if not (ROOT / "scripts" / "test").is_file():
    pytest.skip("the scripts come with a checkout only", allow_module_level=True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_is_valid_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n", str(ROOT / script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", [s for s in SCRIPTS if not s.endswith(".sh")])
def test_script_stops_at_the_first_error(script: str) -> None:
    lines = (ROOT / script).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    code = [line for line in lines if line and not line.startswith("#")]
    assert code[0] == "set -euo pipefail"


def constraints() -> str:
    return (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_every_dependency_is_pinned() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r'"([a-z]+)(?:>=[^"]*)"', project.split("[project.scripts]")[0])
    pinned = set(re.findall(r"^([a-z0-9-]+)==", constraints(), re.MULTILINE))
    assert {"torch", "transformers", "ruff"} <= set(named)
    assert set(named) - {"hatchling"} <= pinned


def test_pins_with_a_marker_cover_every_python() -> None:
    found: dict[str, set[str]] = {}
    for line in constraints().splitlines():
        if "==" not in line or line.startswith("#"):
            continue
        pin, _, marker = line.partition("; python_version ")
        name = pin.partition("==")[0]
        found.setdefault(name, set()).add(marker)
    both = {'>= "3.11"', '< "3.11"'}
    only_old = {'< "3.11"'}  # backports
    assert all(markers in ({""}, both, only_old) for markers in found.values()), found


def test_version_is_the_same_everywhere() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{gamma_nlp.__version__}"' in project


@pytest.mark.needs("transformers")
def test_the_picture_of_the_stream_is_what_its_script_draws(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "stream_picture.py"))
    script["picture"](tmp_path / "stream.svg")
    committed = (ROOT / "scripts" / "stream.svg").read_text(encoding="utf-8")
    assert (tmp_path / "stream.svg").read_text(encoding="utf-8") == committed
