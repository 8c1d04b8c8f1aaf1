"""``gamma-nlp audit`` with a rule of another trainer, and its exit code in tests of users."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gamma_nlp.cli import main

Capture = pytest.CaptureFixture[str]
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16,
    "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 16,
}  # fmt: skip


@pytest.fixture
def llama(tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA), encoding="utf-8")
    return str(path)


def test_an_accident_fails_only_where_that_is_asked_for(llama: str, capsys: Capture) -> None:
    rule = ["audit", llama, "--rule", "llama_factory"]
    assert main.main(rule) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("LlamaForCausalLM: LLaMA-Factory 0.9.5 with GaLore, APOLLO or BAdam ")
    assert "gain, branch_inner   4        4\n" in printed
    assert "decayed by accident: 1\n" in printed
    assert main.main([*rule, "--fail-on", "accident"]) == 1
    assert main.main(["audit", llama, "--fail-on", "accident"]) == 0  # the stock rule is right
    capsys.readouterr()
    assert main.main([*rule, "--fail-on", "accident", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["accidents"] == ["model.norm.weight"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rule", "llama-factory"], "no rule 'llama-factory': it is one of hugging_face, "),
        (["--rule"], "--rule"),
        (["--fail-on", "gains"], "--fail-on"),
    ],
)
def test_a_mistyped_rule_exits_2(
    words: list[str], message: str, llama: str, capsys: Capture
) -> None:
    assert main.main(["audit", llama, *words]) == 2
    output = capsys.readouterr()
    assert output.out == "" and message in output.err and output.err.count("\n") == 1


def test_all_types_are_audited_by_the_stock_rule_alone(capsys: Capture) -> None:
    assert main.main(["audit", "--all", "--rule", "timm"]) == 2
    assert "--rule goes with a MODEL only" in capsys.readouterr().err
    accident = ["audit", "--all", "--fail-on", "accident", "--jobs", "1", "--types"]
    assert main.main([*accident, "mamba"]) == 1
