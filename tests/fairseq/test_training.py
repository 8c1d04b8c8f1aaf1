"""The commands, the shims, and ``gamma_adam`` in runs of the installed fairseq."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp import GammaError, categorize, param_groups
from gamma_nlp.fairseq import commands, shims
from tests.support.paths import ROOT

if importlib.util.find_spec("fairseq") is None:
    pytest.skip(f"fairseq is not installed: {shims.INSTALL}", allow_module_level=True)

from tests.support.fairseq_runs import (
    LANGUAGE_MODEL,
    TINY,
    Session,
    call,
    make_data,
    quiet,
    session,
)
from tests.support.torchrun import two_processes

ADAM = ["--optimizer", "gamma_adam", "--weight-decay", "1"]
PRESETS = [
    "guidelines",
    pytest.param("input_only", marks=pytest.mark.slow),
    pytest.param("none", marks=pytest.mark.slow),
    pytest.param("all", marks=pytest.mark.slow),
    pytest.param("all_params", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet():
        commands.prepare("fairseq_cli.preprocess")
    return make_data(tmp_path_factory.mktemp("fairseq"))


@pytest.fixture
def begin(data: Path, tmp_path: Path) -> Callable[..., Session]:
    def begin(*words: object) -> Session:
        return session(data, tmp_path / "run", *words)

    return begin


def is_gain(name: str) -> bool:
    return "layer_norm" in name and name.endswith("weight")


# The shims.


@pytest.mark.skipif(sys.version_info < (3, 11), reason="older Pythons allow such defaults")
def test_only_fairseqs_dataclasses_may_default_to_a_dataclass(data: Path) -> None:
    from fairseq.dataclass import FairseqDataclass

    @dataclasses.dataclass
    class Inner(FairseqDataclass):
        size: int = 1

    @dataclasses.dataclass
    class Outer(FairseqDataclass):
        inner: Inner = Inner()  # noqa: RUF009  what fairseq does

    assert Outer().inner.size == 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(Outer().inner)

    @dataclasses.dataclass
    class Other:
        size: int = 1

    with pytest.raises(ValueError, match="mutable default"):

        @dataclasses.dataclass
        class Mine:
            other: Other = Other()  # noqa: RUF009


def test_encoder_layers_hold_what_they_use_and_load_what_plain_fairseq_saved(
    begin: Callable[..., Session],
) -> None:
    model = begin("--optimizer", "adam").model
    names = {name.rpartition(".")[2] for name, _ in model.encoder.layers[0].named_parameters()}
    assert names == {"weight", "bias"}
    saved = model.state_dict()
    saved["encoder.layers.0.in_proj_weight"] = torch.zeros(48, 16)
    model.load_state_dict(saved, strict=True)


def test_score_reads_files_with_sacrebleu(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("one two three four five\n")
    assert call("score", "--sys", text, "--ref", text, "--sacrebleu") == 0
    assert "BLEU = 100.00" in capsys.readouterr().out


def test_shims_leave_what_needs_none_as_it_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sacrebleu
    from fairseq.modules import transformer_layer

    class Mended(torch.nn.Module):
        """A layer of a fairseq without the extra parameters."""

    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    monkeypatch.setattr(sacrebleu, "__version__", "1.5.1")
    monkeypatch.setattr(transformer_layer, "TransformerEncoderLayerBase", Mended)
    before = dataclasses.dataclass, sacrebleu.corpus_bleu, dict(vars(Mended))
    monkeypatch.setattr(shims, "_DONE", set())
    commands.prepare()
    assert len(shims._DONE) == 4
    assert (dataclasses.dataclass, sacrebleu.corpus_bleu, dict(vars(Mended))) == before


def test_missing_fairseq_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    shims.check_installed.cache_clear()
    assert commands.run("train") == 2
    assert "pip install --no-deps fairseq==0.12.2" in capsys.readouterr().err
    shims.check_installed.cache_clear()


def test_a_release_that_was_not_tried_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.13.0")
    shims.check_installed.cache_clear()
    with caplog.at_level(logging.WARNING, logger="gamma_nlp"):
        assert shims.check_installed() == "0.13.0"
    assert "fairseq 0.13.0 was not tried" in caplog.text
    shims.check_installed.cache_clear()


# The commands.


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


@pytest.mark.parametrize(
    "schedule",
    [
        ["inverse_sqrt", "--warmup-updates", 3],
        ["polynomial_decay", "--total-num-update", 6, "--warmup-updates", 2],
    ],
)
def test_planned_rates_are_those_of_the_run(
    begin: Callable[..., Session], schedule: list[Any]
) -> None:
    from gamma_nlp.fairseq.schedule import rates_of_fairseq

    run = begin(*ADAM, "--lr-scheduler", *schedule, "--max-update", 6)
    planned, seen = rates_of_fairseq(run.trainer), []
    for _ in range(6):
        seen.append(run.trainer.get_lr())
        run.train(1)
    assert planned == pytest.approx(seen)
    assert len(set(seen)) > 2


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


# Where decay acts.

PRECISIONS = {
    "float32": [],
    "amp": ["--amp"],
    "memory-efficient": ["--memory-efficient-fp16"],
    "unflattened": ["--fp16", "--fp16-no-flatten-grads"],
    "flat": ["--fp16"],
}


@pytest.fixture
def flat_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let --fp16 put its flat tensor where the parameters are, also where that is no GPU."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)


@pytest.mark.usefixtures("flat_on_cpu")
@pytest.mark.parametrize(
    "precision",
    [
        "float32",
        "flat",
        "memory-efficient",
        pytest.param("unflattened", marks=pytest.mark.slow),
        pytest.param("amp", marks=pytest.mark.slow),
    ],
)
def test_silent_gains_shrink_by_the_dose_and_only_where_they_decay(
    begin: Callable[..., Session], precision: str, tmp_path: Path
) -> None:
    run = begin(*ADAM, *PRECISIONS[precision])
    before = run.weights()
    run.train(20, silent=True)
    doses = {
        row["name"]: row["dose"]
        for row in json.loads((tmp_path / "run" / "gain_table.json").read_text())["gains"]
    }
    assert min(doses.values()) == 0
    assert max(doses.values()) == pytest.approx(1 - 0.99**20, abs=0.005)
    for name, value in run.weights().items():
        if is_gain(name) and doses[name] == 0:
            assert torch.equal(value, before[name]), name
        elif is_gain(name):
            assert (1 - value).mean().item() == pytest.approx(doses[name], rel=0.02), name
        elif name.endswith("bias"):
            assert torch.equal(value, before[name]), name
        else:
            kept = value.norm() / before[name].norm()
            assert kept == pytest.approx(1 - max(doses.values()), rel=0.01), name


@pytest.mark.usefixtures("flat_on_cpu")
def test_flat_and_unflattened_half_precision_train_the_same_weights(
    begin: Callable[..., Session],
) -> None:
    flat, unflattened = (begin(*ADAM, *PRECISIONS[key]) for key in ("flat", "unflattened"))
    for one in (flat, unflattened):
        one.train(3)
    assert len(flat.trainer.optimizer.fp32_params) == 1
    expected = unflattened.weights()
    assert all(torch.equal(value, expected[name]) for name, value in flat.weights().items())


@pytest.mark.usefixtures("flat_on_cpu")
def test_flat_all_params_is_flat_stock_adam_bit_for_bit(begin: Callable[..., Session]) -> None:
    stock = begin("--optimizer", "adam", "--weight-decay", 1, "--fp16", "--clip-norm", 0.1)
    ours = begin(*ADAM, "--decay-policy", "all_params", "--fp16", "--clip-norm", 0.1)
    for one in (stock, ours):
        one.train(3)
    expected = stock.weights()
    assert all(torch.equal(value, expected[name]) for name, value in ours.weights().items())


@pytest.mark.usefixtures("flat_on_cpu")
def test_a_flat_tensor_that_is_replaced_is_noticed(begin: Callable[..., Session]) -> None:
    run = begin(*ADAM, "--fp16")
    run.train(1)
    (flat,) = run.optimizer.fp32_params.values()
    flat.grad = torch.zeros_like(flat)
    with pytest.raises(GammaError, match="--fp16-no-flatten-grads"):
        run.train(1)


def test_coefficients_of_categories_win_over_the_policy(begin: Callable[..., Session]) -> None:
    run = begin(*ADAM, "--decay-branch-inner", 0.25, "--decay-head", 0.5)
    decays = {
        name: group["weight_decay"]
        for group in run.optimizer.param_groups
        for name in group["param_names"]
    }
    assert decays["encoder.layers.0.final_layer_norm.weight"] == 0.25
    assert decays["decoder.layer_norm.weight"] == 0.5
    assert decays["encoder.layers.0.fc1.weight"] == 1
    assert decays["encoder.layers.0.fc1.bias"] == 0


def test_a_model_without_a_table_is_placed_by_its_graph(begin: Callable[..., Session]) -> None:
    table = begin(*ADAM, "--no-decoder-final-norm").optimizer._plan.table
    assert {gain.source for gain in table} == {"graph"}
    assert {str(gain.category) for gain in table} == {"branch_inner"}


def test_another_task_and_architecture_is_placed_too(data: Path, tmp_path: Path) -> None:
    options = LANGUAGE_MODEL.split()
    run = session(data.parent / "monolingual", tmp_path / "run", *ADAM, options=options)
    run.train(1)
    rows = json.loads((tmp_path / "run" / "gain_table.json").read_text())["gains"]
    assert {row["name"]: row["category"] for row in rows} == {
        "decoder.layers.0.self_attn_layer_norm.weight": "branch_inner",
        "decoder.layers.0.final_layer_norm.weight": "branch_inner",
        "decoder.layers.1.self_attn_layer_norm.weight": "branch_inner",
        "decoder.layers.1.final_layer_norm.weight": "branch_inner",
        "decoder.layer_norm.weight": "head",
    }


# Resume.


@pytest.mark.usefixtures("flat_on_cpu")
@pytest.mark.parametrize("precision", ["float32", "memory-efficient", "flat"])
def test_states_follow_their_names_and_the_present_policy_decides(
    begin: Callable[..., Session], precision: str
) -> None:
    first = begin(*ADAM, *PRECISIONS[precision])
    first.train(2)
    saved = first.optimizer.state_dict()
    moments = _moments(first)
    second = begin(*ADAM, *PRECISIONS[precision], "--decay-policy", "all")
    second.optimizer.load_state_dict(saved, {"eps": 1e-3})
    assert all(group["eps"] == 1e-3 for group in second.optimizer.param_groups)
    decayed = {
        n for g in second.optimizer.param_groups if g["weight_decay"] for n in g["param_names"]
    }
    assert {n for n, _ in second.model.named_parameters() if is_gain(n)} <= decayed
    loaded = _moments(second)
    assert {value.dtype for value in loaded.values()} == {torch.float32}
    assert all(torch.equal(value, moments[name]) for name, value in loaded.items())


def _moments(run: Session) -> dict[str, torch.Tensor]:
    optimizer = run.optimizer.optimizer
    return {
        name: optimizer.state[p]["exp_avg"].clone()
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }


def saved(run: Session, folder: Path) -> str:
    file = folder / "saved.pt"
    run.trainer.consolidate_optimizer()
    run.trainer.save_checkpoint(str(file), {"train_iterator": {"epoch": 1}})
    return str(file)


@pytest.mark.usefixtures("flat_on_cpu")
@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("float32", 0), ("flat", 1e-3)],  # fairseq saves half-precision weights without their copies
)
def test_a_resumed_run_is_the_run_that_went_on(
    begin: Callable[..., Session], tmp_path: Path, precision: str, tolerance: float
) -> None:
    whole, resumed = (begin(*ADAM, *PRECISIONS[precision]) for _ in range(2))
    whole.train(2)
    file = saved(whole, tmp_path)
    whole.train(3)
    resumed.trainer.load_checkpoint(file)
    resumed.train(3)
    expected = whole.weights()
    for name, value in resumed.weights().items():
        if not (precision == "flat" and name.endswith("k_proj.bias")):  # its gradient is rounding
            torch.testing.assert_close(value, expected[name], rtol=0, atol=tolerance, msg=name)


def test_a_checkpoint_of_another_optimizer_is_refused_without_a_reset(
    begin: Callable[..., Session], tmp_path: Path
) -> None:
    file = saved(begin("--optimizer", "adam"), tmp_path)
    ours = begin(*ADAM)
    with pytest.raises(GammaError, match=r"saved.pt: .*FairseqAdam vs GammaAdam.*add --reset"):
        ours.trainer.load_checkpoint(file)
    ours.trainer.load_checkpoint(file, reset_optimizer=True)
    with pytest.raises(AssertionError, match="GammaAdam vs FairseqAdam"):
        begin("--optimizer", "adam").trainer.load_checkpoint(saved(ours, tmp_path))


def test_overrides_cannot_erase_the_decay(begin: Callable[..., Session]) -> None:
    run = begin(*ADAM)
    with pytest.raises(GammaError, match="weight_decay would erase the decay"):
        run.optimizer.load_state_dict(run.optimizer.state_dict(), {"weight_decay": 0.0})


def test_a_state_of_another_optimizer_is_refused(begin: Callable[..., Session]) -> None:
    stock, ours = begin("--optimizer", "adam"), begin(*ADAM)
    with pytest.raises(GammaError, match="--reset-optimizer"):
        ours.optimizer.load_state_dict(stock.optimizer.state_dict())


# Bad use.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimizer", "gamma_adam"], "--weight-decay is 0 .* for example 1e-4"),
        ([*ADAM, "--decay-branch-last", 1], "--decay-branch-last: no gain of .* branch_last"),
        ([*ADAM, "--decay-branch-last", 0], "--decay-branch-last: no gain of .* branch_last"),
        ([*ADAM, "--decay-head", -1], "--decay-head must be a number >= 0"),
        ([*ADAM, "--weight-decay", "nan"], "--weight-decay must be a number >= 0, not nan"),
        ([*ADAM, "--decay-policy", "guidline"], "unknown policy 'guidline'.*'guidelines'"),
    ],
)
def test_bad_options_say_what_to_type(
    begin: Callable[..., Session], words: list[Any], message: str
) -> None:
    with pytest.raises(GammaError, match=message):
        begin(*words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"branch_iner": 1.0}, "unknown key 'branch_iner'; did you mean 'branch_inner'"),
        ({"branch_last": 1.0}, "no gain of TransformerModel is branch_last"),
    ],
)
def test_bad_policy_files_name_the_key(
    begin: Callable[..., Session], tmp_path: Path, content: dict[str, float], message: str
) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(content))
    with pytest.raises(GammaError, match=message):
        begin(*ADAM, "--decay-policy", file)


def test_flat_half_precision_without_a_gpu_says_what_to_type(
    begin: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> int:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.cuda, "current_device", none)
    with pytest.raises(GammaError, match=r"torch finds none .*add --fp16-no-flatten-grads"):
        begin(*ADAM, "--fp16")
    begin(*ADAM, "--fp16", "--fp16-no-flatten-grads").train(1)


def test_the_error_of_a_command_has_no_traceback(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [data, *TINY, "--optimizer", "gamma_adam", "--save-dir", tmp_path / "run"]
    assert call("train", *words) == 2
    error = capsys.readouterr().err
    assert error.strip().splitlines()[-1].startswith("error: --decay-policy guidelines decays")
    assert "Traceback" not in error


def test_the_plugin_knows_the_categories_that_categorize_finds(
    begin: Callable[..., Session],
) -> None:
    run = begin(*ADAM)
    batch = run.batches[0]["net_input"]
    both = categorize(run.model, batch)
    assert {gain.source for gain in both} == {"table+graph"}


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
