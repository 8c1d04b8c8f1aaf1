"""The commands and ``gamma_adam`` in whole runs of the installed fairseq."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gamma_nlp import param_groups
from tests.support.fairseq_runs import ADAM, TINY, Session, call, need_fairseq
from tests.support.paths import ROOT
from tests.support.torchrun import two_processes

need_fairseq()

PRESETS = [
    "guidelines",
    pytest.param("input_only", marks=pytest.mark.slow),
    pytest.param("none", marks=pytest.mark.slow),
    pytest.param("all", marks=pytest.mark.slow),
    pytest.param("all_params", marks=pytest.mark.slow),
]


def test_a_run_trains_resumes_and_translates(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train = [data, *TINY, *ADAM, "--save-dir", run]
    with caplog.at_level(logging.INFO):
        assert call("train", *train, "--max-update", 2) == 0
    table = json.loads((run / "gain_table.json").read_text())
    assert {row["category"] for row in table["gains"]} == {"branch_inner", "head"}
    assert table["sum_of_learning_rates"] == pytest.approx(0.02)
    assert caplog.text.index("decay policy 'guidelines'") < caplog.text.index('"num_updates": "1"')
    assert '"gain_norm/branch_inner": "0.9' in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert call("train", *train, "--max-update", 4, "--decay-policy", "none") == 0
    assert "decay changed on load, branch_inner: 1 -> 0 (11:" in caplog.text
    assert '"num_updates": "4"' in caplog.text
    capsys.readouterr()
    checkpoint = run / "checkpoint_last.pt"
    words = ["--gen-subset", "valid", "--beam", 2, "--max-len-a", 0, "--max-len-b", 5]
    assert call("generate", data, "--path", checkpoint, *words, "--scoring", "sacrebleu") == 0
    assert "Generate valid with beam=2: BLEU = " in capsys.readouterr().out
    typed = tmp_path / "typed"
    typed.write_text("ein\n", encoding="utf-8")
    words = ["--beam", 2, "--max-len-a", 0, "--max-len-b", 5, "--input", typed]
    assert call("interactive", data, "--path", checkpoint, *words) == 0
    assert "\nH-0\t" in capsys.readouterr().out


def test_all_params_is_stock_adam_bit_for_bit(begin: Callable[..., Session]) -> None:
    stock = begin("--optimizer", "adam", "--weight-decay", 1)
    ours = begin(*ADAM, "--decay-policy", "all_params")
    for one in (stock, ours):
        one.train(5)
    expected = stock.weights()
    assert all(torch.equal(value, expected[name]) for name, value in ours.weights().items())


@pytest.mark.parametrize("policy", PRESETS)
def test_fairseq_and_a_bare_loop_train_the_same_weights(
    begin: Callable[..., Session], policy: str
) -> None:
    updates, eps, beta = 5, 1e-6, 0.999
    run = begin(*ADAM, "--decay-policy", policy, "--adam-eps", eps)
    bare = begin("--optimizer", "adam")
    criterion = bare.trainer._criterion
    groups = param_groups(bare.model, weight_decay=1.0, policy=policy)
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, beta))
    bare.model.train()
    run.train(updates)
    for update in range(updates):
        loss, size, _ = criterion(bare.model, bare.batches[update % len(bare.batches)])
        optimizer.zero_grad()
        (loss / size).backward()
        for group in optimizer.param_groups:  # fairseq's epsilon has no bias correction
            group["eps"] = eps / math.sqrt(1 - beta ** (update + 1))
        optimizer.step()
    for name, value in bare.weights().items():
        torch.testing.assert_close(run.weights()[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_the_error_of_a_command_has_no_traceback(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [data, *TINY, "--optimizer", "gamma_adam", "--save-dir", tmp_path / "run"]
    assert call("train", *words) == 2
    error = capsys.readouterr().err
    assert error.strip().splitlines()[-1].startswith("error: --decay-policy guidelines decays")
    assert "Traceback" not in error


def test_a_process_of_hydra_train_ends_with_the_error_and_without_a_traceback() -> None:
    code = (
        "import sys, types\n"
        "from gamma_nlp.errors import GammaError\n"
        "from gamma_nlp.fairseq import commands\n"
        "def main(cfg):\n"
        "    raise GammaError('no such policy')\n"
        "sys.modules['fairseq_cli.train'] = types.SimpleNamespace(main=main)\n"
        "commands._train_under_hydra(None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: no such policy\n")


@pytest.mark.slow
def test_hydra_train_takes_a_policy_file_beside_the_user(data: Path, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps({"head": 0.5}))
    config = {
        "task": {"_name": "translation", "data": str(data)},
        "model": {"_name": "transformer_iwslt_de_en", "encoder_layers": 1, "decoder_layers": 1},
        "criterion": {"_name": "label_smoothed_cross_entropy", "label_smoothing": 0.1},
        "optimizer": {"_name": "gamma_adam", "weight_decay": 1.0, "decay_policy": "own.json"},
        "optimization": {"lr": [0.01], "max_update": 1},
        "lr_scheduler": {"_name": "fixed"},
        "dataset": {"max_tokens": 40, "num_workers": 0, "disable_validation": True},
        "checkpoint": {"save_dir": str(tmp_path / "run")},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(config))  # JSON is YAML

    def hydra_train(*words: str) -> subprocess.CompletedProcess[str]:
        config = ["--config-dir", str(tmp_path), "--config-name", "run"]
        command = [sys.executable, "-W", "ignore", "-m", "gamma_nlp.fairseq", "hydra-train"]
        return subprocess.run(
            [*command, *config, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            capture_output=True,
            text=True,
            timeout=240,
        )

    done = hydra_train("optimizer.decay_policy=other.json")
    assert done.returncode == 2
    assert re.search(r"^error: policy file '.*other\.json' does not exist$", done.stderr, re.M)
    assert "Traceback" not in done.stderr
    done = hydra_train()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    table = json.loads((tmp_path / "run" / "gain_table.json").read_text())
    coefficients = {row["category"]: row["coefficient"] for row in table["gains"]}
    assert coefficients["head"] == 0.5


@pytest.mark.slow
def test_two_processes_train_what_one_trains_with_twice_the_batches(
    data: Path, tmp_path: Path
) -> None:
    script = ROOT / "tests" / "support" / "fairseq_runs.py"
    words = [data, *TINY, *ADAM, "--max-update", 2, "--disable-validation"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert call("train", *words, "--update-freq", 2, "--save-dir", one) == 0
    distributed = ["--ddp-backend", "legacy_ddp", "--distributed-backend", "gloo"]
    two_processes(str(script), *map(str, [*words, *distributed, "--save-dir", two]))
    weights = [_checkpoint(folder) for folder in (one, two)]
    for name, value in weights[0].items():
        if not name.endswith("k_proj.bias"):  # its gradient is rounding, of which Adam makes steps
            torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert json.loads((two / "gain_table.json").read_text())["weight_decay"] == 1


def _checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoint_last.pt", map_location="cpu")["model"]
    # A buffer whose memory fairseq never fills, and the version numbers of its layouts.
    return {name: v for name, v in state.items() if "_float_tensor" not in name}
