"""Pure bfloat16 fine-tuning reaches the dose that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from gamma_nlp import DecayPolicy
from gamma_nlp.hf.schedule import decay_for_dose, rates_of_arguments
from gamma_nlp.hf.trainer import GammaTrainer
from tests.support.tiny_models import VOCAB, arguments, texts

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MAKERS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZES)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SIZES)),
}


class WithoutGradient(GammaTrainer):
    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(model, *args, **kwargs)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        return loss


def gains_left(
    folder: Path, family: str, kind: Any, policy: Any, start: float, steps: int = 60
) -> list[float]:
    """What is left of each decayed gain after a run with a dose of 10 %, in the mean."""
    torch.manual_seed(0)
    model = MAKERS[family]()
    table = {gain.name: gain for gain in _table(model)}
    with torch.no_grad():
        for name, gain in table.items():
            noise = torch.rand_like(model.get_parameter(name)) * 0.4 + 0.8
            model.get_parameter(name).copy_(start * noise - gain.offset)
    model.to(torch.bfloat16)
    args = arguments(folder, max_steps=steps, learning_rate=1e-5, logging_steps=steps)
    args.weight_decay = decay_for_dose(0.1, rates_of_arguments(args, 4))
    before = {n: model.get_parameter(n).detach().double() + g.offset for n, g in table.items()}
    trainer = kind(model=model, args=args, train_dataset=texts(), decay_policy=policy)
    trainer.train()
    decayed = {
        name
        for group in trainer.optimizer.param_groups
        for name in group["param_names"]
        if group["weight_decay"] and name in table
    }
    assert decayed
    left = {n: model.get_parameter(n).detach().double() + table[n].offset for n in table}
    return [float(left[n].sum() / before[n].sum()) for n in decayed]


def _table(model: Any) -> Any:
    from gamma_nlp import categorize

    return categorize(model)


@pytest.mark.parametrize("family", MAKERS)
@pytest.mark.parametrize("kind", [WithoutGradient, GammaTrainer])
@pytest.mark.parametrize("start", [1.0, 5.0])
def test_a_dose_of_ten_percent_is_ten_percent(
    tmp_path: Path, family: str, kind: Any, start: float
) -> None:
    found = gains_left(tmp_path, family, kind, "guidelines", start)
    assert found == pytest.approx([0.9] * len(found), abs=0.01)
    if kind is WithoutGradient:
        assert sum(found) / len(found) == pytest.approx(0.9, abs=0.003)


def test_without_deferral_nothing_happens(tmp_path: Path) -> None:
    policy = DecayPolicy(name="as it comes", rounding="keep")
    found = gains_left(tmp_path, "llama", WithoutGradient, policy, 1.0, 160)
    assert found == pytest.approx([1.0] * len(found), abs=0.002)
