"""The trace sees what a model does, and leaves the model as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gamma_nlp import GammaError, categorize
from gamma_nlp.graph.trace import trace

D = 8


class Block(nn.Module):
    """A pre-norm block whose branch runs in a way that subclasses choose."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.up = nn.Linear(D, D)
        self.post = nn.BatchNorm1d(D)

    def branch(self, x: Tensor) -> Tensor:
        return self.post(torch.relu(self.up(self.norm(x))))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


EXPECTED = {"norm.weight": "branch_inner", "post.weight": "branch_last"}


def places(model: nn.Module, x: Tensor | None = None) -> dict[str, str]:
    table = categorize(model, torch.randn(4, D) if x is None else x)
    return {gain.name: str(gain.category) for gain in table}


def test_mode_gradients_random_state_buffers_and_batch_statistics_stay_as_they_were() -> None:
    model = Block().train()
    model.up.eval()
    model.register_buffer("steps", torch.zeros(1))

    def count(module: nn.Module, args: object) -> None:
        model.steps.add_(1)
        model.noise = torch.rand(1)

    model.register_forward_pre_hook(count)
    model.up.weight.grad = torch.ones(D, D)
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    x = torch.randn(4, D)
    state = torch.get_rng_state()
    assert places(model, x) == EXPECTED
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    assert torch.equal(model.up.weight.grad, torch.ones(D, D))
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.grad is None for n, p in model.named_parameters() if n != "up.weight")


def test_everything_is_restored_when_the_forward_pass_fails() -> None:
    class Failing(Block):
        def forward(self, x: Tensor) -> Tensor:
            self.post.running_mean.add_(1)
            raise RuntimeError("no")

    model = Failing().train()
    with pytest.raises(GammaError, match=r"Failing failed.*RuntimeError: no"):
        trace(model, torch.randn(4, D))
    assert model.training
    assert torch.equal(model.post.running_mean, torch.zeros(D))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_block_is_seen_through(reentrant: bool) -> None:
    class Checkpointed(Block):
        def forward(self, x: Tensor) -> Tensor:
            return x + checkpoint(self.branch, x, use_reentrant=reentrant)

    assert places(Checkpointed()) == EXPECTED


def test_custom_autograd_function_is_seen_through() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor, weight: Tensor) -> Tensor:
            return x @ weight.t()

    class Custom(Block):
        def branch(self, x: Tensor) -> Tensor:
            return self.post(Double.apply(self.norm(x), self.up.weight))

    assert places(Custom()) == EXPECTED


def test_tower_under_no_grad_and_frozen_weights_are_seen() -> None:
    class Tower(Block):
        def branch(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().branch(x)

    assert places(Tower().requires_grad_(False)) == EXPECTED


def test_compiled_and_wrapped_models_keep_the_names_of_the_wrapper() -> None:
    compiled = torch.compile(Block())
    assert places(compiled) == {f"_orig_mod.{name}": place for name, place in EXPECTED.items()}

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.compile(Block())

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    assert set(places(Outer()).values()) == set(EXPECTED.values())


def test_value_written_into_a_slice_is_followed() -> None:
    class Sliced(Block):
        def branch(self, x: Tensor) -> Tensor:
            out = torch.empty_like(x)
            out[:, : D // 2] = super().branch(x)[:, : D // 2]
            out[:, D // 2 :] = 0
            return out

    assert places(Sliced()) == EXPECTED


def test_matrix_packed_into_an_integer_buffer_counts_as_a_weight() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(D)
            self.register_buffer("packed", torch.randint(-8, 8, (D, D), dtype=torch.int8))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.norm(x) @ (self.packed.float() / 8)

    assert places(Packed()) == {"norm.weight": "branch_inner"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_experts_are_traced_on_the_meta_device_in_any_dtype(dtype: torch.dtype) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = MixtralConfig(
        **sizes, num_key_value_heads=2, num_hidden_layers=2, vocab_size=16, num_local_experts=2
    )
    with torch.device("meta"):
        model = MixtralForCausalLM(config).to(dtype)
    kernel = model.config._experts_implementation_internal
    graph = trace(model)
    assert {name for name in graph.weights if "experts" in name} == {
        name for name, _ in model.named_parameters() if "experts" in name
    }
    assert model.config._experts_implementation_internal == kernel


def test_meta_device_needs_no_values() -> None:
    with torch.device("meta"):
        model = Block()
    assert places(model, torch.empty(4, D, device="meta")) == EXPECTED


def test_graph_of_a_deep_model_has_nodes_in_proportion_to_its_depth() -> None:
    sizes = [
        len(trace(nn.Sequential(*(Block() for _ in range(depth))), torch.randn(4, D)).nodes)
        for depth in (2, 4, 8)
    ]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])


def test_kernel_that_fuses_norm_and_weight_is_refused_by_the_name_of_its_module() -> None:
    @torch.library.custom_op("toy::norm_linear", mutates_args=())
    def norm_linear(x: Tensor, gain: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, (D,), gain) @ weight.t() + bias

    class Fused(Block):
        def branch(self, x: Tensor) -> Tensor:
            return norm_linear(x, self.norm.weight, self.up.weight, self.up.bias)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Fused()

        def forward(self, x: Tensor) -> Tensor:
            return self.block(x)

    with pytest.raises(GammaError, match=r"module 'block' calls a kernel.*fuses"):
        categorize(Outer(), torch.randn(4, D))


def test_memory_filled_by_an_unseen_kernel_is_refused() -> None:
    class Hidden(Block):
        def branch(self, x: Tensor) -> Tensor:
            out = torch.empty_like(x)
            out.numpy()[:] = super().branch(x).numpy()  # behind PyTorch's back
            return torch.relu(out)

    with pytest.raises(GammaError, match="cannot see into"):
        categorize(Hidden(), torch.randn(4, D))


def test_unknown_inputs_are_asked_for_with_the_smallest_call() -> None:
    with pytest.raises(GammaError, match=r"categorize\(model, inputs=\(x,\)\)"):
        categorize(Block())
    with pytest.raises(GammaError, match="inputs is a str"):
        categorize(Block(), "tokens")
