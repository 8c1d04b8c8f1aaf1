"""Optimizers that the Trainer can group are used, and others are refused by name."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Seq2SeqTrainer, Trainer

from gamma_nlp import GammaError, make_optimizer
from gamma_nlp.hf.trainer import GammaTrainer, GammaTrainerMixin
from tests.support.tiny_models import arguments, classified, tiny_bert
from tests.support.trainers import build, decays, expected


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
