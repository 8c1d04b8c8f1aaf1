"""What is wrapped around a model moves no gain: adapters, checkpointing, compiling; and offsets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp import GainTable, categorize
from tests.support.families import FAMILIES
from tests.support.golden_files import expected, golden_path, read_golden
from tests.support.structures import (
    HEAD,
    HEAD_RMS,
    INNER,
    INNER_RMS,
    LAST,
    LAST_RMS,
    SHORTCUT,
    D,
    Net,
    build,
    linear,
    mlp,
    norm,
    placed,
    placed_small,
    short,
    spelled,
)


def golden(family: str, prefix: str = "") -> dict[str, tuple[str, str, int]]:
    rows = expected(FAMILIES[family].build(), read_golden(golden_path(family)))
    return {f"{prefix}{name}": row for name, row in rows.items()}


def rows(table: GainTable) -> dict[str, tuple[str, str, float]]:
    return {g.name: (str(g.category), g.kind, g.offset) for g in table}


# Adapters -----------------------------------------------------------------------------------------


def test_lora_on_the_last_weight_of_a_branch_leaves_the_norm_after_it_branch_last() -> None:
    import peft

    config = peft.LoraConfig(target_modules=["o_proj", "down_proj", "gate_proj"], r=2)
    model = peft.get_peft_model(FAMILIES["gemma2"].build(), config)
    table = categorize(model, FAMILIES["gemma2"].inputs(), method="graph")
    assert rows(table) == golden("gemma2", "base_model.model.")


def test_norms_in_modules_to_save_are_placed_and_their_frozen_originals_are_unused() -> None:
    import peft

    config = peft.LoraConfig(
        target_modules=["down_proj"],
        r=2,
        modules_to_save=["post_feedforward_layernorm", "input_layernorm"],
    )
    model = peft.get_peft_model(FAMILIES["gemma2"].build(), config)
    layer, saved = "base_model.model.model.layers.*", "modules_to_save.default"
    table = categorize(model, FAMILIES["gemma2"].inputs(), method="graph")
    assert short(table) == spelled(
        model,
        {
            f"{layer}.input_layernorm.{saved}": f"{INNER_RMS} +1",
            f"{layer}.input_layernorm.original_module": "unused rms_norm",
            f"{layer}.post_attention_layernorm": f"{LAST_RMS} +1",
            f"{layer}.pre_feedforward_layernorm": f"{INNER_RMS} +1",
            f"{layer}.post_feedforward_layernorm.{saved}": f"{LAST_RMS} +1",
            f"{layer}.post_feedforward_layernorm.original_module": "unused rms_norm",
            "base_model.model.model.norm": f"{HEAD_RMS} +1",
        },
    )


def test_bottleneck_adapter_at_the_end_of_a_branch_adds_to_nothing_that_counts() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        a = m.o(m.n(x))
        return m.final(x + m.post(a + m.up(torch.relu(m.down(m.inside(a))))))

    net = Net(
        forward, embed=linear(), o=linear(), down=linear(D, 2), up=linear(2, D),
        n=norm(), inside=norm(), post=norm(), final=norm(),
    )  # fmt: skip
    assert placed(net) == {"n": INNER, "inside": INNER, "post": LAST, "final": HEAD}


def test_adapter_beside_a_frozen_post_norm_block_leaves_its_norms_on_the_trunk() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.n0(m.embed(x))
        x = m.n1(x + m.a(x) + m.up(torch.relu(m.down(x))))
        return m.out(m.n2(x + m.b(x)))

    net = Net(
        forward, embed=linear(), a=mlp(), b=mlp(), down=linear(D, 2), up=linear(2, D),
        n0=norm(), n1=norm(), n2=norm(), out=linear(),
    )  # fmt: skip
    net.requires_grad_(False)
    net.down.requires_grad_(True)
    assert placed(net) == {"n0": SHORTCUT, "n1": SHORTCUT, "n2": HEAD}


# Checkpointing, compiling, custom functions -------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_gradient_checkpointing_of_transformers_stays_on_and_hides_nothing(
    family: str, reentrant: bool
) -> None:
    model = FAMILIES[family].build().train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert rows(categorize(model, FAMILIES[family].inputs(), method="graph")) == golden(family)
    assert model.training and model.is_gradient_checkpointing


def test_compiled_model_of_transformers_is_placed_under_the_names_of_its_wrapper() -> None:
    inputs = FAMILIES["gpt2"].inputs()
    wrapped = torch.compile(FAMILIES["gpt2"].build())
    assert rows(categorize(wrapped, inputs, method="graph")) == golden("gpt2", "_orig_mod.")
    in_place = FAMILIES["gpt2"].build()
    in_place.compile()
    assert rows(categorize(in_place, inputs, method="graph")) == golden("gpt2")


def test_block_compiled_on_its_own_is_seen_through() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.final(x + m.block(m.n(x)))

    net = Net(forward, embed=linear(), block=mlp(), n=norm(), final=norm())
    net.block.compile(fullgraph=True)
    net.n = torch.compile(net.n)
    assert placed(net) == {"n._orig_mod": INNER, "final": HEAD}


class AddNorm(torch.autograd.Function):
    """Adds a branch to its skip and normalises the sum, as fused kernels do; returns both."""

    @staticmethod
    def forward(ctx: Any, branch: Tensor, skip: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        total = branch + skip
        ctx.save_for_backward(total, weight)
        scaled = total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + 1e-6)
        return scaled * (1 + weight), total


def test_custom_function_that_adds_and_normalises_is_seen_through() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h, x = AddNorm.apply(m.a(x), x, m.gains[0])
        h, x = AddNorm.apply(m.b(h), x, m.gains[1])
        return m.out(h)

    gains = nn.ParameterList(nn.Parameter(torch.zeros(D)) for _ in range(2))
    net = Net(forward, embed=linear(), a=mlp(), b=mlp(), out=linear(), gains=gains)
    assert placed(net) == {"gains.0": f"{INNER_RMS} +1", "gains.1": f"{HEAD_RMS} +1"}


# Offsets ------------------------------------------------------------------------------------------


class GemmaRMSNorm(nn.RMSNorm):
    """Named like a norm that stores its gain less one, but stores it whole."""


class Plain(nn.Module):
    """Named like nothing, stores its gain less one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(D)), nn.Parameter(torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (D,), self.weight + 1, self.bias)


def test_offset_follows_what_a_norm_computes_and_not_its_name_or_its_values() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.final(x + m.a(m.n(x)))

    net = Net(forward, embed=linear(), a=mlp(), n=GemmaRMSNorm(D), final=Plain())
    nn.init.zeros_(net.n.weight)
    assert placed(net) == {"n": INNER_RMS, "final": f"{HEAD} +1"}


def test_nemotron_adds_one_to_the_weight_of_a_layer_norm() -> None:
    model = build("nemotron", "NemotronForCausalLM")
    assert placed_small("nemotron", model) == spelled(
        model,
        {
            "model.layers.*.input_layernorm": f"{INNER} +1",
            "model.layers.*.post_attention_layernorm": f"{INNER} +1",
            "model.norm": f"{HEAD} +1",
        },
    )
