"""The rule on small networks whose categories are known by construction."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp import categorize
from tests.support.structures import D, Net, linear, norm


def places(net: nn.Module, x: Tensor | None = None) -> dict[str, str]:
    x = torch.randn(2, 5, D) if x is None else x
    return {g.name.removesuffix(".weight"): str(g.category) for g in categorize(net, x)}


def test_pre_norm_block_is_branch_inner_and_final_norm_is_head() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        x = x + m.out(torch.relu(m.up(m.n1(x))))
        return m.lm(m.final(x + m.o2(m.n2(x))))

    net = Net(
        forward,
        embed=linear(), out=linear(), up=linear(), lm=linear(), o2=linear(),
        n1=norm(), n2=norm(), final=norm(),
    )  # fmt: skip
    assert places(net) == {"n1": "branch_inner", "n2": "branch_inner", "final": "head"}


def test_post_norm_trunk_is_shortcut_and_last_norm_is_head() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.n0(m.embed(x))
        x = m.n1(x + m.a(x))
        return m.n2(x + m.b(x))

    net = Net(forward, embed=linear(), a=linear(), b=linear(), n0=norm(), n1=norm(), n2=norm())
    assert places(net) == {"n0": "shortcut", "n1": "shortcut", "n2": "head"}


def test_sandwich_norm_at_the_end_of_a_branch_is_branch_last() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.out(x + m.post(m.a(m.pre(x))))

    net = Net(forward, embed=linear(), a=linear(), out=linear(), pre=norm(), post=norm())
    assert places(net) == {"pre": "branch_inner", "post": "branch_last"}


def test_norm_that_is_a_branch_by_itself_ends_it() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.out(x + m.n(x))

    assert places(Net(forward, embed=linear(), out=linear(), n=norm())) == {"n": "branch_last"}


def test_parallel_branches_share_one_addition() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        return m.final(m.a(h) + m.b(h) + x)

    net = Net(forward, embed=linear(), a=linear(), b=linear(), n=norm(), final=norm())
    assert places(net) == {"n": "branch_inner", "final": "head"}


def test_norm_that_feeds_a_skip_and_a_branch_is_shortcut() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n(m.embed(x))
        return h + m.a(h)

    assert places(Net(forward, embed=linear(), a=linear(), n=norm())) == {"n": "shortcut"}


def test_layer_scale_and_rezero_gate_end_their_branch() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        x = x + m.scale * m.a(m.n(x))
        return x + m.gate * F.dropout(m.b(x), 0.1, m.training)

    net = Net(
        forward, embed=linear(), a=linear(), b=linear(), n=norm(),
        scale=nn.Parameter(torch.ones(D)), gate=nn.Parameter(torch.zeros(1)),
    )  # fmt: skip
    table = categorize(net, torch.randn(2, 5, D))
    assert {g.name: (str(g.category), g.kind) for g in table} == {
        "scale": ("branch_last", "layer_scale"),
        "gate": ("branch_last", "layer_scale"),
        "n.weight": ("branch_inner", "layer_norm"),
    }


def test_factor_before_a_weight_is_not_a_gain() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return x + m.b(m.ia3 * torch.relu(m.a(m.n(x))))

    net = Net(
        forward, embed=linear(), a=linear(), b=linear(), n=norm(),
        ia3=nn.Parameter(torch.ones(D)),
    )  # fmt: skip
    table = categorize(net, torch.randn(2, 5, D))
    assert [g.name for g in table] == ["n.weight"]
    assert str(table.roles["ia3"]) == "other"


def test_projection_shortcut_counts_and_its_norm_is_shortcut() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = torch.relu(m.n0(m.embed(x)))
        return m.out(torch.relu(m.nd(m.down(x)) + m.n2(m.b(torch.relu(m.n1(m.a(x)))))))

    net = Net(
        forward, embed=linear(), a=linear(), b=linear(), down=linear(), out=linear(),
        n0=norm(), n1=norm(), n2=norm(), nd=norm(),
    )  # fmt: skip
    assert places(net) == {
        "n0": "shortcut", "n1": "branch_inner", "n2": "branch_last", "nd": "shortcut",
    }  # fmt: skip


def test_lora_sum_is_not_a_residual_addition() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n(m.embed(x))
        return m.out(m.w(h) + m.up(m.down(h)))

    net = Net(
        forward, embed=linear(), w=linear(), down=nn.Linear(D, 2), up=nn.Linear(2, D),
        out=linear(), n=norm(),
    )  # fmt: skip
    assert places(net) == {"n": "head"}


def test_lora_sum_inside_a_branch_leaves_the_branch_as_it_is() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        return x + m.post(m.w(h) + m.up(torch.relu(m.down(h))))

    net = Net(
        forward, embed=linear(), w=linear(), down=nn.Linear(D, 2), up=nn.Linear(2, D),
        n=norm(), post=norm(),
    )  # fmt: skip
    assert places(net) == {"n": "branch_inner", "post": "branch_last"}


def test_position_bias_added_to_scores_is_not_a_residual_addition() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        bias = m.bias(torch.arange(5))[None] @ torch.eye(D, 5)
        for layer in m.layers:
            h = layer["n"](x)
            q, k = layer["qn"](layer["q"](h)), layer["k"](h)
            scores = q @ k.transpose(1, 2) + bias
            x = x + layer["o"](scores.softmax(-1) @ layer["v"](h))
        return x

    layers = nn.ModuleList(
        nn.ModuleDict(
            {"n": norm(), "qn": norm(), "q": linear(), "k": linear(), "v": linear(), "o": linear()}
        )
        for _ in range(2)
    )
    net = Net(forward, embed=linear(), bias=nn.Embedding(5, D), layers=layers)
    table = categorize(net, torch.randn(1, 5, D))
    assert {str(g.category) for g in table} == {"branch_inner"}
    assert {g.name for g in table if g.kind == "qk_norm"} == {
        "layers.0.qn.weight", "layers.1.qn.weight",
    }  # fmt: skip


def test_nested_branch_whose_skip_spans_it_counts() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        h = h + m.a(m.inner(h))
        return x + m.post(h)

    net = Net(forward, embed=linear(), a=linear(), n=norm(), inner=norm(), post=norm())
    assert places(net) == {"n": "shortcut", "inner": "branch_inner", "post": "branch_last"}


def test_sum_inside_a_branch_behind_a_weight_does_not_count() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.a(m.n(x))
        return x + m.c(h + m.b(m.inner(h)))

    net = Net(forward, embed=linear(), a=linear(), b=linear(), c=linear(), n=norm(), inner=norm())
    assert places(net) == {"n": "branch_inner", "inner": "branch_inner"}


def test_long_skip_over_post_norm_blocks_keeps_the_blocks() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        start = m.embed(x)
        h = m.n1(start + m.a(start))
        h = m.n2(h + m.b(h))
        return m.out(m.n3(start + h))

    net = Net(
        forward, embed=linear(), a=linear(), b=linear(), out=linear(),
        n1=norm(), n2=norm(), n3=norm(),
    )  # fmt: skip
    assert places(net) == {"n1": "shortcut", "n2": "branch_last", "n3": "head"}


def test_shared_norm_takes_its_most_cautious_place() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        for _ in range(2):
            x = m.n(x + m.a(x))
        return x

    table = categorize(Net(forward, embed=linear(), a=linear(), n=norm()), torch.randn(2, 5, D))
    assert [str(g.category) for g in table] == ["shortcut"]
    assert "among 2 uses" in table["n.weight"].reason


def test_shared_norm_at_head_and_in_a_branch_is_head() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.out(m.n(x + m.a(m.n(x))))

    assert places(Net(forward, embed=linear(), a=linear(), out=linear(), n=norm())) == {"n": "head"}


def test_model_without_additions_tells_renormalised_gains_from_the_last_one() -> None:
    net = nn.Sequential(
        linear(), nn.BatchNorm1d(D), nn.ReLU(), linear(), nn.BatchNorm1d(D), nn.ReLU(), linear()
    )
    assert places(net, torch.randn(6, D)) == {"1": "branch_inner", "4": "head"}


def test_add_in_place_and_addcmul_count_as_additions() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x).clone()
        x += m.a(m.n1(x))
        return torch.addcmul(x, m.scale, m.b(m.n2(x)))

    net = Net(
        forward, embed=linear(), a=linear(), b=linear(), n1=norm(), n2=norm(),
        scale=nn.Parameter(torch.ones(D)),
    )  # fmt: skip
    assert places(net) == {"scale": "branch_last", "n1": "branch_inner", "n2": "branch_inner"}


class Rms(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.weight = nn.Parameter(torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return {
            "w": lambda: self.weight * y,
            "1+w": lambda: y * (1.0 + self.weight),
            "w+1": lambda: (self.weight.float() + 1).type_as(y) * y,
            "y+wy": lambda: y + self.weight * y,
            "norm": lambda: x / (x.norm(dim=-1, keepdim=True) / D**0.5) * self.weight,
            "fused": lambda: F.rms_norm(x, (D,), 1 + self.weight),
        }[self.form]()


@pytest.mark.parametrize(
    ("form", "offset"),
    [("w", 0), ("1+w", 1), ("w+1", 1), ("y+wy", 1), ("norm", 0), ("fused", 1)],
)
def test_offset_is_read_from_what_the_norm_computes(form: str, offset: int) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return x + m.a(m.n(x))

    table = categorize(Net(forward, embed=linear(), a=linear(), n=Rms(form)), torch.randn(2, D))
    assert [(str(g.category), g.kind, g.offset) for g in table] == [
        ("branch_inner", "rms_norm", offset)
    ]


def test_encoder_layer_of_torch_is_placed_despite_its_fused_path() -> None:
    layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True)
    stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert places(stack) == {
        "layers.0.norm1": "shortcut", "layers.0.norm2": "shortcut",
        "layers.1.norm1": "shortcut", "layers.1.norm2": "head",
    }  # fmt: skip
