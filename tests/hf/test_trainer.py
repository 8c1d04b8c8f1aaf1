"""The Trainer gives each parameter the decay of its category, and tells its doses."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Seq2SeqTrainer, TrainerCallback
from transformers.optimization import Adafactor

import gamma_nlp
from gamma_nlp import DecayPolicy, GammaError
from gamma_nlp.hf.trainer import GammaSeq2SeqTrainer, GammaTrainer, GammaTrainerMixin
from tests.support.tiny_models import arguments, classified, texts, tiny_bert, tiny_gpt2
from tests.support.trainers import build, decays, expected


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch", "sgd", "adafactor"])
@pytest.mark.parametrize("policy", ["guidelines", "all"])
def test_every_parameter_gets_the_decay_of_its_category(
    tmp_path: Path, optim: str, policy: str
) -> None:
    trainer = build(
        tmp_path,
        tiny_gpt2(),
        train_dataset=texts(),
        decay_policy=policy,
        changes={"optim": optim, "max_steps": 1},
    )
    trainer.train()
    assert decays(trainer.optimizer) == expected(trainer)
    assert {"adafactor": Adafactor, "sgd": torch.optim.SGD}.get(optim, torch.optim.AdamW) is type(
        trainer.optimizer.optimizer
    )


def test_zero_gradients_leave_exactly_the_planned_dose(tmp_path: Path) -> None:
    class NoGradient(GammaTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(model, inputs, *args, **kwargs)
            for parameter in model.parameters():
                parameter.grad.zero_()
            return loss

    args = arguments(tmp_path, weight_decay=5.0, learning_rate=1e-2, warmup_steps=1)
    trainer = NoGradient(
        model=tiny_gpt2(), args=args, train_dataset=texts(), decay_policy="guidelines"
    )
    trainer.train()
    record = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))
    weights = dict(trainer.model.named_parameters())
    for gain in record["gains"]:
        lost = 1 - weights[gain["name"]].mean().item()
        assert lost == pytest.approx(gain["dose"], rel=1e-5)  # a unit in the last place of 1
    doses = {round(gain["dose"], 3) for gain in record["gains"]}
    assert doses == {0.0, round(1 - 0.95 * (29 / 30) * (59 / 60), 3)}
    assert record["sum_of_learning_rates"] == pytest.approx(1e-2 * (0 + 1 + 2 / 3 + 1 / 3))


def test_table_goes_to_log_and_file_and_norms_to_the_training_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = build(tmp_path, eval_dataset=classified(4), decay_policy="all")
    with caplog.at_level(logging.INFO, logger="gamma_nlp"):
        trainer.train()
    assert "bert.embeddings.LayerNorm.weight" in caplog.text
    assert "shortcut" in caplog.text and "dose" in caplog.text
    record = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))
    assert record["policy"]["name"] == "all" and record["training_steps"] == 4
    assert {gain["coefficient"] for gain in record["gains"]} == {0.1}
    assert list(tmp_path.glob("*.tmp")) == []
    *steps, last = trainer.state.log_history
    assert all({"gain_norm/shortcut", "gain_norm/head"} <= set(entry) for entry in [*steps, last])
    head = trainer.model.bert.encoder.layer[1].output.LayerNorm.weight
    assert last["gain_norm/head"] == pytest.approx(head.square().mean().sqrt().item(), rel=1e-6)
    trainer.evaluate()
    assert not any(key.startswith("gain_norm") for key in trainer.state.log_history[-1])


def test_a_schedule_that_follows_metrics_has_no_dose(tmp_path: Path) -> None:
    changes = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps"}
    trainer = build(
        tmp_path,
        eval_dataset=classified(4),
        decay_policy="all",
        changes={**changes, "max_steps": 1, "metric_for_best_model": "loss"},
    )
    trainer.train()
    record = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))
    assert record["sum_of_learning_rates"] is None
    assert ["follow scores" in why for why in record["no_dose_because"]] == [True]
    assert {gain["dose"] for gain in record["gains"]} == {None}


def test_decay_lost_to_bfloat16_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_gpt2().to(torch.bfloat16)
    policy = DecayPolicy(rounding="keep")
    changes = {"max_steps": 1}
    trainer = build(tmp_path, model, train_dataset=texts(), changes=changes, decay_policy=policy)
    with caplog.at_level(logging.WARNING, logger="gamma_nlp"):
        trainer.train()
    assert "rounding to bfloat16 cancels the decay of 4 gains" in caplog.text
    assert "rounding: defer" in caplog.text


def test_fp32_gains_under_autocast_keep_their_dose(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from gamma_nlp import gains_to_fp32

    model = gains_to_fp32(tiny_gpt2().to(torch.bfloat16))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16, torch.float32}
    trainer = build(tmp_path, model, train_dataset=texts(), changes={"bf16": True})
    with caplog.at_level(logging.WARNING, logger="gamma_nlp"):
        trainer.train()
    assert "rounding" not in caplog.text
    assert trainer.state.log_history[-1]["train_loss"] > 0


def test_without_weight_decay_only_a_policy_that_decays_a_gain_of_this_model_is_refused(
    tmp_path: Path,
) -> None:
    changes = {"weight_decay": 0.0}
    for model, policy in ((tiny_gpt2(), "guidelines"), (tiny_bert(), "all")):
        with pytest.raises(GammaError, match="set weight_decay"):
            build(tmp_path, model, changes=changes, decay_policy=policy)
        build(tmp_path, model, changes=changes, decay_policy="none")
        build(tmp_path, model, changes=changes, decay_policy=policy, train_dataset=None)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = not ("ln_" in name or "LayerNorm" in name)
        build(tmp_path, model, changes=changes, decay_policy=policy)
    build(tmp_path, tiny_bert(), changes=changes)  # `guidelines` spares every gain of a BERT


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("guideline", "did you mean 'guidelines'"),
        (DecayPolicy(patterns={"*.ln_9.*": 1.0}), "matches no parameter"),
    ],
)
def test_bad_policy_is_refused_at_once(tmp_path: Path, policy: Any, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        build(tmp_path, decay_policy=policy)


def test_a_policy_without_effect_is_said_once_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = build(tmp_path, changes={"max_steps": 1})
    assert "no gain" not in caplog.text
    trainer.train()
    assert caplog.text.count("policy 'guidelines' decays no gain of this model") == 1
    assert "here it equals the policy 'none'" in caplog.text


def test_parameters_unfrozen_during_training_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Thaw(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                kwargs["model"].bert.pooler.requires_grad_(True)

    model = tiny_bert()
    model.bert.pooler.requires_grad_(False)
    before = model.bert.pooler.dense.weight.clone()
    build(tmp_path, model, decay_policy="all", callbacks=[Thaw()]).train()
    assert torch.equal(model.bert.pooler.dense.weight, before)
    assert caplog.text.count("not trained") == 1
    assert "'bert.pooler.dense.weight', 'bert.pooler.dense.bias'" in caplog.text


def test_table_follows_model_init_and_later_changes(tmp_path: Path) -> None:
    sizes = iter([1, 2, 3])
    trainer = build(
        tmp_path,
        model_init=lambda: tiny_bert(layers=next(sizes)),
        decay_policy="all",
        changes={"max_steps": 1},
    )
    counts = [len(trainer.gain_table)]
    for _ in range(2):
        trainer.train()
        counts.append(len(trainer.gain_table))
        assert decays(trainer.optimizer) == expected(trainer)
    assert counts == [3, 5, 7]

    trainer = build(tmp_path, changes={"max_steps": 1})
    trainer.model.classifier = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 2))
    trainer.train()
    assert "classifier.1.weight" in [gain.name for gain in trainer.gain_table]


def test_table_follows_a_cast_after_the_trainer_was_made(tmp_path: Path) -> None:
    trainer = build(tmp_path, changes={"max_steps": 1}, decay_policy="all")
    trainer.model.to(torch.bfloat16)
    trainer.train()
    assert {gain.dtype for gain in trainer.gain_table} == {"bfloat16"}


def test_frozen_parameters_are_in_no_group(tmp_path: Path) -> None:
    model = tiny_bert()
    model.bert.embeddings.requires_grad_(False)
    trainer = build(tmp_path, model, decay_policy="all", changes={"max_steps": 1})
    trainer.train()
    assert not any("embeddings" in name for name in decays(trainer.optimizer))
    record = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))
    assert record["gains"][0]["coefficient"] == 0.0


def test_lora_adapters_train_under_a_policy(tmp_path: Path) -> None:
    import peft

    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2)
    model = peft.get_peft_model(tiny_bert(), config)
    trainer = build(tmp_path, model, decay_policy="none", changes={"max_steps": 1})
    trainer.train()
    found = decays(trainer.optimizer)
    assert found and all("lora" in name or "classifier" in name for name in found)


def test_seq2seq_trainer_has_the_mixin(tmp_path: Path) -> None:
    assert issubclass(GammaSeq2SeqTrainer, (GammaTrainerMixin, Seq2SeqTrainer))
    assert gamma_nlp.GammaTrainer is GammaTrainer


def test_models_from_elsewhere_take_inputs(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm, self.out = nn.Embedding(64, 8), nn.LayerNorm(8), nn.Linear(8, 2)

        def forward(self, input_ids: Any, labels: Any = None) -> Any:
            logits = self.out(self.norm(self.embed(input_ids).mean(1)))
            loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits}

    inputs = {"input_ids": torch.randint(0, 64, (1, 4))}
    with pytest.raises(GammaError, match="inputs"):
        build(tmp_path, Own())
    trainer = build(tmp_path, Own(), inputs=inputs, changes={"max_steps": 1})
    trainer.train()
    assert [str(gain.category) for gain in trainer.gain_table] == ["head"]
