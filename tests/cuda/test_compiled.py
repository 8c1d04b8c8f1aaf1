"""torch.compile changes nothing: of the optimizer's step, and of a Trainer's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp import GammaTrainer, make_optimizer
from tests.support.optim_models import Toy, toy_table, train
from tests.support.tiny_models import arguments, texts, tiny_gpt2

pytestmark = [
    pytest.mark.cuda,
    # What dynamo looks at while it traces.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
STEPS = 6


def backend(device: torch.device) -> str:
    """Without a GPU what is tried is the test: no kernels are made, which takes minutes."""
    return "inductor" if device.type == "cuda" else "aot_eager"


@pytest.mark.parametrize("form", ["foreach", "fused"])
def test_a_compiled_optimizer_step_does_the_same(form: str, device: torch.device) -> None:
    models = [Toy().to(device), Toy().to(device)]
    plain, compiled = (
        make_optimizer(
            torch.optim.AdamW, model, weight_decay=0.2, lr=0.05, policy="all", table=toy_table(),
            **{form: True},
        )
        for model in models
    )  # fmt: skip
    step = torch.compile(compiled.step, backend=backend(device))
    for number in range(STEPS):
        train(models[0], plain, 1, number)
        compiled.zero_grad()
        models[1].loss(number).backward()
        step()
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def gains_after(folder: Path, device: torch.device, **changes: Any) -> dict[str, torch.Tensor]:
    args = arguments(
        folder,
        use_cpu=device.type == "cpu",
        bf16=True,
        gradient_accumulation_steps=2,
        max_steps=STEPS,
        weight_decay=5.0,
        **changes,
    )
    trainer = GammaTrainer(
        model=tiny_gpt2(), args=args, train_dataset=texts(48), decay_policy="all"
    )
    trainer.train()
    assert trainer.state.global_step == STEPS
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    return {gain.name: model.get_parameter(gain.name).detach().cpu() for gain in trainer.gain_table}


def test_a_trainer_with_bf16_compiled_and_accumulating_decays_as_without(
    tmp_path: Path, device: torch.device
) -> None:
    torch.manual_seed(0)
    plain = gains_after(tmp_path / "plain", device)
    torch.compiler.reset()
    compiled = gains_after(
        tmp_path / "compiled", device, torch_compile=True, torch_compile_backend=backend(device)
    )
    assert plain.keys() == compiled.keys() and len(plain) == 5
    for name, value in plain.items():
        # Rates fall from 1e-3 to 0, decay takes 1.7 %, and Adam moves no further than they do.
        assert (1 - value).mean() == pytest.approx(0.0174, abs=0.0045), name
        torch.testing.assert_close(compiled[name], value, rtol=0, atol=6e-3)
