"""``gamma_adam`` over apex's fused Adam, with a stand-in for its kernel."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gamma_nlp import GammaError
from tests.support.fairseq_runs import ADAM, Session, is_gain, need_fairseq

need_fairseq()


@pytest.fixture
def fused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fairseq find a fused Adam, and a GPU where it asks for one to run it on."""
    from fairseq.optim import adam
    from fairseq.optim.fused_adam import FusedAdamV1

    class Fused(FusedAdamV1):
        """fairseq's class around what fused_adam_cuda_kernel.cu of apex computes."""

        def __init__(self, params: Any, use_fp16_stats: bool = False, **options: Any) -> None:
            torch.optim.Optimizer.__init__(self, params, options)

        @torch.no_grad()
        def step(self, closure: Any = None, scale: float = 1.0) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    state = self.state[p]
                    if not state:
                        state["step"] = 0
                        state["exp_avg"] = torch.zeros_like(p)
                        state["exp_avg_sq"] = torch.zeros_like(p)
                    state["step"] += 1
                    gradient, (b1, b2) = p.grad / scale, group["betas"]
                    state["exp_avg"].mul_(b1).add_(gradient, alpha=1 - b1)
                    state["exp_avg_sq"].mul_(b2).add_(gradient**2, alpha=1 - b2)
                    update = state["exp_avg"] / (state["exp_avg_sq"].sqrt() + group["eps"])
                    corrections = 1 - b1 ** state["step"], 1 - b2 ** state["step"]
                    size = group["lr"] * math.sqrt(corrections[1]) / corrections[0]
                    p.sub_(size * (update + group["weight_decay"] * p))

    monkeypatch.setattr(adam, "get_fused_adam_class", lambda: Fused)
    gpu = SimpleNamespace(is_available=lambda: True)
    monkeypatch.setattr(adam, "torch", SimpleNamespace(cuda=gpu))


@pytest.mark.usefixtures("fused", "flat_on_cpu")
@pytest.mark.parametrize("precision", [[], ["--fp16"]])
def test_gains_approach_one_by_the_learning_rate(
    begin: Callable[..., Session], tmp_path: Path, precision: list[str]
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"target": "one", "schedule": {"kind": "linear", "end": 0.5}}))
    run = begin(*ADAM, *precision, "--decay-policy", policy)
    with torch.no_grad():
        for group in run.optimizer.param_groups:
            for name, p in zip(group["param_names"], group["params"], strict=True):
                if is_gain(name):
                    p.fill_(3.0)
    run.train(20, silent=True)
    kept = math.prod(1 - 0.01 * (1 - 0.5 * step / 19) for step in range(20))
    for name, value in run.weights().items():
        if is_gain(name):
            decayed = name != "decoder.layer_norm.weight"
            expected = torch.full_like(value, 1 + 2 * (kept if decayed else 1))
            torch.testing.assert_close(value, expected, rtol=2e-3, atol=0, msg=name)


@pytest.mark.usefixtures("fused", "flat_on_cpu")
def test_its_scaled_gradients_take_no_coupled_decay(
    begin: Callable[..., Session], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"mode": "coupled"}))
    with pytest.raises(GammaError, match=r"mode 'coupled' .* needs unscaled .*add --use-old-adam"):
        begin(*ADAM, "--fp16", "--decay-policy", policy)
