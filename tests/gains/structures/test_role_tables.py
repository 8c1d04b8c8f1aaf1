"""Tables of positions, looked-up rows, and arrays of tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp import categorize
from gamma_nlp.gains.table import TOKENS
from tests.support.structures import (
    D,
    Net,
    attend,
    block,
    linear,
    mlp,
    norm,
    parameter,
    roles,
    signal,
)

L = 5
IDS = torch.tensor([[1, 2, 3, 4, 5], [0, 1, 2, 1, 0]])


DISTANCE = torch.arange(L)[None] - torch.arange(L)[:, None] + L - 1


def relative_looked_up(m: Net, x: Tensor) -> Tensor:
    return (x @ x.mT + m.table(DISTANCE).sum(-1)).softmax(-1) @ x


def relative_indexed(m: Net, x: Tensor) -> Tensor:
    bias = m.table[DISTANCE.view(-1)].view(L, L, 2).permute(2, 0, 1)
    return ((x @ x.mT)[:, None] + bias).softmax(-1).mean(1) @ x


def relative_sliced(m: Net, x: Tensor) -> Tensor:
    return (x @ x.mT + m.table[:L, :L]).softmax(-1) @ x


def relative_in_a_kernel(m: Net, x: Tensor) -> Tensor:
    bias = m.table[DISTANCE.view(-1)].view(L, L, 2).permute(2, 0, 1)[None]
    heads = x.unflatten(-1, (2, 4)).transpose(1, 2)
    return (
        F.scaled_dot_product_attention(heads, heads, heads, bias.expand(2, -1, -1, -1))
        .transpose(1, 2)
        .flatten(2)
    )


def relative_to_the_query(m: Net, x: Tensor) -> Tensor:
    position = torch.einsum("bid,ijd->bij", x, m.table[DISTANCE])
    return (x @ x.mT + position).softmax(-1) @ x


def relative_by_a_network(m: Net, x: Tensor) -> Tensor:
    bias = m.net(torch.arange(9.0)[:, None] - 4)[DISTANCE]
    return ((x @ x.mT)[:, None] + bias.permute(2, 0, 1)).softmax(-1).mean(1) @ x


def prompts(m: Net, x: Tensor) -> Tensor:
    keys = torch.cat([m.prefix.expand(2, -1, -1), x], 1)
    return (x @ keys.mT).softmax(-1) @ keys


BRANCHES = [
    (relative_indexed, {"table": (2 * L - 1, 2)}, "embedding"),
    (relative_sliced, {"table": (L + 1, L + 1)}, "embedding"),
    (relative_in_a_kernel, {"table": (2 * L - 1, 2)}, "embedding"),
    (relative_to_the_query, {"table": (2 * L - 1, D)}, "embedding"),
    (prompts, {"prefix": (1, 2, D)}, "other"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("branch", "shapes", "wanted"), BRANCHES, ids=lambda value: getattr(value, "__name__", "")
)
def test_role_of_every_own_parameter(branch, shapes, wanted) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model = block(branch, **{name: parameter(*shape) for name, shape in shapes.items()})
    expected = dict.fromkeys(shapes, wanted) if isinstance(wanted, str) else wanted
    assert roles(model, shapes) == expected


def test_a_network_on_distances_has_weights_and_a_looked_up_table_is_an_embedding() -> None:
    made = block(
        relative_by_a_network, net=nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))
    )
    wanted = {f"net.{layer}.{kind}": kind for layer in (0, 2) for kind in ("weight", "bias")}
    assert roles(made, wanted) == wanted
    assert roles(block(relative_looked_up, table=nn.Embedding(2 * L - 1, 2)), ["table.weight"]) == {
        "table.weight": "embedding"
    }


def test_what_projects_a_learned_query_has_a_weight_and_a_bias() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        read = (m.q(m.query) @ m.k(m.pre(x)).mT).softmax(-1) @ x
        return m.out(m.last(read))

    model = Net(
        forward, q=linear(), k=linear(), query=parameter(3, D), pre=norm(), last=norm(),
        out=linear(),
    )  # fmt: skip
    wanted = {"query": "other", "q.weight": "weight", "q.bias": "bias", "k.bias": "bias"}
    assert roles(model, wanted) == wanted


# How positions meet the stream, and what they are.
POSITIONS = {
    "before anything": lambda m, x: m.body(m.embed(x) + m.table),
    "right after a norm": lambda m, x: m.body(m.first(m.embed(x)) + m.table),
    "after a norm of its own module": lambda m, x: m.body(
        F.layer_norm(m.embed(x), (D,), m.g, m.b) + m.table
    ),
    "in each block": lambda m, x: m.body(m.embed(x).relu() + m.table),
    "scaled": lambda m, x: m.body(m.embed(x) + m.alpha * m.table),
    "resampled": lambda m, x: m.body(
        m.embed(x) + F.interpolate(m.table.mT, size=L, mode="linear").mT
    ),
    "of two axes": lambda m, x: m.body(
        m.embed(x) + (m.table[0, :2, None] + m.other[None]).flatten(0, 1)[:L]
    ),
    "before a weight": lambda m, x: m.out(m.second(m.embed(x) + m.table).relu()),
    "masked": lambda m, x: m.body((m.embed(x) + m.table) * (x[..., :1] > 0).float()),
    "dropped out, then added to": lambda m, x: m.body(
        F.dropout(m.embed(x) + m.table, 0.1) + m.second(x)
    ),
}


@pytest.mark.filterwarnings("ignore:.*never reached")
@pytest.mark.parametrize("way", POSITIONS)
def test_positions_on_the_stream_are_an_embedding(way: str) -> None:
    model = Net(
        POSITIONS[way], embed=linear(), first=norm(), second=linear(), out=linear(),
        body=nn.TransformerEncoderLayer(D, 2, 16, batch_first=True), table=parameter(1, L, D),
        other=parameter(L, D), alpha=parameter(), g=parameter(D), b=parameter(D),
    )  # fmt: skip
    names = ["table", "other"] if way == "of two axes" else ["table"]
    assert roles(model, names) == dict.fromkeys(names, "embedding")


# How an array of tokens meets the stream.
ARRAYS = {
    "class token": lambda m, x: m.body(torch.cat([m.tokens[:, :1].expand(2, -1, -1), x], 1)),
    "registers": lambda m, x: m.body(torch.cat([x, m.tokens.expand(2, -1, -1)], 1)),
    "mask token": lambda m, x: m.body(torch.where(x[..., :1] > 0, x, m.tokens[:, :1])),
    "latents": lambda m, x: m.body(m.read(m.first(m.tokens.expand(2, -1, -1)), x, x)[0]),
}


@pytest.mark.filterwarnings("ignore:.*never reached")
@pytest.mark.parametrize("way", ARRAYS)
def test_arrays_of_tokens_are_other(way: str) -> None:
    model = Net(
        ARRAYS[way], first=norm(), read=nn.MultiheadAttention(D, 2, batch_first=True),
        body=nn.TransformerEncoderLayer(D, 2, 16, batch_first=True), tokens=parameter(1, 2, D),
    )  # fmt: skip
    table = categorize(model, signal())
    assert str(table.roles["tokens"]) == "other"
    assert way == "mask token" or table.reasons["tokens"] == TOKENS


def test_looked_up_tables_are_embeddings() -> None:
    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.hashed = nn.EmbeddingBag(9, D), parameter(9, D)
            self.importance, self.head = nn.Embedding(9, 1), linear(D, 9)
            self.body, self.last = mlp(), norm()
            self.tied = nn.Embedding(9, D)
            self.head.weight = self.tied.weight

        def forward(self, ids: Tensor) -> Tensor:
            x = self.tied(ids) + self.bag(ids)[:, None] + self.hashed[ids] * self.importance(ids)
            return self.head(self.last(x + self.body(x)))

    found = categorize(Tables(), IDS).roles
    names = ("bag.weight", "hashed", "importance.weight", "tied.weight")
    assert {name: str(found.get(name)) for name in names if name in found} == {
        name: "embedding" for name in names if name in found
    }
    assert "tied.weight" in found or "head.weight" in found


class WrittenNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = parameter(D), parameter(D)

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        return self.weight.float() * x / (x.var(-1, keepdim=True) + 1e-6).sqrt() + self.bias


def decode(m: Net, memory: Tensor) -> Tensor:
    """Two layers of a decoder whose targets begin as zeros."""
    query = m.query.weight.expand(2, -1, -1)
    target = torch.zeros_like(query)
    for own, cross, n1, n2 in m.layers:
        if m.pre:
            h = n1(target)
            target = target + own(h + query, h + query, h)[0]
            target = target + cross(n2(target) + query, memory, memory)[0]
        else:
            target = n1(target + own(target + query, target + query, target)[0])
            target = n2(target + cross(target + query, memory, memory)[0])
    return m.out(m.last(target))


@pytest.mark.parametrize("make", [norm, lambda: nn.RMSNorm(D), WrittenNorm])
@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_learned_queries_on_zero_targets_leave_weights_weights(
    make: Callable[[], nn.Module], pre: bool, bias: bool
) -> None:
    def attention() -> nn.Module:
        return nn.MultiheadAttention(D, 2, batch_first=True, bias=bias)

    layers = [nn.ModuleList([attention(), attention(), make(), make()]) for _ in range(2)]
    model = Net(
        decode, query=nn.Embedding(3, D), layers=nn.ModuleList(layers), last=make(), out=linear(),
        pre=pre,
    )  # fmt: skip
    table = categorize(model, signal())
    parts = {
        n: str(r) for n, r in table.roles.items() if n.startswith("layers.0.") and n[9] in "01"
    }
    assert parts == {name: "weight" if "weight" in name else "bias" for name in parts} != {}
    places = {g.name.removesuffix(".weight"): str(g.category) for g in table}
    inside = "branch_inner" if pre else "shortcut"
    assert places == {
        "layers.0.2": "None" if pre else inside, "layers.0.3": inside, "layers.1.2": inside,
        "layers.1.3": inside if pre else "head", "last": "head",
    }  # fmt: skip
    assert not pre or "constant" in table["layers.0.2.weight"].reason


def test_positions_that_a_class_token_gets_too_stay_positions() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        token = (m.token + m.positions[:, :1]).expand(2, -1, -1)
        return m.out(m.last(torch.cat([token, x + m.positions[:, 1:]], 1)))

    model = Net(
        forward, token=parameter(1, 1, D), positions=parameter(1, 6, D), last=norm(), out=linear()
    )
    wanted = {"token": "other", "positions": "embedding"}
    assert roles(model, wanted) == wanted


def test_the_one_row_of_an_embedding_that_is_added_is_an_embedding() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        marked = torch.where(x[..., :1] > 0, x + m.point.weight, x)
        return m.out(m.last(m.first(marked) + m.no_mask.weight))

    model = Net(
        forward, point=nn.Embedding(1, D), no_mask=nn.Embedding(1, D),
        first=norm(), last=norm(), out=linear(),
    )  # fmt: skip
    wanted = {"point.weight": "embedding", "no_mask.weight": "embedding", "first.bias": "shift"}
    assert roles(model, wanted) == wanted


def single_query(fused: bool) -> Net:
    """Pool by one latent query, which is added to what it gathers unless attention is fused."""

    def forward(m: Net, x: Tensor) -> Tensor:
        if fused:
            query, keys = (t.expand(len(x), -1, -1)[:, None] for t in (m.query, x))
            return m.out(m.last(F.scaled_dot_product_attention(query, keys, keys)[:, 0]))
        return m.out(m.last(m.query + attend(m.q(m.query), m.k(x), x)))

    layers = {} if fused else {"q": linear(), "k": linear()}
    return Net(forward, query=parameter(1, 1, D), last=norm(), out=linear(), **layers)


@pytest.mark.parametrize("fused", [False, True])
def test_a_single_latent_query_is_a_token(fused: bool) -> None:
    table = categorize(single_query(fused), signal())
    assert str(table.roles["query"]) == "other"
    assert table.reasons["query"] == TOKENS


def test_a_convolution_of_noise_in_one_channel_keeps_its_weight() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        noise = torch.randn(len(x), 1, x.shape[1])
        return m.out(m.last(x + m.spread(noise).mT))

    model = Net(forward, spread=nn.Conv1d(1, D, 1), last=norm(), out=linear())
    assert roles(model, ["spread.weight"]) == {"spread.weight": "weight"}
