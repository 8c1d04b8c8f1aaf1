"""What other libraries' own rules spare, against tables made by hand and their own code."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp.errors import GammaError, MissingExtra
from gamma_nlp.gains.peer_rules import spared_by, stock_decayed
from tests.support.peers import SPARED_BY_TIMM, Vision, without_decay


def vision_without_list() -> Vision:
    model = Vision()
    model.no_weight_decay = set  # type: ignore[method-assign]
    return model


def test_timm_spares_vectors_biases_and_what_the_model_names() -> None:
    model = Vision()
    assert spared_by("timm", model) == SPARED_BY_TIMM
    bare = SPARED_BY_TIMM - {"cls_token", "attn.rel_bias_table"}
    assert spared_by("timm", vision_without_list()) == bare
    with torch.device("meta"):
        assert spared_by("timm", Vision()) == SPARED_BY_TIMM


def test_a_bias_at_the_top_is_no_dot_bias() -> None:
    model = nn.Module()
    model.bias = nn.Parameter(torch.zeros(2, 2))
    assert spared_by("timm", model) == frozenset()


def test_the_list_is_read_through_wrappers() -> None:
    compiled = nn.Module()
    compiled._orig_mod = Vision()
    wrapped = nn.DataParallel(compiled)
    assert spared_by("timm", wrapped) == {f"module._orig_mod.{name}" for name in SPARED_BY_TIMM}


@pytest.mark.needs("timm")
@pytest.mark.parametrize("make", [Vision, vision_without_list])
def test_timm_s_own_code_agrees(make: Any) -> None:
    model = make()
    optimizer = importlib.import_module("timm.optim").create_optimizer_v2(
        model, "adamw", lr=0.1, weight_decay=0.5
    )
    assert spared_by("timm", model) == without_decay(model, optimizer.param_groups)


@pytest.mark.parametrize(
    ("wrong", "shows"),
    [
        (True, "it gives True"),
        (lambda: None, "it gives None"),
        (lambda: "pos_embed", "it gives 'pos_embed'"),
        (lambda: [nn.Parameter(torch.zeros(1))], "it gives \\[Parameter containing"),
        ({"pos_embed"}, "it gives {'pos_embed'}"),
    ],
)
def test_a_list_of_another_form_is_named(wrong: Any, shows: str) -> None:
    model = Vision()
    model.no_weight_decay = wrong
    with pytest.raises(GammaError, match=rf"Vision.no_weight_decay must be a method.*{shows}"):
        spared_by("timm", model)


def test_flattened_shapes_are_named() -> None:
    model = nn.Module()
    model._fsdp_wrapped_module = nn.Linear(2, 2)
    with pytest.raises(GammaError, match=r"looks at shapes, which FSDP1 flattens; use FSDP2"):
        spared_by("timm", model)


@pytest.mark.needs("transformers")
def test_hugging_face_is_the_installed_trainer_s_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Trainer

    model = Vision()
    by_name = {name for name, _ in model.named_parameters() if "bias" in name or "norm" in name}
    assert spared_by("hugging_face", model) == by_name
    monkeypatch.setattr(Trainer, "get_decay_parameter_names", lambda self, model: ["scale"])
    assert stock_decayed(model) == {"scale"}
    assert "scale" not in spared_by("hugging_face", model)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"the stock rule needs the Trainer of transformers"):
        spared_by("hugging_face", Vision())
