"""Structures found while covering the text models of transformers, each in its smallest form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp import Category, GainTable, GammaError, Role, categorize
from tests.support.structures import D, Net


class HandWritten(nn.Module):
    """A norm from single operations, with or without centring."""

    def __init__(self, centred: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        return self.weight * (x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class NoNorm(nn.Module):
    """Called a norm, but normalises nothing (MobileBERT)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(D))
        self.bias = nn.Parameter(torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


def linear() -> nn.Linear:
    return nn.Linear(D, D, bias=False)


def norm() -> nn.LayerNorm:
    return nn.LayerNorm(D, bias=False)


def table(net: nn.Module) -> GainTable:
    return categorize(net, torch.randn(2, 5, D, generator=torch.Generator().manual_seed(0)))


def places(net: nn.Module) -> dict[str, str]:
    return {gain.name: str(gain.category) for gain in table(net)}


def test_sum_of_experts_that_starts_from_zeros_like_the_signal_crosses_their_weights() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        total = torch.zeros_like(h)
        total += m.a(h)
        return m.out(x + total)

    net = Net(forward, embed=linear(), a=linear(), out=linear(), n=norm())
    assert places(net) == {"n.weight": "branch_inner"}


def test_gain_that_only_chooses_what_a_branch_reads_feeds_that_branch() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        index = m.index_norm(m.index(h)).sum(-1).topk(3).indices
        mask = torch.zeros(2, 5, dtype=torch.bool).scatter(1, index, True)
        scores = (h @ h.transpose(1, 2)).masked_fill(~mask[:, None], -1e9)
        return m.out(x + m.a(scores.softmax(-1) @ m.b(h)))

    net = Net(
        forward, embed=linear(), index=linear(), a=linear(), b=linear(), out=linear(),
        n=norm(), index_norm=norm(),
    )  # fmt: skip
    assert places(net) == {"n.weight": "branch_inner", "index_norm.weight": "branch_inner"}


def test_mask_made_from_the_signal_makes_no_residual_addition() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n(m.embed(x))
        return m.out(m.a(h) + m.b(x) * (h > 0))

    net = Net(forward, embed=linear(), a=linear(), b=linear(), out=linear(), n=norm())
    assert places(net) == {"n.weight": "head"}


def test_number_that_mixes_the_output_of_a_gainless_norm_is_not_a_gain() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        first = m.plain(m.embed(x))
        x = first + m.a(first)
        return m.out(m.mix[0] * x + m.mix[1] * first)

    net = Net(
        forward, embed=linear(), a=linear(), out=linear(),
        plain=nn.LayerNorm(D, elementwise_affine=False), mix=nn.Parameter(torch.ones(2)),
    )  # fmt: skip
    assert len(table(net)) == 0
    assert table(net).roles["mix"] is Role.OTHER


def test_vector_after_a_gainless_norm_is_its_gain_wherever_it_is_applied() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.out(x + m.a(m.plain(x) * m.gain))

    net = Net(
        forward, embed=linear(), a=linear(), out=linear(),
        plain=nn.LayerNorm(D, elementwise_affine=False), gain=nn.Parameter(torch.ones(D)),
    )  # fmt: skip
    assert places(net) == {"gain": "branch_inner"}


@pytest.mark.parametrize(("centred", "kind"), [(True, "layer_norm"), (False, "rms_norm")])
def test_kind_of_a_hand_written_norm_says_whether_it_centres(centred: bool, kind: str) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.out(x + m.a(m.n(x)))

    net = Net(forward, embed=linear(), a=linear(), out=linear(), n=HandWritten(centred))
    (gain,) = table(net)
    assert (gain.category, gain.kind) == (Category.BRANCH_INNER, kind)


def test_module_called_a_norm_that_only_scales_has_no_gain() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.out(m.n(x + m.a(x)))

    net = Net(forward, embed=linear(), a=linear(), out=linear(), n=NoNorm())
    assert len(table(net)) == 0
    assert table(net).roles["n.weight"] is Role.OTHER


def test_module_called_a_norm_that_does_something_else_is_refused() -> None:
    class OddNorm(NoNorm):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x) * self.weight

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.out(x + m.a(m.n(x)))

    net = Net(forward, embed=linear(), a=linear(), out=linear(), n=OddNorm())
    with pytest.raises(GammaError, match=r"'n\.weight' belongs to a norm"):
        table(net)


def test_tokens_read_through_data_are_tokens() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        query = m.n(m.query.data).expand(2, -1, -1)
        keys = m.k(x)
        read = (query @ keys.transpose(1, 2)).softmax(-1) @ keys
        return m.out(m.n2(query + m.a(read)))

    net = Net(
        forward, k=linear(), a=linear(), out=linear(), n=norm(), n2=norm(),
        query=nn.Parameter(torch.randn(1, 3, D)),
    )  # fmt: skip
    assert places(net) == {"n.weight": "shortcut", "n2.weight": "head"}
    assert table(net).roles["query"] is Role.OTHER


def test_weight_that_also_meets_a_constant_stays_a_weight() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        start = m.delayed(h.new_zeros(2, 1, D))
        values = torch.cat([start, m.delayed(h)[:, :-1]], dim=1)
        return m.out(x + F.relu(values))

    net = Net(forward, embed=linear(), delayed=linear(), out=linear(), n=norm())
    assert places(net) == {"n.weight": "branch_inner"}
    assert table(net).roles["delayed.weight"] is Role.WEIGHT


def test_weight_of_a_constant_alone_is_a_weight() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.out(x + m.a(m.n(x) * (1 + m.step(torch.ones(1, D)))))

    net = Net(forward, embed=linear(), a=linear(), step=linear(), out=linear(), n=norm())
    assert places(net) == {"n.weight": "branch_inner"}
    assert table(net).roles["step.weight"] is Role.WEIGHT


def test_bias_of_several_dimensions_is_a_bias_and_a_table_of_positions_an_embedding() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x) + m.positions
        heads = m.a(m.n(x)).unflatten(-1, (2, D // 2)) + m.head_bias
        return m.out(x + heads.tanh().flatten(-2))

    net = Net(
        forward, embed=linear(), a=linear(), out=linear(), n=norm(),
        positions=nn.Parameter(torch.randn(5, D)), head_bias=nn.Parameter(torch.randn(2, D // 2)),
        unused_bias=nn.Parameter(torch.randn(2, D // 2)),
    )  # fmt: skip
    roles = table(net).roles
    assert roles["positions"] is Role.EMBEDDING
    assert roles["head_bias"] is roles["unused_bias"] is Role.BIAS


def test_bias_table_that_is_looked_up_is_an_embedding() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        distance = torch.arange(5)[None] - torch.arange(5)[:, None] + 4
        scores = m.a(x) @ m.b(x).transpose(1, 2) + F.embedding(distance, m.bias).sum(-1)
        return m.out(m.n(x + scores.softmax(-1) @ x))

    net = Net(
        forward, embed=linear(), a=linear(), b=linear(), out=linear(), n=norm(),
        bias=nn.Parameter(torch.randn(9, 2)),
    )  # fmt: skip
    assert table(net).roles["bias"] is Role.EMBEDDING


def test_bias_of_an_attention_whose_query_is_a_parameter_is_a_bias() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        read, _ = m.attention(m.probe.expand(2, -1, -1), x, x)
        return m.out(read + m.a(m.n(read)))

    net = Net(
        forward, embed=linear(), a=linear(), out=linear(), n=norm(),
        attention=nn.MultiheadAttention(D, 2, batch_first=True),
        probe=nn.Parameter(torch.randn(1, 1, D)),
    )  # fmt: skip
    roles = table(net).roles
    assert roles["attention.in_proj_weight"] is Role.WEIGHT
    assert roles["attention.in_proj_bias"] is roles["attention.out_proj.bias"] is Role.BIAS


def test_bias_that_is_looked_up_with_its_weight_is_a_bias() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        expert = m.gate(x).mean((0, 1)).argmax()
        return m.out(x + (m.n(x) @ m.proj[expert] + m.proj_bias[expert]).tanh())

    net = Net(
        forward, embed=linear(), gate=nn.Linear(D, 3), out=linear(), n=norm(),
        proj=nn.Parameter(torch.randn(3, D, D)), proj_bias=nn.Parameter(torch.randn(3, D)),
    )  # fmt: skip
    roles = table(net).roles
    assert (roles["proj"], roles["proj_bias"]) == (Role.WEIGHT, Role.BIAS)


def test_interpolation_between_a_signal_and_its_branch_is_an_addition() -> None:
    model = Net(
        lambda m, x: m.out(torch.lerp(s := m.stem(x), m.up(m.inner(s)), 0.3)),
        stem=nn.LayerNorm(D),
        inner=nn.LayerNorm(D),
        up=nn.Linear(D, D),
        out=nn.Linear(D, 2),
    )
    table = categorize(model, torch.randn(2, 9, D))
    assert table["stem.weight"].category is Category.SHORTCUT
    assert table["inner.weight"].category is Category.BRANCH_INNER
