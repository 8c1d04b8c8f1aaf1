"""The audit of a stock Trainer's real optimizer, printed once at its first step."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from gamma_nlp import DecayPolicy, GammaTrainer
from gamma_nlp.errors import GammaError
from gamma_nlp.hf import AuditCallback

DATA = [{"input_ids": torch.arange(4), "labels": torch.arange(4)} for _ in range(8)]


def model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=16, n_positions=8))


def trainer(
    folder: Path, callback: AuditCallback, kind: type[Trainer] = Trainer, **kwargs: Any
) -> Trainer:
    args = TrainingArguments(
        str(folder), max_steps=3, per_device_train_batch_size=2, report_to=[], use_cpu=True,
        weight_decay=0.1, warmup_steps=2, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    kwargs = {"model": model(), **kwargs}
    return kind(args=args, train_dataset=DATA, callbacks=[callback], **kwargs)


def test_the_stock_optimizer_is_printed_once_a_run(tmp_path: Path) -> None:
    text = io.StringIO()
    callback = AuditCallback(fail_on="accident", file=text)
    stock = trainer(tmp_path, callback)
    stock.train()
    assert text.getvalue().count("GPT2LMHeadModel: AdamW, 2 groups") == 1
    assert text.getvalue().endswith("accidents: none\n")
    assert callback.found is not None and callback.found.missing == ()
    rate = next(one.rate for one in callback.found.acts)
    assert rate == pytest.approx((5e-5, 5e-5))  # though it is warming up
    stock.train()
    assert text.getvalue().count("GPT2LMHeadModel") == 2


def test_the_step_hook_of_ours_is_seen_under_the_wrapper(tmp_path: Path) -> None:
    callback = AuditCallback(file=io.StringIO())
    ours = trainer(tmp_path, callback, GammaTrainer, decay_policy=DecayPolicy(target="start"))
    ours.train()
    assert callback.found is not None and callback.found.accidents == ()
    assert {one.toward for one in callback.found.acts if "inner" in one.what} == {("start",)}


def test_an_accident_stops_the_run_before_its_first_step(tmp_path: Path) -> None:
    made = model()
    groups = [p for name, p in made.named_parameters() if not name.endswith("ln_f.weight")]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.0)
    before = made.transformer.wte.weight.clone()
    callback = AuditCallback(fail_on="accident", file=io.StringIO())
    stock = trainer(tmp_path, callback, model=made, optimizers=(optimizer, None))
    with pytest.raises(
        GammaError, match=r"by accident: 'transformer.ln_f.weight'; mend its groups"
    ):
        stock.train()
    assert stock.model.transformer.wte.weight.equal(before)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (x + self.fc(self.norm(x))).square().mean()}


def test_a_model_of_the_user_s_own_needs_inputs_and_says_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match="inputs"):
        trainer(tmp_path, AuditCallback(), model=Own())
    callback = AuditCallback(inputs=torch.randn(2, 4), file=io.StringIO())
    own = trainer(tmp_path, callback, model=Own())
    own.train_dataset = [{"x": torch.randn(4)} for _ in range(8)]
    own.train()
    assert callback.found is not None and callback.found.model == "Own"


def test_a_mistyped_option_is_named() -> None:
    with pytest.raises(GammaError, match="fail_on must be 'accident' or None, got 'any'"):
        AuditCallback(fail_on="any")  # type: ignore[arg-type]
