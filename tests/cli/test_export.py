"""``gamma-nlp export``: what is printed or written, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gamma_nlp.cli.main import main

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 32,
}


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA), encoding="utf-8")
    return str(path)


def test_it_prints_what_can_be_pasted(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", config, "--to", "torchtitan", "--weight-decay", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"# gamma-nlp export: {config} (LlamaForCausalLM), policy guidelines")
    assert r'pattern=r"\bnorm\.weight$"' in printed


def test_a_file_is_replaced_only_if_this_command_wrote_it(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "optimizer.yaml"
    command = ["export", config, "--to", "nemo_automodel", "-o", str(target)]
    assert main(command) == 0 and main([*command, "--policy", "iwd"]) == 0
    assert "policy iwd" in target.read_text(encoding="utf-8")
    target.write_text("mine: 1\n", encoding="utf-8")
    assert main(command) == 2
    assert "was not written by gamma-nlp export" in capsys.readouterr().err
    assert target.read_text(encoding="utf-8") == "mine: 1\n"
    listing = tmp_path / "decay.json"
    for _ in range(2):
        assert main(["export", config, "--to", "json", "-o", str(listing)]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "torchtitn"], "did you mean 'torchtitan'?"),
        (["--to", "timm", "--policy", "guideline"], "did you mean 'guidelines'?"),
        (["--to", "timm", "--weight-decay", "0"], "--weight-decay is 0"),
        (["--to", "timm", "--policy", "none", "--weight-decay", "0"], "--weight-decay is 0"),
        (["--to", "timm", "-o", "no/such/folder/x.py"], "there is no folder"),
        ([], "--to"),
    ],
)
def test_errors_say_what_to_type(
    config: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", config, *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_a_model_that_the_engine_lacks_is_answered_in_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    gemma = {**LLAMA, "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"]}
    path.write_text(json.dumps({**gemma, "num_key_value_heads": 2}), encoding="utf-8")
    target = tmp_path / "out.py"
    assert main(["export", str(path), "--to", "torchtitan", "-o", str(target)]) == 2
    error = capsys.readouterr().err
    assert "--names model" in error and "--to json" in error and not target.exists()
