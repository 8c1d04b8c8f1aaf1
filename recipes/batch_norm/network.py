"""A small trained network: the multiplier of every unit, measured and predicted by theory.

The network is linear, batch norm, ReLU, linear, with cross-entropy. [D] For each hidden unit
(gain g, shift b, outgoing weights a) the function is the same with (sg, sb, a / s). So for any loss
g dL/dg + b dL/db = <a, dL/da>. At rest dL/db = 0 and dL/da = -decay a, hence
mu = -(dL/dg) / g = decay |a|**2 / g**2, whatever rule the gain follows: a fixed gain binds through
the decay of the weights after it and through nothing else. Without that decay mu slowly goes to 0
as with a free gain, since the next layer makes up for it. With that decay and a free gain there is
no rest: g grows and a shrinks forever, and mu shrinks with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gamma_nlp.companions.batch_norm.multipliers import multipliers
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policy import DecayPolicy
from recipes.common.images import ImageSet

Batch = tuple[Tensor, Tensor]


class Network(nn.Module):
    """Linear, batch norm, ReLU, linear; a ``gain`` fixes that of all units, ``None`` trains it."""

    def __init__(self, size: int, hidden: int, gain: float | None) -> None:
        super().__init__()
        self.before = nn.Linear(size, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.after = nn.Linear(hidden, 10)
        if gain is not None:
            nn.init.constant_(self.norm.weight, gain).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.norm(self.before(x)).relu())
        return out


def gain_policy(decayed: bool) -> DecayPolicy:
    """Return L2 on weights, and on gains too if ``decayed``; never on shifts and biases."""
    share = 1.0 if decayed else 0.0
    return DecayPolicy(
        name="gains decayed" if decayed else "weights only",
        branch_last=share,
        branch_inner=share,
        shortcut=share,
        head=share,
        weight=1.0,
        mode="coupled",
    )


def network_cell(
    cell: Mapping[str, Any], settings: Mapping[str, Any], images: ImageSet
) -> dict[str, Any]:
    """Train one network; return its test accuracy and its multipliers over training.

    ``cell`` has ``gain`` (``None``: trained), ``decayed`` (the gains), ``decay`` and ``seed``;
    ``settings`` has ``hidden``, ``epochs``, ``batch``, ``lr`` and ``measured``, the number of
    training images on which mu is measured during training.
    """
    x, y = _prepared(images.train_images, images.train_labels)
    test = _prepared(images.test_images, images.test_labels)
    torch.manual_seed(cell["seed"])
    net = Network(x.shape[1], settings["hidden"], cell["gain"])
    policy = gain_policy(cell["decayed"])
    decay, size = cell["decay"], settings["batch"]
    optimizer = make_optimizer(
        torch.optim.SGD,
        net,
        lr=settings["lr"],
        momentum=0.9,
        weight_decay=decay,
        policy=policy,
        inputs=x[:4],
    )
    steps = settings["epochs"] * (len(x) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings["lr"], total_steps=steps, cycle_momentum=False, final_div_factor=1e4
    )
    generator = torch.Generator().manual_seed(cell["seed"])
    some = settings["measured"]

    def measure(epoch: int) -> dict[str, Any]:
        return {"epoch": epoch, **_summary(_units(net, (x[:some], y[:some]), size, decay))}

    history = [measure(0)]
    for epoch in range(1, settings["epochs"] + 1):
        net.train()
        for some_x, some_y in _batches(x, y, size, generator):
            optimizer.zero_grad()
            cross_entropy(net(some_x), some_y).backward()
            optimizer.step()
            schedule.step()
        history.append(measure(epoch))
    units = _units(net, (x, y), size, decay)
    return {
        "accuracy": _accuracy(net, test),
        "train_accuracy": _accuracy(net, (x, y)),
        "loss": _loss(net, x, y),
        "history": history,
        "units": {name: _fit_for_json(of) for name, of in units.items()},
    }


def _units(net: Network, data: Batch, size: int, decay: float) -> dict[str, Tensor]:
    """Return each hidden unit's gain, measured mu, and mu from the decay of the next weights."""
    gain, after = net.norm.weight.detach().double(), net.after.weight.detach().double()
    batches = _batches(*data, size, torch.Generator().manual_seed(0))
    measured = multipliers(net, lambda net, one: cross_entropy(net(one[0]), one[1]), batches)
    return {
        "gain": gain,
        "mu": measured["norm"],
        "mu_of_decay": decay * after.square().sum(0) / gain.square(),
    }


def _summary(units: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return quartiles of mu over the units, and medians of the rest."""
    quartiles = torch.nanquantile(units["mu"], torch.tensor([0.25, 0.5, 0.75]).double())
    return {
        "mu": quartiles.tolist(),
        "gain": float(units["gain"].abs().median()),
        "mu_of_decay": float(units["mu_of_decay"].median()),
    }


def _fit_for_json(values: Tensor) -> list[float | None]:
    return [float(f"{one:.5g}") if math.isfinite(one) else None for one in values.tolist()]


def _prepared(images: Tensor, labels: Tensor) -> Batch:
    return images.flatten(1).float() / 255, labels


def _batches(x: Tensor, y: Tensor, size: int, generator: torch.Generator) -> Iterator[Batch]:
    order = torch.randperm(len(x), generator=generator)
    for rows in order[: len(x) // size * size].split(size):
        yield x[rows], y[rows]


@torch.no_grad()
def _accuracy(net: nn.Module, data: Batch) -> float:
    return float((net.eval()(data[0]).argmax(1) == data[1]).double().mean())


@torch.no_grad()
def _loss(net: nn.Module, x: Tensor, y: Tensor) -> float:
    loss = float(cross_entropy(net.eval()(x), y))
    assert math.isfinite(loss)
    return loss
