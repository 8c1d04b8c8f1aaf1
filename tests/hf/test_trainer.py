from __future__ import annotations

import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Seq2SeqTrainer, Trainer, TrainerCallback
from transformers.optimization import Adafactor

import gamma_nlp
from gamma_nlp import DecayPolicy, GammaError, make_optimizer
from gamma_nlp.decay.assign import assign
from gamma_nlp.hf.trainer import GammaSeq2SeqTrainer, GammaTrainer, GammaTrainerMixin
from tests.support.tiny_models import arguments, classified, texts, tiny_bert, tiny_gpt2


def decays(optimizer: Any) -> dict[str, float]:
    return {
        name: group["weight_decay"]
        for group in optimizer.param_groups
        for name in group["param_names"]
    }


def expected(trainer: Any) -> dict[str, float]:
    planned = assign(trainer.gain_table, trainer.policy, trainer.args.weight_decay)
    return {name: decay.coefficient for name, decay in planned.items()}


def build(folder: Path, model: nn.Module | None = None, **kwargs: Any) -> GammaTrainer:
    args = kwargs.pop("args", None) or arguments(folder, **kwargs.pop("changes", {}))
    data = kwargs.pop("train_dataset", classified())
    model = tiny_bert() if model is None and "model_init" not in kwargs else model
    return GammaTrainer(model=model, args=args, train_dataset=data, **kwargs)


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


@pytest.mark.parametrize(
    "optim",
    ["galore_adamw", "galore_adafactor_layerwise", "apollo_adamw", "lomo", "adalomo"],
)
def test_optimizers_that_replace_groups_are_refused_by_name(tmp_path: Path, optim: str) -> None:
    changes = {"optim": optim, "optim_target_modules": ["query"]}
    with pytest.raises(GammaError, match=f"optim='{optim}' cannot take a decay policy"):
        build(tmp_path, changes=changes)


class Unknown(torch.optim.SGD):
    pass


def factory() -> Any:
    return lambda model, **kwargs: torch.optim.SGD(model.parameters(), **kwargs)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ((Unknown, {"lr": 0.1}), "native_decay"),
        ((factory, {"lr": 0.1}), "groups of its own"),
        ((torch.optim.SGD, {"lr": 0.1, "model": nn.Linear(2, 2)}), "takes no parameter groups"),
        ((torch.optim.SGD, {"lr": 0.1, "optimizer_dict": {}}), "takes no parameter groups"),
    ],
)
def test_optimizers_without_known_groups_are_refused_before_training(
    tmp_path: Path, choice: Any, message: str
) -> None:
    trainer = build(tmp_path, optimizer_cls_and_kwargs=choice)
    with pytest.raises(GammaError, match=message):
        trainer.train()
    assert trainer.state.global_step == 0


def test_an_unknown_optimizer_trains_once_its_decay_is_declared(tmp_path: Path) -> None:
    choice = (Unknown, {"lr": 0.1, "native_decay": "coupled"})
    trainer = build(tmp_path, optimizer_cls_and_kwargs=choice, changes={"max_steps": 1})
    trainer.train()
    assert decays(trainer.optimizer) == expected(trainer)
    assert trainer.optimizer_cls_and_kwargs == choice


def test_a_given_optimizer_must_be_ours_and_keeps_its_decay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_bert()
    stock = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with pytest.raises(GammaError, match="make_optimizer"):
        build(tmp_path, model, optimizers=(stock, None))
    ours = make_optimizer(torch.optim.AdamW, model, weight_decay=0.3, lr=1e-3, policy="all")
    trainer = build(tmp_path, model, optimizers=(ours, None), changes={"max_steps": 1})
    assert "keeps the decay it was made with" in caplog.text
    trainer.train()
    assert set(decays(trainer.optimizer).values()) == {0.3, 0.0}
    record = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))
    assert {gain["coefficient"] for gain in record["gains"]} == {0.3}


def test_eight_bit_adam_keeps_the_stock_treatment_of_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AdamW(torch.optim.AdamW):
        def __init__(self, params: Any, optim_bits: int, **kwargs: Any) -> None:
            super().__init__(params, **kwargs)

    AdamW.__module__, AdamW.__qualname__ = "bitsandbytes.optim.adamw", "AdamW"
    overridden: list[nn.Module] = []
    manager = types.SimpleNamespace(
        register_module_override=lambda module, *_: overridden.append(module)
    )
    fake = types.ModuleType("bitsandbytes")
    fake.optim = types.SimpleNamespace(  # type: ignore[attr-defined]
        GlobalOptimManager=types.SimpleNamespace(get_instance=lambda: manager)
    )
    monkeypatch.setitem(sys.modules, "bitsandbytes", fake)
    trainer = build(tmp_path, optimizer_cls_and_kwargs=(AdamW, {"lr": 1e-3, "optim_bits": 8}))
    trainer.create_optimizer()
    assert decays(trainer.optimizer) == expected(trainer)
    assert len(overridden) == 3 and all(isinstance(one, nn.Embedding) for one in overridden)


def test_groups_of_another_trainer_keep_their_rates_and_outside_parameters(tmp_path: Path) -> None:
    """sentence-transformers brings such groups: learning rates, and weights of its loss."""
    outside = nn.Linear(3, 3)

    class Base(Trainer):
        def get_optimizer_cls_and_kwargs(self, args: Any, model: Any = None) -> Any:
            chosen, kwargs = super().get_optimizer_cls_and_kwargs(args, model)
            inside = list(self.model.bert.parameters())
            rest = list(self.model.classifier.parameters())
            groups = [
                {"params": [*inside, outside.weight], "weight_decay": args.weight_decay},
                {"params": [outside.bias], "weight_decay": 0.0},
                {"params": rest, "lr": 0.5, "weight_decay": args.weight_decay},
            ]
            return chosen, {**kwargs, "optimizer_dict": groups}

    class Mixed(GammaTrainerMixin, Base):
        pass

    trainer = Mixed(
        model=tiny_bert(),
        args=arguments(tmp_path, max_steps=1),
        train_dataset=classified(),
        decay_policy="all",
    )
    trainer.train()
    found = decays(trainer.optimizer)
    assert (found.pop("outside_model.0"), found.pop("outside_model.1")) == (0.1, 0.0)
    assert found == expected(trainer)
    by_name = {n: g for g in trainer.optimizer.param_groups for n in g["param_names"]}
    assert by_name["classifier.weight"]["initial_lr"] == 0.5
    assert by_name["bert.pooler.dense.weight"]["initial_lr"] == 1e-3


def test_an_overridden_create_optimizer_behind_the_mixin_is_refused(tmp_path: Path) -> None:
    class Base(Trainer):
        def create_optimizer(self, model: Any = None) -> Any:
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
            return self.optimizer

    class Mixed(GammaTrainerMixin, Base):
        pass

    trainer = Mixed(model=tiny_bert(), args=arguments(tmp_path), train_dataset=classified())
    with pytest.raises(GammaError, match="no effect"):
        trainer.train()


class Bare(Trainer):
    pass


@pytest.mark.parametrize("first", [Trainer, Bare, Seq2SeqTrainer])
def test_the_mixin_behind_a_trainer_is_refused_when_the_class_is_made(first: type) -> None:
    with pytest.raises(GammaError, match=rf"class Late\(GammaTrainerMixin, {first.__name__}\)"):
        type("Late", (first, GammaTrainerMixin), {})
    type("Early", (GammaTrainerMixin, first), {})
    type("Own", (Bare, GammaTrainer), {})
    type("Part", (GammaTrainerMixin,), {})


def test_a_trainer_that_passes_by_the_mixins_init_is_refused(tmp_path: Path) -> None:
    class Own(GammaTrainerMixin, Trainer):
        def __init__(self, **kwargs: Any) -> None:
            Trainer.__init__(self, **kwargs)

    trainer = Own(model=tiny_bert(), args=arguments(tmp_path), train_dataset=classified())
    with pytest.raises(GammaError, match=r"call super\(\).__init__"):
        trainer.train()


def test_a_scheduler_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    model = tiny_bert()
    first, second = (
        make_optimizer(torch.optim.AdamW, model, weight_decay=0.3, lr=1e-3, policy="all")
        for _ in range(2)
    )
    scheduler = torch.optim.lr_scheduler.LinearLR(first)
    for given in ((second, scheduler), (None, scheduler)):
        with pytest.raises(GammaError, match="LinearLR sets the learning rates of another"):
            build(tmp_path, model, optimizers=given)
    build(tmp_path, model, optimizers=(first, scheduler), changes={"max_steps": 1}).train()


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


class ByFirstRate(torch.optim.Optimizer):
    """Decays by lr over the first lr, as in the paper on AdamW."""

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "first": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] / group["first"] * group["weight_decay"])


def test_no_dose_is_told_for_an_optimizer_whose_law_is_not_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choice = (ByFirstRate, {"lr": 1e-3, "native_decay": "decoupled"})
    with caplog.at_level("INFO", logger="gamma_nlp"):
        build(tmp_path, decay_policy="all", optimizer_cls_and_kwargs=choice).train()
    record = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))
    assert {gain["dose"] for gain in record["gains"]} == {None}
    assert {gain["coefficient"] for gain in record["gains"]} == {0.1}
    (why,) = record["no_dose_because"]
    assert why.startswith(f"{__name__}.ByFirstRate is not among the optimizers")
    assert f"no dose: {why}" in caplog.text


def test_a_subclass_may_make_its_own_optimizer_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(GammaTrainer):
        def create_optimizer(self, model: Any = None) -> Any:
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
            return self.optimizer

    trainer = Own(model=tiny_bert(), args=arguments(tmp_path), train_dataset=classified())
    trainer.train()
    assert "has no effect" in caplog.text
    assert not (tmp_path / "gain_table.json").exists()


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
