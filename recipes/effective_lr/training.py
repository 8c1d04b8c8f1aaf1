"""One short training run at a constant learning rate that decays only scale-invariant weights.

Nothing else decays (gains, shifts, the head), so all that decay can do is set the norms of weights
whose norms the network ignores.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamma_nlp.companions.effective_rate.invariance import scale_invariant
from gamma_nlp.companions.effective_rate.rate import EffectiveRate, effective_lr
from gamma_nlp.companions.effective_rate.report import ScaleInvariance
from gamma_nlp.companions.effective_rate.unit_norm import UnitNorm
from gamma_nlp.errors import GammaError
from recipes.common.images import ImageSet, cifar10, synthetic
from recipes.effective_lr.models import make_network

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "adam": (torch.optim.Adam, {"betas": (0.9, 0.99)}),
    "adamw": (torch.optim.AdamW, {"betas": (0.9, 0.99)}),
}
"""No momentum for SGD; torch's Adam has coupled L2, its AdamW decoupled decay."""
READINGS = 40
"""How often norms and rates are read; the last quarter is averaged."""
TESTS = 4
"""How often the test error is measured in the last epoch; the mean counts."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training run.

    Attributes:
        network: ``conv`` or ``transformer``.
        optimizer: A key of :data:`OPTIMIZERS`.
        unit_norm: Whether the scale-invariant weights keep their initial norms.
        lr: Learning rate.
        decay: Decay coefficient of the scale-invariant weights; all others have none.
        seed: Seed of the weights and of the order of the images.
        epochs: Passes over the training images.
    """

    network: str
    optimizer: str
    unit_norm: bool
    lr: float
    decay: float
    seed: int
    epochs: int


def train_cell(
    cell: Mapping[str, Any], settings: Mapping[str, Any], folder: str | None
) -> dict[str, Any]:
    """Train, and return the test error in percent with norms and rates near the end.

    Args:
        cell: The fields of a :class:`Cell`.
        settings: ``batch``, ``train`` and ``test`` (images).
        folder: Folder of CIFAR-10; ``None`` for made-up images.
    """
    one = Cell(**cell)
    start = time.process_time()
    images = _images(folder, int(settings["train"]), int(settings["test"]))
    batch = int(settings["batch"])
    network, report = make_network(one.network, one.seed), invariance(one.network)
    held = [found.names[0] for found in report if network.get_parameter(found.names[0]).dim() > 1]
    optimizer = make_optimizer(one, network, held)
    if one.unit_norm:
        UnitNorm(optimizer, held, invariance=report, model=network)
    sizes = [network.get_parameter(name).numel() for name in held]
    per_epoch = len(images.train_labels) // batch
    steps, errors, readings = per_epoch * one.epochs, [], []
    loss = torch.zeros(())
    for step, (x, y) in enumerate(batches(images, batch, one.epochs, one.seed), start=1):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y)
        if not torch.isfinite(loss):
            break
        loss.backward()
        optimizer.step()
        if step > 0.75 * steps and step % max(1, steps // READINGS) == 0:
            readings.append(effective_lr(optimizer, held, network))
        if step > steps - per_epoch and (steps - step) % max(1, per_epoch // TESTS) == 0:
            errors.append(error_rate(network, images))
    finite = bool(torch.isfinite(loss))
    return {
        "error": math.fsum(errors) / len(errors) if finite else error_rate(network, images),
        "diverged": not finite,
        "steps": steps,
        "weights": summary(readings, steps, sizes) if finite else [],
        "cpu_seconds": round(time.process_time() - start, 2),
    }


def batches(images: ImageSet, size: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images in random order, half of them mirrored, and labels; drop an incomplete batch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(images.train_labels), generator=generator)
        for rows in order.split(size)[: len(order) // size]:
            mirror = torch.rand(size, 1, 1, 1, generator=generator) < 0.5
            x = images.train_images[rows]
            yield torch.where(mirror, x.flip(3), x), images.train_labels[rows]


def make_optimizer(cell: Cell, network: nn.Module, decayed: list[str]) -> torch.optim.Optimizer:
    """Return the cell's optimizer, which decays only the named parameters."""
    cls, more = OPTIMIZERS[cell.optimizer]
    groups = [
        {
            "params": [(n, p) for n, p in network.named_parameters() if (n in decayed) is chosen],
            "weight_decay": cell.decay if chosen else 0.0,
        }
        for chosen in (True, False)
    ]
    optimizer: torch.optim.Optimizer = cls(groups, lr=cell.lr, **more)
    return optimizer


def summary(
    readings: Sequence[Sequence[EffectiveRate]], steps: int, sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """Return means over the readings, one entry for each weight.

    ``turnovers`` is the length of the run in units of the norms' memory: the number of steps times
    the share of the norm that decay removes per step at the predicted equilibrium.
    """
    found = []
    for elements, *series in zip(sizes, *readings, strict=True):
        last = series[-1]
        turnovers = steps * loss_per_step(last, elements)
        means = {
            key: math.fsum(getattr(one, key) for one in series) / len(series)
            for key in ("norm", "rate", "equilibrium_norm", "equilibrium_rate")
        }
        found.append({"name": last.name, **means, "turnovers": turnovers})
    return found


def loss_per_step(rate: EffectiveRate, elements: int) -> float:
    """Return the share of the norm that decay removes per step at equilibrium (SGD: no momentum).

    For Adam with coupled L2 it is half the square of the angle per step, what the norm gains.
    """
    if rate.rule == ("adam", "coupled"):
        return rate.equilibrium_rate**2 * elements / 2
    return rate.lr * rate.weight_decay


@torch.no_grad()
def error_rate(network: nn.Module, images: ImageSet) -> float:
    """Return the test error in percent; the network ends in training mode."""
    network.eval()
    wrong = sum(
        int((network(x).argmax(1) != y).sum())
        for x, y in zip(images.test_images.split(500), images.test_labels.split(500), strict=True)
    )
    network.train()
    return 100 * wrong / len(images.test_labels)


@cache
def invariance(network: str) -> ScaleInvariance:
    """Find what can be rescaled in a network."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    return scale_invariant(make_network(network, 0), images, joint=False)


@cache
def _images(folder: str | None, train: int, test: int) -> ImageSet:
    """Read CIFAR-10 as float32, standardised by channel over the training images."""
    raw = synthetic(train, test, (3, 32, 32)) if folder is None else cifar10(folder)
    raw = raw.first(train, test)
    if len(raw.train_labels) < train or len(raw.test_labels) < test:
        raise GammaError(
            f"{folder} has {len(raw.train_labels)} training and {len(raw.test_labels)} test "
            f"images; the experiment needs {train} and {test}"
        )
    pixels = raw.train_images.float()
    mean, std = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True)

    def standard(images: Tensor) -> Tensor:
        return (images.float() - mean) / std

    return ImageSet(
        name=raw.name,
        train_images=standard(raw.train_images),
        train_labels=raw.train_labels,
        test_images=standard(raw.test_images),
        test_labels=raw.test_labels,
    )
