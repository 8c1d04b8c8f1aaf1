"""Modes, targets, schedules and deferral of ``gamma_adam``, in fairseq's precisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp import GammaError
from tests.support.fairseq_runs import ADAM, PRECISIONS, Session, is_gain, need_fairseq

need_fairseq()

IWSLT14 = [
    *("--optimizer", "gamma_adam", "--weight-decay", 1e-4, "--lr", 5e-4),
    *("--lr-scheduler", "inverse_sqrt", "--warmup-updates", 4000, "--max-update", 50_000),
]
SMALL = ["--weight-decay", 1e-4]  # of which rounding would take a part


@pytest.fixture
def policy(tmp_path: Path) -> Callable[..., list[str]]:
    def policy(**keys: Any) -> list[str]:
        file = tmp_path / "policy.json"
        file.write_text(json.dumps(keys))
        return ["--decay-policy", str(file)]

    return policy


def groups(run: Session) -> Iterator[dict[str, Any]]:
    """Yield the groups that decay."""
    yield from (group for group in run.optimizer.param_groups if group["weight_decay"])


def test_the_published_settings_of_iwslt14_defer_their_decay(
    begin: Callable[..., Session], policy: Callable[..., list[str]]
) -> None:
    deferred = [group for group in groups(begin(*IWSLT14)) if "gamma_part" in group]
    assert {group["gamma_part"] for group in deferred} == {"deferred"}
    assert {group["gamma_last"] for group in deferred} == {50_000}
    gains = [name for group in deferred for name in group["param_names"] if is_gain(name)]
    assert len(gains) == 11  # all but the decoder's last
    kept = begin(*IWSLT14, *policy(rounding="keep"))
    assert not any("gamma_part" in group for group in groups(kept))
    assert not any("gamma_part" in group for group in groups(begin(*ADAM)))


@pytest.mark.parametrize("target", ["zero", "one"])
def test_coupled_decay_is_stock_adam_with_decay_in_its_gradients(
    begin: Callable[..., Session], policy: Callable[..., list[str]], target: str
) -> None:
    ours = begin(*ADAM, *policy(mode="coupled", target=target, head=1.0))
    stock = begin("--optimizer", "adam")
    named, step = dict(stock.model.named_parameters()), stock.optimizer.optimizer.step

    def add_decay(closure: Any = None) -> Any:
        for name, p in named.items():
            if not name.endswith("bias"):
                center = 1.0 if is_gain(name) and target == "one" else 0.0
                p.grad += p.detach() - center
        return step(closure)

    stock.optimizer.optimizer.step = add_decay
    for one in (ours, stock):
        one.train(4)
    for name, value in stock.weights().items():
        torch.testing.assert_close(ours.weights()[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.usefixtures("flat_on_cpu")
@pytest.mark.parametrize("mode", ["decoupled", "coupled"])
@pytest.mark.parametrize("target", ["one", "start"])
def test_flat_and_unflattened_decay_alike_toward_any_target(
    begin: Callable[..., Session], policy: Callable[..., list[str]], mode: str, target: str
) -> None:
    words = [*ADAM, *policy(mode=mode, target=target, schedule={"kind": "cosine", "end": 0.1})]
    flat, unflattened = (begin(*words, *PRECISIONS[key]) for key in ("flat", "unflattened"))
    views = [p.grad for group in flat.optimizer.param_groups for p in group["params"]]
    for one in (flat, unflattened):
        one.train(3)
    expected = unflattened.weights()
    assert all(torch.equal(value, expected[name]) for name, value in flat.weights().items())
    after = [p.grad for group in flat.optimizer.param_groups for p in group["params"]]
    assert all(one is other for one, other in zip(views, after, strict=True))
    decayed = next(groups(flat))
    assert (decayed["gamma_step"], decayed["gamma_steps"]) == (3, 20)


@pytest.mark.usefixtures("flat_on_cpu")
@pytest.mark.parametrize("precision", ["unflattened", "memory-efficient"])
def test_an_overflow_neither_decays_nor_counts(
    begin: Callable[..., Session],
    policy: Callable[..., list[str]],
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    ramp = {"kind": "linear", "steps": 9}
    run = begin(*ADAM, *SMALL, *PRECISIONS[precision], *policy(target="start", schedule=ramp))
    run.train(2)
    before, weights = _progress(run), run.weights()
    _overflow(run, monkeypatch)
    assert (_progress(run), run.trainer.get_num_updates()) == (before, 2)
    assert all(torch.equal(value, weights[name]) for name, value in run.weights().items())
    run.train(1)
    assert all(calls in (None, 3) and step == 3 for calls, _, step in _progress(run))


def _progress(run: Session) -> list[Any]:
    keys = ("gamma_calls", "gamma_due", "gamma_step")
    return [tuple(group.get(key) for key in keys) for group in groups(run)]


def _overflow(run: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Try one update with infinite gradients."""
    step = run.trainer.task.train_step

    def explode(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        for p in run.model.parameters():
            p.grad.fill_(torch.inf)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(run.trainer.task, "train_step", explode)
        run.train(1)


@pytest.fixture
def scaler_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let --amp scale its losses, also where there is no GPU."""
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", lambda **k: torch.amp.GradScaler("cpu", **k))


@pytest.mark.usefixtures("scaler_on_cpu")
def test_coupled_decay_under_amp_is_as_strong_as_without(
    begin: Callable[..., Session], policy: Callable[..., list[str]]
) -> None:
    words = [*ADAM, "--adam-eps", 1e-20, "--clip-norm", 1.0, *policy(mode="coupled", target="one")]
    plain, scaled = begin(*words), begin(*words, "--amp")
    assert scaled.optimizer.scaler.is_enabled()
    for one in (plain, scaled):
        one.train(4)
    assert not hasattr(scaled.optimizer.optimizer, "grad_scale")
    expected = plain.weights()
    for name, value in scaled.weights().items():
        if not name.endswith("k_proj.bias"):  # its gradient is rounding, of which Adam makes steps
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.usefixtures("scaler_on_cpu")
def test_a_step_that_amp_skips_neither_decays_nor_counts(
    begin: Callable[..., Session],
    policy: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["--amp", "--amp-batch-retries", 0]
    run = begin(*ADAM, *SMALL, *words, *policy(schedule={"kind": "linear", "steps": 9}))
    run.train(2)
    before, weights = _progress(run), run.weights()
    _overflow(run, monkeypatch)
    assert _progress(run) == before
    assert all(torch.equal(value, weights[name]) for name, value in run.weights().items())


def test_decay_follows_the_square_of_a_warmed_up_learning_rate(
    begin: Callable[..., Session], policy: Callable[..., list[str]]
) -> None:
    warm_up = ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", 3, "--warmup-init-lr", 1e-3]
    run = begin(*ADAM, *warm_up, *policy(schedule="lr_squared"))
    for _ in range(6):
        rate = run.trainer.get_lr()
        run.train(1)
        decays = [group["weight_decay"] for group in groups(run)]
        assert decays == pytest.approx([rate / 0.01] * len(decays))


@pytest.mark.parametrize(
    ("words", "peak"),
    [
        (["fixed", "--lr", "0.001,0.02,0.01"], 0.02),
        (["triangular", "--max-lr", 0.03], 0.03),
        (["reduce_lr_on_plateau", "--max-update", 5], 0.01),
        (["manual", "--update2lr", "{'0': 0.002, '3': 0.05}", "--max-update", 5], 0.05),
    ],
)
def test_the_peak_is_known_also_where_the_rates_are_not(
    begin: Callable[..., Session],
    policy: Callable[..., list[str]],
    words: list[Any],
    peak: float,
) -> None:
    endless = ["--max-update", 0, "--lr-scheduler", *words]
    run = begin(*ADAM, *endless, *policy(schedule="lr_squared"))
    assert run.optimizer._plan.rates is None
    assert {group["gamma_peak"] for group in groups(run)} == {peak}


def test_a_ramp_without_an_end_says_what_to_type(
    begin: Callable[..., Session], policy: Callable[..., list[str]]
) -> None:
    cosine = {"kind": "cosine", "end": 0.1}
    with pytest.raises(GammaError, match=r"policy.json: the cosine .*add --max-update N, or write"):
        begin(*ADAM, "--max-update", 0, *policy(schedule=cosine))
    (given,) = groups(begin(*ADAM, "--max-update", 0, *policy(schedule={**cosine, "steps": 7})))
    assert given["gamma_steps"] == 7
    scored = ["--lr-scheduler", "reduce_lr_on_plateau", "--max-update", 5]
    (follows,) = groups(begin(*ADAM, *scored, *policy(schedule=cosine)))
    assert follows["gamma_steps"] == 5


def test_the_log_says_that_the_kind_of_decay_is_not_adams(
    begin: Callable[..., Session],
    policy: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", logger="gamma_nlp"):
        begin(*ADAM, *policy(mode="coupled"))
    assert "asks for coupled decay, and the optimizer's own is decoupled" in caplog.text


@pytest.mark.usefixtures("flat_on_cpu")
@pytest.mark.parametrize(
    "precision", ["float32", "flat", "memory-efficient", "memory-efficient-bf16"]
)
@pytest.mark.parametrize("schedule", [{"kind": "cosine", "end": 0.1}, "lr_squared"])
def test_silent_gains_approach_their_target_by_the_dose_that_is_told(
    begin: Callable[..., Session],
    policy: Callable[..., list[str]],
    precision: str,
    schedule: Any,
    tmp_path: Path,
) -> None:
    warm_up = ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", 5]
    words = [*PRECISIONS[precision], *warm_up, *policy(target="one", schedule=schedule)]
    run = begin(*ADAM, *words)
    with torch.no_grad():
        for group in run.optimizer.param_groups:
            for name, p in zip(group["param_names"], group["params"], strict=True):
                if is_gain(name):
                    p.fill_(2.0)
    run.train(20, silent=True)
    rows = json.loads((tmp_path / "run" / "gain_table.json").read_text())["gains"]
    weights = run.weights()
    assert max(row["dose"] for row in rows) > 0.05
    for row in rows:
        if row["dose"]:
            achieved = 2 - weights[row["name"]].mean().item()
            assert achieved == pytest.approx(row["dose"], rel=0.02), row["name"]


def test_the_weights_that_a_norm_follows_are_found_by_a_forward_pass(
    begin: Callable[..., Session], policy: Callable[..., list[str]]
) -> None:
    run = begin(*ADAM, *policy(schedules={"normalized": "lr_squared"}))
    squared = {
        name
        for group in groups(run)
        if group.get("gamma_schedule") == "lr_squared"
        for name in group["param_names"]
    }
    assert {f"encoder.layers.1.{name}.weight" for name in ("fc1", "fc2")} <= squared
    assert not [name for name in squared if "embed" in name or is_gain(name)]
