"""``gamma-nlp plan``: the whole command, on real configs and the launch files that come along."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.cli.main import main
from tests.support.paths import RECIPES, ROOT

LLAMA = ROOT / "tests" / "launch" / "llama_3_405b.json"
PARAMETERS = 405_853_388_800
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def gemma(tmp_path: Path) -> str:
    config = {
        "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "hidden_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
        "intermediate_size": 16, "vocab_size": 32,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(tmp_path / "config.json")


def launch_file(name: str) -> list[str]:
    return ["--config", str(RECIPES / "accelerate" / f"{name}.yaml")]


def planned(capsys: Capture, *words: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["plan", *words, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_llama_3_405b_by_hand(capsys: Capture) -> None:
    options = ["--processes", "256", "--lr", "1e-4", "--steps", "100", "--dtype", "float32"]
    plan = planned(capsys, str(LLAMA), *launch_file("fsdp2_nodes"), *options)
    assert (plan["elements"], plan["tensors"], plan["refused"]) == (PARAMETERS, 1137, False)
    decayed, spared = plan["groups"]
    assert decayed["holds"] == {"embedding": 1, "weight": 883, "branch_inner": 252}
    assert (spared["holds"], spared["elements"]) == ({"head": 1}, 16384)
    memory = {part["what"]: part["bytes"] for part in plan["memory"]}
    assert memory["weights"] == memory["gradients"] == 4 * PARAMETERS // 256
    assert memory["optimizer state"] == 8 * PARAMETERS // 256 + 4 * 1137
    assert plan["bytes"] == {"GPU": 16 * PARAMETERS // 256 + 4 * 1137}


def test_llama_3_405b_takes_seconds(capsys: Capture) -> None:
    """Without the imports, which take as long again."""
    words = [str(LLAMA), *launch_file("fsdp2_nodes")]
    planned(capsys, *words)
    start = time.process_time()
    planned(capsys, *words)
    assert time.process_time() - start < 2.5


@pytest.mark.slow
def test_llama_3_405b_with_imports_takes_less_than_five_seconds_of_a_quiet_machine() -> None:
    """Against the imports alone, as the machine may be shared."""

    def seconds(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=ROOT)
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    bare = seconds("-c", "import torch, transformers.models.llama.modeling_llama")
    plan = ["-m", "gamma_nlp.cli.main", "plan", str(LLAMA), *launch_file("fsdp2_nodes")]
    assert seconds(*plan) < max(5.0, 1.5 * bare)


def test_text_says_groups_memory_doses_and_what_the_engine_does(
    gemma: str, capsys: Capture
) -> None:
    words = [gemma, *launch_file("fsdp2_nodes"), "--dose", "0.1", "--lr", "1e-3", "--steps", "100"]
    assert main(["plan", *words]) == 0
    text = capsys.readouterr().out
    assert "16 processes on 2 machines, FSDP2; bf16 mixed precision, AdamW" in text
    assert "dose: branch_inner 10 %" in text and "head 0 %" in text
    assert "the policy needs the step hook: decay of 1 + w toward gain 0 (6 tensors)" in text
    assert "total on GPU" in text and "1/16" in text and "left out: activations" in text
    assert "note: " in text and "refused" not in text


def test_a_refusal_exits_with_1_and_says_the_line_to_change(gemma: str, capsys: Capture) -> None:
    for file in ("zero2", "zero3"):
        assert main(["plan", gemma, *launch_file(file)]) == 0
        assert "refused" not in capsys.readouterr().out
    config = Path(gemma).with_name("ds.json")
    config.write_text(
        '{"zero_optimization": {"stage": 2,\n"offload_optimizer": {"device": "cpu"}}}',
        encoding="utf-8",
    )
    assert main(["plan", gemma, "--config", str(config), "--processes", "2"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "ds.json:2: GammaTrainer refuses" in text and "give the policy `target: stored`" in text
    assert text.endswith("this run would be refused")
    config.write_text('{"zero_optimization": {"stage": 2},\n"optimizer": {}}', encoding="utf-8")
    words = ["--config", str(config), "--processes", "2", "--policy", "none"]
    assert main(["plan", gemma, *words]) == 1
    assert "ds.json:2: DeepSpeed makes the optimizer" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "2"], "--processes goes with --config FILE"),
        (["--processes", "0"], "--processes must be at least 1, not 0"),
        (["--config", "missing.yaml"], "cannot read missing.yaml"),
        (["--dose", "0.1"], "--dose needs --lr and --steps"),
        (["--dose", "2", "--lr", "1", "--steps", "3"], "--dose must lie between 0 and 1"),
        (["--optim", "adam"], "invalid choice: 'adam'"),
        (["--momentum", "0.9"], "--momentum goes with --optim sgd"),
        (["--weight-decay", "-1"], "--weight-decay must be a number >= 0"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    gemma: str, words: list[str], message: str, capsys: Capture
) -> None:
    assert main(["plan", gemma, *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_frozen_and_tied_parameters_and_every_kind_of_model(
    tmp_path: Path, capsys: Capture
) -> None:
    models: dict[str, dict[str, Any]] = {
        "mixtral": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                    "num_key_value_heads": 1, "intermediate_size": 16, "vocab_size": 32,
                    "num_local_experts": 2},
        "t5": {"d_model": 8, "num_layers": 1, "num_heads": 2, "d_ff": 16, "vocab_size": 32},
        "gpt2": {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 32, "n_positions": 16},
    }  # fmt: skip
    for kind, sizes in models.items():
        path = tmp_path / f"{kind}.json"
        path.write_text(json.dumps({"model_type": kind, **sizes}), encoding="utf-8")
        plan = planned(capsys, str(path), *launch_file("eight_gpu"), "--policy", "all")
        assert sum(group["elements"] for group in plan["groups"]) == plan["elements"]
        assert {part["what"] for part in plan["memory"]} >= {"weights", "gradient buckets"}


def test_sgd_has_no_state_and_its_own_dose(gemma: str, capsys: Capture) -> None:
    run = ["--lr", "0.1", "--steps", "100", "--optim", "sgd", "--policy", "all"]
    plain = planned(capsys, gemma, *run)
    assert {part["what"]: part["bytes"] for part in plain["memory"]}["optimizer state"] == 0
    swift = planned(capsys, gemma, *run, "--momentum", "0.9")
    assert swift["doses"]["head"][0] > 5 * plain["doses"]["head"][0]
    adaptive = planned(capsys, gemma, "--lr", "0.1", "--steps", "9", "--optim", "rmsprop")
    assert adaptive["doses"]["branch_inner"] is None
