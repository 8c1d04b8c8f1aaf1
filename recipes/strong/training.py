"""One short training run under strong L1, of a network without normalisation.

Normalisation would hide the collapse: it makes a layer's output independent of the scale of its
weights, so that the loss gradient does not vanish with them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from recipes.common.images import ImageSet, cifar10, mnist, synthetic

POINTS = 40
"""How many points of a run's history to keep."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all cells of one dataset have in common.

    Attributes:
        data: ``mnist``, ``cifar10`` or ``synthetic``.
        network: ``mlp`` or ``vgg``.
        train: Number of training images, the first of the set.
        test: Number of test images.
        epochs: Passes over the training images.
        batch: Images per step.
        lr: Initial learning rate; it falls linearly to 0.
        momentum: Momentum of SGD.
        flip: Mirror half of the training images.
        delay: Share of the steps without L1 under ``delayed``.
        threshold: Least cosine of ``direction``.
        ratio: Largest |r| / |g| of ``magnitude``.
        every: Steps from one decision to the next.
    """

    data: str
    network: str
    train: int
    test: int
    epochs: int
    batch: int
    lr: float
    momentum: float
    flip: bool
    delay: float
    threshold: float
    ratio: float
    every: int = 1


@cache
def images_of(data: str, folder: str | None) -> ImageSet:
    """Read the dataset, once per process."""
    if data == "synthetic" or folder is None:
        return synthetic(512, 100)
    return mnist(folder) if data == "mnist" else cifar10(folder)


def make_network(kind: str, shape: tuple[int, ...]) -> nn.Sequential:
    """Return a network without normalisation, with torch's own initialisation.

    Args:
        kind: ``mlp``: hidden layers of 300 and five times 100. ``vgg``: four 3 x 3 convolutions,
            two of them with stride 2, max-pooling before the last, two linear layers.
        shape: Channels, height and width of an image.
    """
    channels, height, width = shape
    layers: list[nn.Module] = []
    if kind == "mlp":
        layers, before = [nn.Flatten()], channels * height * width
        for wide in (300, 100, 100, 100, 100, 100):
            layers += [nn.Linear(before, wide), nn.ReLU()]
            before = wide
        layers += [nn.Linear(before, 10)]
    else:
        for wide, stride in ((16, 2), (32, 2), (64, 1)):
            layers += [nn.Conv2d(channels, wide, 3, padding=1, stride=stride), nn.ReLU()]
            channels = wide
        layers += [nn.MaxPool2d(2), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Flatten()]
        height, width = -(-height // 4) // 2, -(-width // 4) // 2
        layers += [nn.Linear(64 * height * width, 256), nn.ReLU()]
        layers += [nn.Linear(256, 10)]
    return nn.Sequential(*layers)


def train_cell(
    cell: Mapping[str, Any], settings: Mapping[str, Any], folder: str | None
) -> dict[str, Any]:
    """Train once; return accuracy, compression, how often it acted, and coherence over time.

    Args:
        cell: ``rule`` (or ``none``), ``l1``, ``seed``.
        settings: The fields of a :class:`Task`.
        folder: Folder of the data; ``None`` for made-up images.
    """
    start = time.process_time()
    task = Task(**settings)
    images = images_of(task.data, folder).first(task.train, task.test)
    torch.manual_seed(int(cell["seed"]))
    x, mean, deviation = _standard(images.train_images)
    network = make_network(task.network, tuple(x.shape[1:]))
    if task.network == "vgg":  # the faster layout
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.named_parameters(), lr=task.lr, momentum=task.momentum)
    steps = task.epochs * (len(x) // task.batch)
    names = [name for name, p in network.named_parameters() if p.dim() > 1]
    strong = None
    if cell["rule"] != "none":
        strong = StrongRegularizer(
            optimizer,
            names=names,
            l1=float(cell["l1"]),
            rule=cell["rule"],
            delay_steps=round(task.delay * steps) if cell["rule"] == "delayed" else 0,
            threshold=task.threshold,
            ratio=task.ratio,
            every=task.every,
        )
    losses = _train(network, optimizer, task, x, images.train_labels, steps)
    if strong is not None:
        strong.restore_zeros()
    test = (images.test_images.float() - mean) / deviation
    return {
        "accuracy": 100 * _accuracy(network, test, images.test_labels),
        "train_loss": losses,
        **_zeros(network, names),
        **_acted(strong),
        "steps": steps,
        "cpu_seconds": round(time.process_time() - start, 2),
    }


def _standard(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = images.float()
    mean = x.mean((0, 2, 3), keepdim=True)
    deviation = x.std((0, 2, 3), keepdim=True)
    return (x - mean) / deviation, mean, deviation


def _train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    x: Tensor,
    y: Tensor,
    steps: int,
) -> float:
    """Train; return the mean training loss of the last epoch."""
    per_epoch = steps // task.epochs
    total = torch.zeros(())
    for step in range(steps):
        at = step % per_epoch
        if at == 0:
            order, total = torch.randperm(len(x)), torch.zeros(())
        rows = order[at * task.batch : (at + 1) * task.batch]
        batch = x[rows]
        if task.flip:
            mirrored = torch.rand(len(batch), 1, 1, 1) < 0.5
            batch = torch.where(mirrored, batch.flip(3), batch)
        if task.network == "vgg":
            batch = batch.contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = task.lr * (1 - step / steps)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(batch), y[rows])
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return float(total) / per_epoch


@torch.no_grad()
def _accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    found = torch.cat([network(some).argmax(1) for some in x.split(500)])
    return float((found == y).float().mean())


def _zeros(network: nn.Module, names: list[str]) -> dict[str, Any]:
    parameters = dict(network.named_parameters())
    total = sum(p.numel() for p in parameters.values())
    zeros = {name: int((parameters[name] == 0).sum()) for name in names}
    return {
        "parameters": total,
        "nonzeros": total - sum(zeros.values()),
        "compression": total / (total - sum(zeros.values())),
        "zeros": {name: zeros[name] / parameters[name].numel() for name in names},
    }


def _acted(strong: StrongRegularizer | None) -> dict[str, Any]:
    if strong is None:
        return {}
    report, history = strong.report(), strong.history()
    kept = history[:: max(1, len(history) // POINTS)]
    return {
        "acted": report.acted,
        "coherence": report.coherence,
        "history": [[span.step, round(span.acted, 3), round(span.coherence, 3)] for span in kept],
    }
