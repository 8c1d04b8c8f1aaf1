from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from gamma_nlp import DecayPolicy, GammaError
from gamma_nlp.decay.assign import assign
from gamma_nlp.hf.trainer import GammaTrainer
from gamma_nlp.wrappers import unwrap_optimizer
from tests.support.tiny_models import arguments, classified, texts, tiny_bert, tiny_gpt2

HALVES = DecayPolicy(name="halves", branch_inner=0.5, head=0.25, shift=0.1)


class Look(TrainerCallback):
    """Takes the optimizer's state by parameter name as training begins and after each step."""

    def __init__(self) -> None:
        self.first: dict[str, dict[str, Any]] = {}
        self.rates: list[list[float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = unwrap_optimizer(kwargs["optimizer"])
        names = names_of(kwargs["model"])
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                moments = optimizer.state.get(parameter, {})
                self.first[names[id(parameter)]] = {
                    "lr": group["lr"],
                    **{key: torch.as_tensor(value).clone() for key, value in moments.items()},
                }

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rates.append([group["lr"] for group in kwargs["optimizer"].param_groups])


def names_of(model: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def run(
    folder: Path, policy: Any, model: nn.Module, resume: Any = None, **changes: Any
) -> tuple[Any, Look]:
    look = Look()
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "warmup_steps": 2}
    kind: Any = Trainer if policy is None else GammaTrainer
    data = classified(24) if hasattr(model, "bert") else texts(24)
    trainer = kind(
        model=model,
        args=arguments(folder, **{**settings, **changes}),
        train_dataset=data,
        callbacks=[look],
        **({} if policy is None else {"decay_policy": policy}),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer, look


def saved_by_name(checkpoint: Path, trainer: Any) -> dict[str, dict[str, Any]]:
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    if isinstance(trainer, GammaTrainer):
        names = [name for own in trainer._stock for name in own["param_names"]]
    else:
        own = names_of(trainer.model)
        groups = unwrap_optimizer(trainer.optimizer).param_groups
        names = [own[id(parameter)] for group in groups for parameter in group["params"]]
    rows = [(i, group["lr"]) for group in state["param_groups"] for i in group["params"]]
    return {
        name: {"lr": lr, **state["state"][i]} for name, (i, lr) in zip(names, rows, strict=True)
    }


@pytest.mark.parametrize("make", [tiny_bert, tiny_gpt2])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "guidelines"),
        (None, HALVES),
        ("none", HALVES),
        (HALVES, "guidelines"),
        ("all_params", "none"),
    ],
)
def test_states_follow_names_and_all_groups_follow_the_schedule(
    tmp_path: Path, make: Any, before: Any, after: Any
) -> None:
    first, straight = run(tmp_path, before, make())
    saved = saved_by_name(tmp_path / "checkpoint-3", first)
    second, look = run(tmp_path, after, make(), resume=str(tmp_path / "checkpoint-3"))
    assert look.first.keys() == saved.keys()
    for name, state in saved.items():
        torch.testing.assert_close(look.first[name], state, rtol=0, atol=0)
    for now, then in zip(look.rates, straight.rates[3:], strict=True):
        assert set(now) == set(then) and len(now) == len(second.optimizer.param_groups)
    settings = assign(second.gain_table, second.policy, 0.1)
    for group in second.optimizer.param_groups:
        assert {settings[name].coefficient for name in group["param_names"]} == {
            group["weight_decay"]
        }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optim": "sgd", "optim_args": "momentum=0.9"},
        {"lr_scheduler_type": "cosine"},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 2}},
    ],
)
def test_the_same_policy_resumes_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    straight, _ = run(tmp_path, HALVES, tiny_gpt2(), **changes)
    resumed, _ = run(
        tmp_path, HALVES, tiny_gpt2(), resume=str(tmp_path / "checkpoint-3"), **changes
    )
    weights = dict(resumed.model.named_parameters())
    for name, weight in straight.model.named_parameters():
        assert torch.equal(weights[name], weight), name


def test_changed_decay_is_logged_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, None, tiny_gpt2())
    with caplog.at_level(logging.INFO, logger="gamma_nlp"):
        run(tmp_path, "guidelines", tiny_gpt2(), resume=str(tmp_path / "checkpoint-3"))
    assert "from a stock Trainer" in caplog.text
    assert "decay changed on load, branch_inner: 0 -> 0.1 (4: 'transformer.h.0" in caplog.text


def test_the_dose_of_a_resumed_run_is_that_of_the_whole_run(tmp_path: Path) -> None:
    import json

    run(tmp_path, "guidelines", tiny_gpt2())
    whole = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))
    run(tmp_path, "guidelines", tiny_gpt2(), resume=str(tmp_path / "checkpoint-3"))
    resumed = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))
    # Told from the values as they are now, which rounding treats a little differently.
    for key in ("dose", "dose_without_rounding"):
        doses = [[gain.pop(key, 0.0) for gain in one["gains"]] for one in (whole, resumed)]
        assert doses[1] == pytest.approx(doses[0], rel=1e-3)
    assert resumed == whole


def test_a_checkpoint_of_other_trained_parameters_is_refused(tmp_path: Path) -> None:
    run(tmp_path, None, tiny_bert())
    frozen = tiny_bert()
    frozen.bert.embeddings.requires_grad_(False)
    with pytest.raises(GammaError, match=r"optimizer\.pt"):
        run(tmp_path, "none", frozen, resume=str(tmp_path / "checkpoint-3"))
    run(tmp_path / "named", "none", tiny_bert())
    frozen = tiny_bert()
    frozen.bert.embeddings.requires_grad_(False)
    with pytest.raises(GammaError, match="embeddings"):
        run(tmp_path, "none", frozen, resume=str(tmp_path / "named" / "checkpoint-3"))
