"""What the documentation says to write passes a user's type check; a misspelt word does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CODE = """
from gamma_nlp import DecayPolicy, param_groups
from gamma_nlp.decay.schedule import Schedule

DecayPolicy(schedule="lr_squared", target="one", mode="decoupled", rounding="keep", rule="timm")
DecayPolicy(schedule={"kind": "cosine", "end": 0.1}, schedules={"normalized": "lr_squared"})
DecayPolicy(schedule=Schedule(kind="linear"), kinds={"qk_norm": 0}, targets={"head": "one"})
DecayPolicy(schedule="lr_square")
DecayPolicy(schedules={"head": "cosin"})
DecayPolicy(target="two")
"""
SETTINGS = """
[mypy]
strict = true
[mypy-torch.*,transformers.*]
follow_imports = skip
"""


@pytest.mark.slow
def test_a_policy_takes_the_words_of_its_schedules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = pytest.importorskip("mypy.api")
    (tmp_path / "code.py").write_text(CODE.lstrip())
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    words = ["--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(tmp_path / "cache")]
    words += ["--follow-imports", "silent", "--python-executable", sys.executable]
    said, problems, _ = api.run([*words, str(tmp_path / "code.py")])
    assert problems == ""
    errors = [line.partition("code.py:")[2] for line in said.splitlines() if ": error:" in line]
    assert [line.split(":")[0] for line in errors] == ["7", "8", "9"], said
