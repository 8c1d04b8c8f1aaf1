"""Models that return a loss of several terms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.losses import body, on_text, on_text_like, trained
from tests.support.zoo.parts import (
    D,
    Net,
    linear,
    mlp,
    norm,
    repeat,
    signal,
    tokens,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


@structure
def loss_distillation_on_hidden_states() -> Structure:
    """A student of half the depth matches the hidden states of a teacher, by projection."""

    def forward(m: Net, ids: Tensor) -> Tensor:
        x = m.embed(ids)
        with torch.no_grad():
            taught = m.teacher_final(body(m.teacher, x))
        logits = m.out(m.final(student := body(m, x)))
        soft = F.kl_div(
            F.log_softmax(logits / 2, -1), F.softmax(m.out(taught) / 2, -1), reduction="batchmean"
        )
        return soft + F.mse_loss(m.back(student), taught)

    blocks = repeat(2, lambda: Net(body, n=norm(), mlp=mlp()))
    found = on_text(forward, teacher=Net(body, blocks=blocks), teacher_final=norm())
    return Structure(
        model=found.model, inputs=found.inputs, inner="blocks.*.n teacher.blocks.*.n",
        head="final teacher_final",
    )  # fmt: skip


@structure
def loss_variational() -> Structure:
    """The KL term of a variational autoencoder, written out; the target is the input."""

    def forward(m: Net, x: Tensor) -> Tensor:
        moments = m.to_moments(m.final(body(m, m.enter(x))))
        mean, log_variance = moments.chunk(2, -1)
        noise = torch.linspace(-1, 1, mean.shape[-1])
        z = mean + (0.5 * log_variance).exp() * noise
        kl = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(-1).mean()
        return F.mse_loss(m.decode(z), x) + 0.1 * kl

    return on_text_like(forward, to_moments=linear(D, 8), decode=linear(4, D))


@structure
def loss_perceptual() -> Structure:
    """Features of output and target, from a frozen network, are compared."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.back(m.final(body(m, m.enter(x))))
        loss = (y - x).abs().mean()
        for one, two in zip(features(m, y), features(m, x), strict=True):
            loss = loss + (one - two).square().mean()
        return loss

    def features(m: Net, x: Tensor) -> list[Tensor]:
        first = m.first(x).relu()
        return [first, m.second(first).relu()]

    return on_text_like(forward, first=linear(), second=linear())


@structure
def loss_contrastive() -> Structure:
    """CLIP: two towers, normalised outputs, a symmetric cross entropy."""

    def forward(m: Net, x: Tensor, ids: Tensor) -> Tensor:
        one = F.normalize(m.back(m.final(body(m, m.enter(x)).mean(1))), dim=-1)
        two = F.normalize(m.text_out(m.text_final(body(m.text, m.embed(ids))[:, -1])), dim=-1)
        scores = m.temperature.exp() * one @ two.mT
        wanted = torch.arange(len(x))
        return (F.cross_entropy(scores, wanted) + F.cross_entropy(scores.mT, wanted)) / 2

    blocks = repeat(2, lambda: Net(body, n=norm(), mlp=mlp()))
    model = trained(forward, text=Net(body, blocks=blocks), text_final=norm(), text_out=linear())
    model.temperature = nn.Parameter(torch.tensor(1.0))
    return Structure(
        model=model, inputs=(signal(), tokens()), head="final text_final",
        inner="blocks.*.n text.blocks.*.n",
    )  # fmt: skip


@structure
def loss_of_several_heads() -> Structure:
    """A loss per depth, each with the shared final norm (deep supervision)."""

    def forward(m: Net, ids: Tensor) -> Tensor:
        x, loss = m.embed(ids), torch.zeros(())
        for block in m.blocks:
            x = x + block.mlp(block.n(x))
            loss = loss + F.cross_entropy(m.out(m.final(x)).flatten(0, 1), ids.flatten())
        return loss / len(m.blocks)

    return on_text(forward)
