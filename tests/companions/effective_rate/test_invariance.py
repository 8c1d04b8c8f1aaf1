"""Scale invariance is found exactly where it is, on networks where it is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import GammaError
from gamma_nlp.companions.effective_rate.invariance import scale_invariant
from gamma_nlp.companions.effective_rate.report import ScaleInvariance
from tests.support.invariant_networks import Chain


def found(report: ScaleInvariance) -> dict[str, Any]:
    """What the report says of each tensor, in the terms of the constructed networks."""
    what: dict[str, Any] = dict.fromkeys(report.sensitive, "sensitive")
    what |= dict.fromkeys(report.no_gradient, "none")
    return what | {one.names[0]: one.units or "alone" for one in report.alone}


def differences(seed: int) -> list[str]:
    net = Chain(seed)
    report = scale_invariant(net, net.inputs())
    what = found(report)
    wrong = [f"{n}: {what.get(n)} is {true}" for n, true in net.truth.items() if what[n] != true]
    groups = {tuple(one.names) for one in report.joint}
    wrong += [f"missed {group}" for group in net.together - groups]
    return [f"seed {seed}: {one}" for one in wrong]


@pytest.mark.parametrize("start", range(0, 40, 10))
def test_every_tensor_of_random_networks_is_judged_right(start: int) -> None:
    wrong = [one for seed in range(start, start + 10) for one in differences(seed)]
    assert wrong == []


@pytest.mark.slow
def test_every_tensor_of_200_random_networks_is_judged_right() -> None:
    wrong = [one for seed in range(200) for one in differences(seed)]
    assert wrong == []


def small(model_type: str, class_name: str, joint: bool = False) -> ScaleInvariance:
    from gamma_nlp.check.sweep import small_inputs, small_models

    model = small_models.build(model_type, class_name)
    return scale_invariant(model, small_inputs.inputs(model_type, model), joint=joint)


def test_in_bert_no_tensor_is_invariant_alone_and_the_embeddings_are_together() -> None:
    report = small("bert", "BertModel", joint=True)
    assert len(report) == 0
    keys = [f"encoder.layer.{i}.attention.self.key.bias" for i in range(3)]
    assert list(report.no_gradient) == keys
    tables = ["word_embeddings", "position_embeddings", "token_type_embeddings"]
    names = tuple(f"embeddings.{table}.weight" for table in tables)
    assert names in [one.names for one in report.joint]


@pytest.mark.parametrize(
    ("kind", "cls"), [("gpt2", "GPT2LMHeadModel"), ("llama", "LlamaForCausalLM")]
)
def test_in_gpt2_and_llama_no_tensor_is_invariant_alone(kind: str, cls: str) -> None:
    report = small(kind, cls)
    assert len(report) == 0 and report.sensitive


def test_query_and_key_weights_of_qwen3_are_invariant_head_by_head() -> None:
    report = small("qwen3", "Qwen3ForCausalLM")
    heads = tuple((8 * i, 8 * i + 8) for i in range(4))
    assert {one.names[0]: one.units for one in report} == {
        f"model.layers.{i}.self_attn.{what}_proj.weight": heads for i in range(3) for what in "qk"
    }


def test_gemma3s_branches_are_invariant_too_since_a_norm_follows_them() -> None:
    report = small("gemma3_text", "Gemma3ForCausalLM")
    layer = {
        "self_attn.q_proj": 4, "self_attn.k_proj": 2, "self_attn.v_proj": 0, "self_attn.o_proj": 0,
        "mlp.up_proj": 0, "mlp.down_proj": 0,
    }  # fmt: skip
    assert {one.names[0]: len(one.units) for one in report} == {
        f"model.layers.{i}.{name}.weight": units for i in range(3) for name, units in layer.items()
    }


class Fit(nn.Module):
    """A linear unit, and another whose direction alone counts."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.v = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.w) + x @ (self.v / self.v.norm())


def test_a_stationary_point_is_not_an_invariance() -> None:
    model, x = Fit(), torch.randn(7, 2)
    target = model(x).detach()

    def loss(net: nn.Module) -> Tensor:
        return (net(x.double()) - target.double()).square().mean()

    loss(model.double()).backward()
    assert model.w.grad is not None and float(model.w.grad.norm()) < 1e-6
    report = scale_invariant(model, loss_fn=loss)
    assert found(report) == {"w": "sensitive", "v": "alone"}


def test_the_model_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    net[0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    report = scale_invariant(net, torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    assert found(report)["0.weight"] == tuple((i, i + 1) for i in range(4))  # though frozen
    assert report.no_gradient == ("0.bias",)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training and not net[0].weight.requires_grad
    assert net[3].weight.grad is None


def test_gain_and_shift_before_a_weight_and_a_norm_go_together() -> None:
    net = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6, bias=False), nn.LayerNorm(6), nn.GELU())
    report = scale_invariant(net, torch.randn(5, 4))
    assert [one.names for one in report.joint] == [("0.weight", "0.bias")]
    assert str(report).splitlines()[1:] == [
        "  1.weight", "together only: 1", "  0.weight + 0.bias"
    ]  # fmt: skip


def test_tensors_of_odd_kinds_are_examined_or_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.scalar = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.ones(()))
            self.none, self.norm = nn.Parameter(torch.ones(0, 3)), nn.LayerNorm(6)
            self.phase = nn.Parameter(torch.randn(4, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            z = self.norm((x * self.phase.abs()) @ self.w.T * self.scalar)
            return z + self.none.sum() + self.scalar

    report = scale_invariant(Odd(), torch.randn(5, 4))
    assert found(report)["w"] == "alone" and found(report)["scalar"] == "sensitive"
    assert report.no_gradient == ("none",) and report.not_examined == ("phase",)
    assert "not examined, no real numbers: 'phase'" in str(report)


def test_without_joint_no_groups_are_looked_for() -> None:
    net = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6, bias=False), nn.LayerNorm(6), nn.GELU())
    assert scale_invariant(net, torch.randn(5, 4), joint=False).joint == ()


def test_a_model_that_cannot_be_called_is_an_error_that_says_so() -> None:
    with pytest.raises(GammaError, match="could not be run in float64"):
        scale_invariant(nn.Linear(3, 4), torch.randn(5, 2))
    with pytest.raises(GammaError, match=r"scale_invariant\(model, inputs=") as raised:
        scale_invariant(nn.Linear(3, 4))
    assert "categorize" not in str(raised.value)
    with pytest.raises(GammaError, match="nothing that depends on its parameters"):
        scale_invariant(nn.Linear(3, 4), loss_fn=lambda net: torch.ones(3))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_gradients_are_needed_around_it(mode: Any) -> None:
    net, x = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)), torch.randn(5, 4)
    expected = scale_invariant(net, x)
    with mode():
        assert scale_invariant(net, x) == expected


def test_what_would_give_a_wrong_report_is_refused() -> None:
    net, x = nn.Linear(3, 4), torch.randn(5, 3)
    with pytest.raises(GammaError, match="loss_fn must call that copy"):
        scale_invariant(net, loss_fn=lambda copy: net(x).sum())
    with pytest.raises(GammaError, match="inputs or loss_fn, not both"):
        scale_invariant(net, x, loss_fn=lambda copy: copy(x.double()).sum())
    with pytest.raises(GammaError, match="returned no finite number"):
        scale_invariant(net, x * float("nan"))
    with pytest.raises(GammaError, match="gradients that are not finite"):
        scale_invariant(net, loss_fn=lambda copy: (copy(x.double()) * 0).abs().sqrt())
    with pytest.raises(GammaError, match="on the meta device"):
        scale_invariant(nn.Linear(3, 4, device="meta"), x)


def test_a_loss_may_call_the_copy_with_inputs_of_any_precision() -> None:
    net, x = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)), torch.randn(5, 4)
    labels = torch.tensor([0, 1, 1, 0, 1])

    def loss(copy: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(copy(x), labels)

    assert scale_invariant(net, loss_fn=loss).joint == scale_invariant(net, x).joint


def test_a_loss_may_call_the_copy_with_what_comes_from_its_own_parameters() -> None:
    net: Any = nn.Linear(4, 6)
    net.factor = nn.Parameter(torch.rand(4))
    x = torch.randn(5, 4)
    report = scale_invariant(net, loss_fn=lambda copy: copy(copy.factor * x.double()))
    assert set(report.sensitive) == {"factor", "weight", "bias"}
