"""Slices of a concatenation are its parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import categorize
from gamma_nlp.graph.nodes import Op
from gamma_nlp.graph.trace import trace
from tests.support.structures import D, Net, linear, norm

Split = Callable[[Tensor], tuple[Tensor, ...]]


def pair(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat((x, y), -1)


def order(h: Tensor) -> Tensor:
    return torch.arange(h.shape[1])[:, None].expand(h.shape[0], -1, 1)


SPLITS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Split]] = {
    "chunk": (lambda x, y: torch.cat((x, y), -1), lambda h: h.chunk(2, -1)),
    "split": (lambda x, y: torch.cat((x, y), 1), lambda h: h.split([5, 5], 1)),
    "slices": (lambda x, y: torch.cat((x, y), -1), lambda h: (h[..., :D], h[..., D:])),
    "narrow": (lambda x, y: torch.cat((x, y)), lambda h: (h.narrow(0, 0, 2), h.narrow(0, 2, 2))),
    "unbind": (lambda x, y: torch.stack((x, y), 2), lambda h: h.unbind(2)),
    "select": (lambda x, y: torch.stack((x, y)), lambda h: (h[0], h[-1])),
    "copies": (lambda x, y: torch.cat((x, y), -1).clone(), lambda h: h.double().chunk(2, -1)),
    "gathered": (pair, lambda h: h.gather(1, order(h).expand_as(h)).chunk(2, -1)),
    "indexed": (pair, lambda h: h[:, [4, 3, 2, 1, 0]].chunk(2, -1)),
    "indexed by two": (
        pair,
        lambda h: h[torch.arange(2)[:, None], torch.arange(5)].chunk(2, -1),
    ),
    "masked": (
        pair,
        lambda h: h[torch.ones(2, 5, dtype=torch.bool)].view(2, 5, -1).chunk(2, -1),
    ),
    "selected": (pair, lambda h: h.index_select(1, torch.arange(5)).chunk(2, -1)),
    "turned": (pair, lambda h: h.permute(2, 0, 1).transpose(1, 2).movedim(0, -1).chunk(2, -1)),
    "split in two": (pair, lambda h: h.view(2, 5, 2, D).unbind(2)),
    "flattened": (
        lambda x, y: torch.stack((x, y), 2).flatten(2),
        lambda h: h.flatten(0, 1).view(2, 5, -1).chunk(2, -1),
    ),
    "grown": (pair, lambda h: h[None].expand(3, -1, -1, -1)[0].chunk(2, -1)),
    "pointwise": (pair, lambda h: (h.tanh() * 2 + 1).masked_fill(order(h) > 9, 0).chunk(2, -1)),
    "changed in place": (pair, lambda h: h.clone().mul_(2).chunk(2, -1)),
    "copied over": (pair, lambda h: torch.empty_like(h).copy_(h).chunk(2, -1)),
    "grouped": (pair, lambda h: torch.cat((h[:, :2], h[:, 2:]), 1).chunk(2, -1)),
    "grouped and taken": (pair, lambda h: torch.stack((h, h.flip(1)))[0].chunk(2, -1)),
    "three at once": (
        lambda x, y: torch.cat((pair(x, y), x.new_zeros(2, 5, 1)), -1),
        lambda h: h[..., :-1].chunk(2, -1),
    ),
    "nested": (
        lambda x, y: torch.cat((torch.cat((x[..., :3], x[..., 3:]), -1), y), -1),
        lambda h: (h[..., :D], h[..., D:]),
    ),
    "rolled elsewhere": (pair, lambda h: h.roll(1, 1).sort(1).values.chunk(2, -1)),
}


@pytest.mark.parametrize("split", SPLITS)
def test_streams_kept_in_one_tensor_stay_apart(split: str) -> None:
    join, cut = SPLITS[split]

    def forward(m: Net, x: Tensor) -> Tensor:
        h = join(m.a(x), m.b(x))
        for f, g in ((m.f0, m.g0), (m.f1, m.g1)):
            x, y = (part.float() for part in cut(h))
            x = x + f(y)
            h = join(x, y + g(x))
        return h

    def branch() -> nn.Module:
        return nn.Sequential(norm(), linear())

    net = Net(forward, a=linear(), b=linear(), f0=branch(), g0=branch(), f1=branch(), g1=branch())
    table = categorize(net, torch.randn(2, 5, D))
    assert {gain.name: str(gain.category) for gain in table} == {
        f"{name}.0.weight": "branch_inner" for name in ("f0", "g0", "f1", "g1")
    }


def test_slice_across_parts_is_the_concatenation() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        h = torch.cat((m.a(x), m.b(x)), -1)
        return m.o(h[..., D // 2 : D // 2 + D])

    graph = trace(Net(forward, a=linear(), b=linear(), o=linear()), torch.randn(2, 5, D))
    weight = max(i for i, node in enumerate(graph.nodes) if node.op is Op.WEIGHT)
    assert [graph.nodes[parent].name for parent in graph.nodes[weight].parents] == ["cat"]


def test_slice_of_two_parts_of_three_is_made_of_these_two() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        h = torch.cat((m.a(x), m.b(x), x), -1)
        return m.o(h[..., D // 2 : D // 2 + D])

    graph = trace(Net(forward, a=linear(), b=linear(), o=linear()), torch.randn(2, 5, D))
    weight = max(i for i, node in enumerate(graph.nodes) if node.op is Op.WEIGHT)
    [joined] = [graph.nodes[parent] for parent in graph.nodes[weight].parents]
    assert [graph.nodes[parent].module for parent in joined.parents] == ["a", "b"]


@pytest.mark.parametrize(
    "mix",
    [
        lambda h: h.gather(2, torch.zeros_like(h, dtype=torch.long)),
        lambda h: h.flip(-1),
        lambda h: h.cumsum(-1),
        lambda h: h[..., ::2].repeat(1, 1, 2),
        lambda h: h.view(2, 5, D, 2).mT.flatten(2),
        lambda h: h[..., torch.arange(2 * D).flip(0)],
    ],
)
def test_what_mixes_the_parts_is_one_value_again(mix: Callable[[Tensor], Tensor]) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        return m.o(mix(pair(m.a(x), m.b(x)))[..., :D])

    graph = trace(Net(forward, a=linear(), b=linear(), o=linear()), torch.randn(2, 5, D))
    reached = [{i} for i in range(len(graph.nodes))]
    for i, node in enumerate(graph.nodes):
        reached[i].update(*(reached[parent] for parent in node.parents))
    last = max(i for i, node in enumerate(graph.nodes) if node.op is Op.WEIGHT)
    made_of = {graph.nodes[i].module for i in reached[last] if graph.nodes[i].op is Op.WEIGHT}
    assert made_of == {"a", "b", "o"}
