"""Models that return a loss: its sums and differences are no residual additions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.parts import Attention, D, Net, linear, mlp, norm, repeat, signal, tokens
from tests.support.zoo.structure import Structure, structure


def body(m: Net, x: Tensor) -> Tensor:
    """Two pre-norm blocks."""
    for block in m.blocks:
        x = x + block.mlp(block.n(x))
    return x


def trained(loss: Callable[..., Tensor], **members: nn.Module) -> Net:
    blocks = repeat(2, lambda: Net(body, n=norm(), mlp=mlp()))
    return Net(
        loss, embed=nn.Embedding(11, D), enter=linear(), blocks=blocks, final=norm(),
        out=linear(D, 11), back=linear(), **members,
    )  # fmt: skip


WANTED = {"inner": "blocks.*.n", "head": "final"}


def on_text(loss: Callable[..., Tensor], **members: nn.Module) -> Structure:
    return Structure(model=trained(loss, **members), inputs=tokens(), **WANTED)


def on_signal(loss: Callable[..., Tensor], **members: nn.Module) -> Structure:
    return Structure(
        model=trained(loss, **members), inputs=(signal(), signal(2, 5, D).roll(1, 0)), **WANTED
    )


@structure
def loss_mixture_of_experts() -> Structure:
    """Mixtral: cross entropy plus a balance of the router's load, over all layers."""

    def forward(m: Net, ids: Tensor) -> tuple[Tensor, Tensor]:
        x, balance = m.embed(ids), 0.0
        for block in m.blocks:
            h = block.n(x)
            share = block.route(h).softmax(-1)
            _, chosen = share.topk(2, -1)
            load = F.one_hot(chosen, 3).to(x.dtype).mean((0, 1, 2))
            balance = balance + (load * share.mean((0, 1))).sum() * 3
            parts = torch.stack([expert(h) for expert in block.experts], -1)
            x = x + (parts * share[..., None, :]).sum(-1)
        logits = m.out(m.final(x))
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        return loss + 0.01 * balance, logits

    blocks = repeat(2, lambda: Net(body, n=norm(), route=linear(D, 3), experts=repeat(3, mlp)))
    model = Net(forward, embed=nn.Embedding(11, D), blocks=blocks, final=norm(), out=linear(D, 11))
    return Structure(model=model, inputs=tokens(), **WANTED)


@structure
def loss_router_z() -> Structure:
    """ST-MoE: a z-loss on the router's and on the output's logits."""

    def forward(m: Net, ids: Tensor) -> Tensor:
        x = m.embed(ids)
        h = m.moe_norm(x)
        route = m.route(h)
        x = body(m, x + route.softmax(-1)[..., :1] * m.expert(h))
        logits = m.out(m.final(x))
        loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten())
        return (
            loss
            + 1e-3 * route.logsumexp(-1).square().mean()
            + (1e-4 * logits.logsumexp(-1).pow(2).mean())
        )

    found = on_text(forward, moe_norm=norm(), route=linear(D, 3), expert=mlp())
    return Structure(
        model=found.model, inputs=found.inputs, inner="blocks.*.n moe_norm", head="final"
    )


@structure
def loss_mean_square() -> Structure:
    return on_signal(lambda m, x, y: F.mse_loss(m.back(m.final(body(m, m.enter(x)))), y))


@structure
def loss_mean_square_to_the_input() -> Structure:
    """An autoencoder's loss: the target is the input itself."""
    return on_text_like(lambda m, x: ((m.back(m.final(body(m, m.enter(x)))) - x) ** 2).mean())


def on_text_like(loss: Callable[..., Tensor], **members: nn.Module) -> Structure:
    return Structure(model=trained(loss, **members), inputs=signal(), **WANTED)


@structure
def loss_kernel_to_the_input() -> Structure:
    return on_text_like(lambda m, x: F.l1_loss(m.back(m.final(body(m, m.enter(x)))), x))


@structure
def loss_smooth_to_the_input_post_norm() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.enter(x)
        for f, n in zip(m.f, m.n, strict=True):
            h = n(h + f(h))
        return F.smooth_l1_loss(m.out(h), x)

    model = Net(forward, enter=linear(), f=repeat(2, mlp), n=repeat(2, norm), out=linear())
    return Structure(model=model, inputs=signal(), shortcut="n.0", head="n.1")


@structure
def loss_masked_autoencoder() -> Structure:
    """ViTMAE: the target is normalised, the difference squared, and masked patches count."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = body(m, m.enter(x) + m.positions)
        predicted = m.back(m.final(h))
        centre, spread = x.mean(-1, keepdim=True), x.var(-1, keepdim=True)
        target = (x - centre) / (spread + 1e-6) ** 0.5
        mask = (torch.arange(x.shape[1]) % 2).to(x.dtype)
        each = (predicted - target).pow(2).mean(-1)
        return (each * mask).sum() / mask.sum()

    model = trained(forward)
    model.positions = nn.Parameter(torch.randn(1, 5, D))
    return Structure(model=model, inputs=signal(), **WANTED)


@structure
def loss_activation_penalty() -> Structure:
    def forward(m: Net, ids: Tensor) -> Tensor:
        x = body(m, m.embed(ids))
        logits = m.out(m.final(x))
        return F.cross_entropy(logits.flatten(0, 1), ids.flatten()) + 0.01 * x.pow(2).mean()

    return on_text(forward)


@structure
def loss_step_penalty() -> Structure:
    """Penalises how far each block moves the stream."""

    def forward(m: Net, ids: Tensor) -> Tensor:
        x, moved = m.embed(ids), 0.0
        for block in m.blocks:
            y = x + block.mlp(block.n(x))
            moved = moved + (y - x).norm(dim=-1).mean()
            x = y
        return F.cross_entropy(m.out(m.final(x)).flatten(0, 1), ids.flatten()) + 0.1 * moved

    return on_text(forward)


@structure
def loss_after_an_outer_skip() -> Structure:
    """``x + net(x)`` compared with a target: the outer skip is no part of the loss."""

    def forward(m: Net, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(x + m.back(m.final(body(m, m.enter(x)))), y)

    found = on_signal(forward)
    return Structure(model=found.model, inputs=found.inputs, inner="blocks.*.n final")


@structure
def loss_score_matching() -> Structure:
    """The loss weighs each square; noise that was added to the input is what is predicted."""

    def forward(m: Net, x: Tensor, noise: Tensor) -> Tensor:
        noisy = 0.8 * x + 0.6 * noise
        h = m.enter(noisy)
        for block in m.blocks:
            h = h + block.attention(block.n(h))
        return (2.0 * (m.back(m.final(h)) - noise).square()).mean()

    blocks = repeat(2, lambda: Net(body, n=norm(), attention=Attention()))
    model = trained(forward)
    model.blocks = blocks
    return Structure(model=model, inputs=(signal(), signal().roll(1, 0)), **WANTED)
