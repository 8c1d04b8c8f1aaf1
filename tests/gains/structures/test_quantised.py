"""Quantised weights are weights, whatever holds them and whatever kernel reads them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import Role, categorize
from tests.support.structures import HEAD, INNER, LAST, D, Net, linear, norm, placed, short, signal

WIDE = 64


def sandwich(weight: nn.Module) -> Net:
    """A block whose branch is norm, ``weight``, norm: what the weight is read as decides."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.final(x + m.post(m.weight(m.pre(x))))

    members = {name: norm(WIDE) for name in ("pre", "post", "final")}
    return Net(forward, embed=linear(WIDE, WIDE), weight=weight, **members)


SANDWICH = {"pre": INNER, "post": LAST, "final": HEAD}


@torch.library.custom_op("toy::packed_linear", mutates_args=())
def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """A kernel that unpacks its matrix from one column, as 4-bit kernels do."""
    out = x @ (packed.view(x.shape[-1], -1).float() / 128 - 1)
    return out if bias is None else out + bias


class Packed(nn.Module):
    def __init__(self, dtype: torch.dtype, bias: bool) -> None:
        super().__init__()
        column = torch.randint(0, 255, (WIDE * WIDE, 1)).to(dtype)
        self.weight = nn.Parameter(column, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(WIDE)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return packed_linear(x, self.weight, self.bias)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16])
def test_matrix_packed_into_a_column_is_a_weight_to_an_unknown_kernel(
    dtype: torch.dtype, bias: bool
) -> None:
    table = categorize(sandwich(Packed(dtype, bias)), signal(2, 5, WIDE))
    assert short(table) == SANDWICH
    assert table.roles["weight.weight"] is Role.WEIGHT
    assert table.roles.get("weight.bias", Role.BIAS) is Role.BIAS


@pytest.mark.needs("bitsandbytes")
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bit_layer_of_bitsandbytes_is_a_weight_in_either_packing(kind: str) -> None:
    bnb: Any = importlib.import_module("bitsandbytes")
    layer = bnb.nn.Linear4bit(WIDE, WIDE, quant_type=kind, compute_dtype=torch.float32)
    net = sandwich(layer).to("cpu")  # quantises
    for _ in range(2):
        table = categorize(net, signal(2, 5, WIDE))
        assert short(table) == SANDWICH
        assert table.roles["weight.weight"] is Role.WEIGHT
        assert table.roles["weight.bias"] is Role.BIAS
        net.eval()(signal(2, 5, WIDE))  # repacks, on a CPU that has the instructions for it


@pytest.mark.needs("bitsandbytes")
def test_four_bit_layer_of_bitsandbytes_can_be_trained_afterwards() -> None:
    bnb: Any = importlib.import_module("bitsandbytes")
    layer = bnb.nn.Linear4bit(WIDE, WIDE, compute_dtype=torch.float32)
    net = sandwich(layer).to("cpu").train()
    shape, flag = layer.weight.shape, layer.support_avx512bf16_for_cpu
    categorize(net, signal(2, 5, WIDE))
    assert (layer.weight.shape, layer.support_avx512bf16_for_cpu) == (shape, flag)
    net(signal(2, 5, WIDE)).square().sum().backward()
    assert net.pre.weight.grad is not None


def test_layer_that_repacks_itself_for_inference_is_kept_from_it() -> None:
    class Repacking(nn.Linear):
        support_avx512bf16_for_cpu = True

        def forward(self, x: Tensor) -> Tensor:
            if self.support_avx512bf16_for_cpu and not self.training:
                self.weight.data = self.weight.data.view(-1, 1)
            return x @ self.weight.view(WIDE, WIDE)

    net = sandwich(Repacking(WIDE, WIDE)).train()
    assert placed(net, signal(2, 5, WIDE)) == SANDWICH
    assert net.weight.weight.shape == (WIDE, WIDE)
    assert net.weight.support_avx512bf16_for_cpu


@pytest.mark.needs("bitsandbytes")
def test_eight_bit_layer_of_bitsandbytes_is_a_weight() -> None:
    bnb: Any = importlib.import_module("bitsandbytes")
    net = sandwich(bnb.nn.Linear8bitLt(WIDE, WIDE, has_fp16_weights=False)).to("cpu")
    table = categorize(net, signal(2, 5, WIDE))
    assert short(table) == SANDWICH
    assert (table.roles["weight.weight"], table.roles["weight.bias"]) == (Role.WEIGHT, Role.BIAS)


@pytest.mark.parametrize("as_buffer", [False, True])
def test_matrix_unpacked_by_shifts_and_masks_is_a_weight(as_buffer: bool) -> None:
    class Nibbles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            packed = torch.randint(0, 255, (WIDE // 2, WIDE), dtype=torch.uint8)
            if as_buffer:
                self.register_buffer("packed", packed)
            else:
                self.packed = nn.Parameter(packed, requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            low, high = self.packed.t() & 15, (self.packed.t() >> 4) & 15
            return x @ (torch.cat([low, high], 1).float() - 8)

    assert placed(sandwich(Nibbles()), signal(2, 5, WIDE)) == SANDWICH


def test_product_with_a_whole_number_buffer_is_not_a_gain() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.final(x + m.plain(x) * m.table.float())

    net = Net(
        forward, embed=linear(), final=norm(), plain=nn.LayerNorm(D, elementwise_affine=False)
    )
    net.register_buffer("table", torch.ones(5, D, dtype=torch.long))
    assert placed(net) == {"final": HEAD}
