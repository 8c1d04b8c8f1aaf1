from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from gamma_nlp.check.audit import audit, stock_decayed
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.table import Gain, GainTable


class Scale(nn.Module):
    """A norm whose class and name the stock rule does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.ln = nn.LayerNorm(4)
        self.final = Scale()
        self.relative_bias_table = nn.Embedding(4, 4)


def gain(name: str, offset: float = 0.0) -> Gain:
    return Gain(
        name=name,
        category=Category.HEAD,
        kind="rms_norm",
        offset=offset,
        source="table",
        reason="",
        dtype="float32",
        numel=4,
    )


ROLES = {
    "linear.weight": Role.WEIGHT,
    "linear.bias": Role.BIAS,
    "ln.bias": Role.SHIFT,
    "relative_bias_table.weight": Role.EMBEDDING,
}


def table() -> GainTable:
    gains = (gain("ln.weight"), gain("final.weight", offset=1.0))
    return GainTable(gains=gains, roles=ROLES, model="Toy")


def test_gain_that_the_rule_does_not_know_is_decayed_by_accident() -> None:
    found = audit(Toy(), table())
    assert [f.name for f in found.decayed_by_accident] == ["final.weight"]
    assert "Scale" in found.decayed_by_accident[0].why


def test_embedding_with_bias_in_its_name_is_spared_by_accident() -> None:
    found = audit(Toy(), table())
    assert [f.name for f in found.spared_by_accident] == ["relative_bias_table.weight"]
    assert found.spared_by_accident[0].why == "its name holds 'bias'"


def test_unit_offset_gain_is_pulled_to_its_offset() -> None:
    (found,) = audit(Toy(), table()).unit_offset
    assert found.name == "final.weight"
    assert found.decayed
    assert "pulled to 1, not 0" in found.why


def test_counts_cover_every_trainable_parameter() -> None:
    found = audit(Toy(), table())
    assert (found.decayed, found.spared) == (2, 4)


def test_frozen_parameters_are_left_out() -> None:
    model = Toy()
    model.final.requires_grad_(False)
    found = audit(model, table())
    assert found.decayed_by_accident == ()
    assert found.unit_offset == ()


def test_model_that_the_rule_gets_right_has_no_accidents() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    roles = {"0.weight": Role.WEIGHT, "0.bias": Role.BIAS, "1.bias": Role.SHIFT}
    found = audit(model, GainTable(gains=(gain("1.weight"),), roles=roles))
    assert not found.decayed_by_accident
    assert not found.spared_by_accident
    assert "decayed by accident: none" in str(found)


def test_stock_rule_is_the_installed_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Trainer

    assert stock_decayed(Toy()) == {"linear.weight", "final.weight"}
    monkeypatch.setattr(Trainer, "get_decay_parameter_names", lambda self, model: ["x"])
    assert stock_decayed(Toy()) == {"x"}


def test_t5_relative_attention_bias_is_spared_by_accident() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    with torch.device("meta"):
        found = audit(T5ForConditionalGeneration(config))
    assert {f.name.rsplit(".", 2)[-2] for f in found.spared_by_accident} == {
        "relative_attention_bias"
    }


def test_json_is_plain_data() -> None:
    data = audit(Toy(), table()).to_json()
    assert json.loads(json.dumps(data)) == data
    assert data["decayed_by_accident"][0]["name"] == "final.weight"


def test_text_merges_layers() -> None:
    model = nn.ModuleList([Scale() for _ in range(3)])
    gains = tuple(gain(f"{i}.weight") for i in range(3))
    text = str(audit(model, GainTable(gains=gains, model="Toy")))
    assert "{0-2}.weight" in text
    assert "decayed by accident: 3" in text


def test_missing_transformers_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(GammaError, match=r"gamma_nlp\[hf\]"):
        audit(Toy(), table())
