"""Losses that a forward pass computes move no gain to another place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp import categorize
from tests.support.structures import D, Net, linear, norm

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

# Of what the network makes, what it read, and the state before its last norm.
LOSSES: dict[str, Loss] = {
    "squares": lambda y, x, h: ((y - x) ** 2).mean(),
    "squares, the other way round": lambda y, x, h: (x - y).square().sum(),
    "a negated target": lambda y, x, h: (y + (-x)).square().mean(),
    "absolute values": lambda y, x, h: (y - x).abs().mean(-1).mean(),
    "a length": lambda y, x, h: (y - x).norm(dim=-1).mean(),
    "one for each item": lambda y, x, h: ((y - x) ** 2).mean((1, 2)),
    "a mask": lambda y, x, h: (((y - x) ** 2).mean(-1) * (x[..., 0] > 0)).sum() / 3,
    "a kernel": lambda y, x, h: F.smooth_l1_loss(y, x),
    "a penalty": lambda y, x, h: F.mse_loss(y, x) + 0.1 * h.pow(2).mean(),
    "a penalty for each item": lambda y, x, h: y.pow(2).mean((1, 2)) + h.pow(2).mean((1, 2)),
    "a penalty on steps": lambda y, x, h: y.abs().mean() + (h[:, 1:] - h[:, :-1]).abs().mean(),
    "a divergence": lambda y, x, h: (h.pow(2) + y.exp() - y - 1).sum(),
    "a divergence of shares": lambda y, x, h: F.kl_div(
        y.log_softmax(-1), x.softmax(-1), reduction="batchmean"
    ),
}


def _network(head: Callable[[Net, Tensor], object], **more: nn.Module) -> Net:
    return Net(
        head, embed=linear(), up=linear(), down=linear(), o=linear(), n=norm(), last=norm(), **more
    )


def _places(net: Net) -> dict[str, str]:
    table = categorize(net, torch.randn(2, 5, D))
    return {gain.name.removesuffix(".weight"): str(gain.category) for gain in table}


@pytest.mark.parametrize("name", LOSSES)
def test_pre_norm_network_stays_one_beside_a_loss(name: str) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.embed(x)
        h = h + m.down(m.up(m.n(h)).relu())
        return LOSSES[name](m.o(m.last(h)), x, h)

    assert _places(_network(forward)) == {"n": "branch_inner", "last": "head"}


@pytest.mark.parametrize("name", LOSSES)
def test_post_norm_network_stays_one_beside_a_loss_and_its_output(name: str) -> None:
    def forward(m: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        h = m.n(m.embed(x))
        h = h + m.down(m.up(h).relu())
        y = m.o(m.last(h))
        return y, LOSSES[name](y, x, h)

    assert _places(_network(forward)) == {"n": "shortcut", "last": "head"}


@pytest.mark.parametrize(
    "compare",
    [
        lambda x, y: ((x + y - 1) ** 2).mean(),
        lambda x, y: F.mse_loss(x - y, torch.ones_like(x) * x),
        lambda x, y: (x + y).sum(),
    ],
    ids=["sum, then a difference", "difference, then a kernel", "no loss at all"],
)
def test_skip_of_the_network_itself_still_counts_before_a_loss(
    compare: Callable[[Tensor, Tensor], Tensor],
) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        return compare(x, m.o(m.last(m.down(m.up(m.n(x)).relu()))))

    assert _places(_network(forward)) == {"n": "branch_inner", "last": "branch_inner"}
