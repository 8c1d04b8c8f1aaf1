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

SPLITS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Split]] = {
    "chunk": (lambda x, y: torch.cat((x, y), -1), lambda h: h.chunk(2, -1)),
    "split": (lambda x, y: torch.cat((x, y), 1), lambda h: h.split([5, 5], 1)),
    "slices": (lambda x, y: torch.cat((x, y), -1), lambda h: (h[..., :D], h[..., D:])),
    "narrow": (lambda x, y: torch.cat((x, y)), lambda h: (h.narrow(0, 0, 2), h.narrow(0, 2, 2))),
    "unbind": (lambda x, y: torch.stack((x, y), 2), lambda h: h.unbind(2)),
    "select": (lambda x, y: torch.stack((x, y)), lambda h: (h[0], h[-1])),
    "copies": (lambda x, y: torch.cat((x, y), -1).clone(), lambda h: h.double().chunk(2, -1)),
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
