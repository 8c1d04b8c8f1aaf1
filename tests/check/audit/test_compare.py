from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import categorize
from gamma_nlp.check.audit import Audit, audit, stock_decayed
from gamma_nlp.check.judge import GATE
from gamma_nlp.check.practice import NORMS_DIFFER
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


def gain(name: str, offset: float = 0.0, category: Category | None = Category.HEAD) -> Gain:
    return Gain(
        name=name,
        category=category,
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


@pytest.mark.parametrize("category", [Category.SHORTCUT, Category.HEAD])
def test_gain_on_a_skip_or_head_is_decayed_by_accident(category: Category) -> None:
    gains = (gain("ln.weight"), gain("final.weight", category=category))
    found = audit(Toy(), GainTable(gains=gains, roles=ROLES))
    assert [f.what for f in found.decayed_by_accident] == [f"gain, {category}"]
    assert found.decayed_as_under_guidelines == ()


@pytest.mark.parametrize("category", [Category.BRANCH_LAST, Category.BRANCH_INNER])
def test_gain_in_a_branch_decays_as_under_guidelines_and_is_no_accident(category: Category) -> None:
    gains = (gain("ln.weight"), gain("final.weight", category=category))
    found = audit(Toy(), GainTable(gains=gains, roles=ROLES, model="Toy"))
    assert found.decayed_by_accident == ()
    assert [f.name for f in found.decayed_as_under_guidelines] == ["final.weight"]
    assert "gains in a branch that decay, as under `guidelines`: 1\n" in str(found)
    assert found.to_json()["decayed_as_under_guidelines"][0]["what"] == f"gain, {category}"


def test_unused_gain_has_no_gradient_and_is_no_accident() -> None:
    gains = (gain("ln.weight"), gain("final.weight", category=None))
    found = audit(Toy(), GainTable(gains=gains, roles=ROLES))
    assert (found.decayed_by_accident, found.decayed_as_under_guidelines) == ((), ())


def test_table_of_relative_positions_is_spared_by_no_accident() -> None:
    assert audit(Toy(), table()).spared_by_accident == ()


def test_weight_in_a_module_called_a_norm_is_spared_by_accident() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention_norm, self.token_norm = nn.Linear(4, 4), nn.Embedding(4, 4)

    roles = {
        "attention_norm.weight": Role.WEIGHT, "attention_norm.bias": Role.BIAS,
        "token_norm.weight": Role.EMBEDDING,
    }  # fmt: skip
    found = audit(Odd(), GainTable(gains=(), roles=roles)).spared_by_accident
    assert [f.name for f in found] == ["attention_norm.weight", "token_norm.weight"]
    assert {f.why for f in found} == {"its name holds 'norm'"}


class Convolutions(nn.Module):
    """A stem, a block and a head of a network that never says "norm"."""

    def __init__(self, last: str = "bn") -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.ModuleDict({last: nn.BatchNorm2d(4)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x))
        (last,) = self.last.values()
        return last(x + self.conv(x).relu()).mean((2, 3))


def image_audit(model: nn.Module) -> Audit:
    return audit(model, categorize(model, torch.randn(2, 3, 8, 8)))


def test_batch_norms_that_all_decay_are_no_accident_but_what_some_authors_do() -> None:
    found = image_audit(Convolutions())
    assert found.decayed_by_accident == ()
    assert [(f.name, f.what) for f in found.decayed_as_by_some_authors] == [
        ("bn.weight", "gain, shortcut"),
        ("last.bn.weight", "gain, head"),
    ]
    assert {f.why for f in found.decayed_as_by_some_authors} == {NORMS_DIFFER}
    assert "decayed, as some authors do: 2" in str(found)


def test_a_batch_norm_decays_by_accident_where_the_rule_spares_another_of_the_model() -> None:
    found = image_audit(Convolutions(last="batch_norm"))
    assert found.decayed_as_by_some_authors == ()
    assert [f.name for f in found.decayed_by_accident] == ["bn.weight"]
    assert found.decayed_by_accident[0].why.endswith("it spares 1 batch norm of this model")


def test_a_frozen_batch_norm_says_nothing_of_the_others() -> None:
    model = Convolutions(last="batch_norm")
    model.last.requires_grad_(False)
    found = image_audit(model)
    assert found.decayed_by_accident == ()
    assert [f.name for f in found.decayed_as_by_some_authors] == ["bn.weight"]


def test_a_batch_norm_that_its_author_spares_decays_by_accident() -> None:
    model = Convolutions()
    model.bn.weight._no_weight_decay = True  # type: ignore[attr-defined]
    assert [f.name for f in image_audit(model).decayed_by_accident] == ["bn.weight"]


class Gated(nn.Module):
    """Two branches, each scaled by a learned factor: ReZero or a layer scale."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.up, self.down, self.ln = nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4)
        self.one, self.two = (nn.Parameter(torch.rand(size)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.one.tanh() * self.up(x).relu()
        return self.ln(x + self.two * self.down(x).relu())


def test_a_gate_of_a_branch_decays_by_accident_and_a_layer_scale_as_under_guidelines() -> None:
    inputs = torch.randn(2, 3, 4)
    gates, scales = Gated(1), Gated(4)
    found = audit(gates, categorize(gates, inputs))
    assert [(f.name, f.what, f.why) for f in found.decayed_by_accident] == [
        (name, "gain, branch_last", GATE) for name in ("one", "two")
    ]
    assert found.decayed_as_under_guidelines == ()
    found = audit(scales, categorize(scales, inputs))
    assert found.decayed_by_accident == ()
    assert [f.name for f in found.decayed_as_under_guidelines] == ["one", "two"]


class SnakeActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(4))


def test_constants_that_their_authors_decay_are_no_accident() -> None:
    model = nn.ModuleDict({"snake": SnakeActivation(), "other": Scale()})
    roles = {"snake.alpha": Role.OTHER, "other.weight": Role.OTHER}
    found = audit(model, GainTable(gains=(), roles=roles))
    assert [f.name for f in found.decayed_by_accident] == ["other.weight"]
    assert [f.name for f in found.decayed_as_by_some_authors] == ["snake.alpha"]
    assert "BigVGAN" in found.decayed_as_by_some_authors[0].why


def test_layers_that_make_biases_of_positions_are_spared_by_no_accident() -> None:
    names = ("continuous_position_bias_mlp", "rel_bias_module", "bias_conv")
    model = nn.ModuleDict({name: nn.Linear(4, 4, bias=False) for name in names})
    roles = {f"{name}.weight": Role.WEIGHT for name in names}
    found = audit(model, GainTable(gains=(), roles=roles)).spared_by_accident
    assert [f.name for f in found] == ["bias_conv.weight"]


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


def test_t5_relative_attention_bias_is_spared_by_no_accident() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    with torch.device("meta"):
        model = T5ForConditionalGeneration(config)
    assert not any("relative_attention_bias" in name for name in stock_decayed(model))
    assert audit(model).spared_by_accident == ()


class StateSpace(nn.Module):
    """A diagonal state space as a long convolution: S4D."""

    def __init__(self) -> None:
        super().__init__()
        self.log_dt = nn.Parameter(torch.rand(8) - 3)
        self.log_a, self.a_imag = nn.Parameter(torch.zeros(8, 4)), nn.Parameter(torch.rand(8, 4))
        self.c, self.out = nn.Parameter(torch.randn(8, 4, 2)), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        u, length = x.mT, x.shape[1]
        a = (-self.log_a.exp() + 1j * self.a_imag) * self.log_dt.exp()[:, None]
        basis = (a[..., None] * torch.arange(length)).exp()
        kernel = torch.einsum("dn,dnl->dl", torch.view_as_complex(self.c), basis).real
        spectrum = torch.fft.rfft(kernel, n=2 * length) * torch.fft.rfft(u, n=2 * length)
        return self.out(torch.fft.irfft(spectrum, n=2 * length)[..., :length].mT.relu())


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([StateSpace(), StateSpace()])
        self.norms = nn.ModuleList([nn.LayerNorm(8), nn.LayerNorm(8)])
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.last, self.head = nn.LayerNorm(8), nn.Linear(8, 9)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + layer(norm(x))
        return self.head(self.last(x))


def test_what_generates_a_state_space_s_kernel_is_decayed_by_accident_and_a_token_is_not() -> None:
    model = Network()
    found = audit(model, categorize(model, torch.randn(2, 6, 8)))
    assert sorted(f.name.split(".", 2)[2] for f in found.decayed_by_accident) == [
        "a_imag", "a_imag", "log_a", "log_a", "log_dt", "log_dt",
    ]  # fmt: skip
    assert "cls_token" in stock_decayed(model)


def test_what_its_author_marked_is_decayed_by_accident_and_the_audit_says_so() -> None:
    model = Network()
    model.cls_token._no_weight_decay = True
    model.head.weight._no_weight_decay = True
    found = audit(model, categorize(model, torch.randn(2, 6, 8))).decayed_by_accident
    marked = {f.name: f.why for f in found if not f.name.startswith("layers")}
    assert marked == dict.fromkeys(
        ("cls_token", "head.weight"),
        "marked by its author as not to be decayed (_no_weight_decay)",
    )


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
