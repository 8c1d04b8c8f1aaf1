"""Networks for time series and tables."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.parts import Attention, D, Net, linear, mlp, norm, repeat, signal
from tests.support.zoo.structure import Structure, structure


class TimeBN(nn.BatchNorm1d):
    """Batch norm of tokens, over their channels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


@structure
def patch_tst() -> Structure:
    """Patches of each channel, post-norm with batch norms, a flat head."""

    def layer(m: Net, x: Tensor) -> Tensor:
        x = m.n1(x + m.attention(x))
        return m.n2(x + m.mlp(x))

    def forward(m: Net, x: Tensor) -> Tensor:
        x = x.transpose(1, 2).flatten(0, 1).unfold(-1, 4, 2)
        x = m.embed(x) + m.positions
        for each in m.layers:
            x = each(x)
        return m.out(x.flatten(1))

    make = lambda: Net(layer, n1=TimeBN(D), n2=TimeBN(D), attention=Attention(), mlp=mlp())
    model = Net(
        forward, embed=linear(4, D), positions=nn.Parameter(torch.randn(5, D)),
        layers=repeat(2, make), out=linear(5 * D, 3),
    )  # fmt: skip
    return Structure(
        model=model, inputs=signal(2, 12, 3), shortcut="layers.?.n1 layers.0.n2",
        head="layers.1.n2",
    )  # fmt: skip


@structure
def reversible_instance_norm() -> Structure:
    """RevIN's own weight scales the series before the network and divides it out behind."""

    def forward(m: Net, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True).detach()
        spread = (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt().detach()
        h = (x - mean) / spread * m.w + m.b
        h = m.embed(h.transpose(1, 2))
        for each in m.blocks:
            h = h + each.mlp(each.n(h))
        y = m.out(h).transpose(1, 2)
        return (y - m.b) / (m.w + 1e-10) * spread + mean

    blocks = repeat(2, lambda: Net(forward, n=norm(), mlp=mlp()))
    model = Net(
        forward, w=nn.Parameter(1 + torch.rand(5)), b=nn.Parameter(torch.rand(5)),
        embed=linear(12, D), blocks=blocks, out=linear(D, 6),
    )  # fmt: skip
    return Structure(model=model, inputs=signal(2, 12, 5), inner="blocks.*.n", shortcut="w")


def grn(size: int = D, context: bool = False) -> Net:
    """The gated residual network of the temporal fusion transformer."""

    def forward(m: Net, x: Tensor, c: Tensor | None = None) -> Tensor:
        h = m.up(x)
        if c is not None:
            h = h + m.context(c)
        h = m.down(F.elu(h))
        return m.n((x if m.skip is None else m.skip(x)) + F.glu(m.gate(h), -1))

    return Net(
        forward, up=linear(size, D), down=linear(), gate=linear(D, 2 * D), n=norm(),
        context=linear() if context else None, skip=linear(size, D) if size != D else None,
    )  # fmt: skip


@structure
def temporal_fusion_transformer() -> Structure:
    """Variables are selected, a recurrent network and attention follow, each with gate and norm."""

    def forward(m: Net, x: Tensor, static: Tensor) -> Tensor:
        parts = [f(x[..., i : i + 1]) for i, f in enumerate(m.embed)]
        weights = m.select(torch.cat(parts, -1), static[:, None]).softmax(-1)
        made = torch.stack([g(p) for g, p in zip(m.each, parts, strict=True)], -1)
        x = (made * weights[..., None, : len(parts)]).sum(-1)
        x = m.n_lstm(x + F.glu(m.lstm_gate(m.lstm(x)[0]), -1))
        h = m.enrich(x, static[:, None])
        h = m.n_attention(h + F.glu(m.attention_gate(m.attention(h)), -1))
        return m.out(m.n_out(x + F.glu(m.out_gate(m.forward_part(h)), -1)))

    gate = lambda: linear(D, 2 * D)
    model = Net(
        forward, embed=repeat(3, lambda: linear(1, D)), select=grn(3 * D, True),
        each=repeat(3, grn), lstm=nn.LSTM(D, D, batch_first=True), lstm_gate=gate(), n_lstm=norm(),
        enrich=grn(D, True), attention=Attention(), attention_gate=gate(), n_attention=norm(),
        forward_part=grn(), out_gate=gate(), n_out=norm(), out=linear(),
    )  # fmt: skip
    # The last sum starts at n_lstm and holds a trunk: enrich, attention, forward_part. Its branch
    # ends in forward_part's norm, a gate and a weight after it: branch_inner.
    return Structure(
        model=model, inputs=(signal(2, 5, 3), signal(2, D)), head="n_out",
        shortcut="select.n each.*.n n_lstm enrich.n n_attention", inner="forward_part.n",
    )  # fmt: skip


@structure
def n_beats() -> Structure:
    """Each block takes its backcast off the series; the forecasts are summed."""

    def block(m: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        h = m.n2(m.f2(m.n1(m.f1(x)).relu())).relu()
        return m.backcast(h), m.forecast(h)

    def forward(m: Net, x: Tensor) -> Tensor:
        total = 0.0
        for each in m.blocks[:-1]:
            back, ahead = each(x)
            x, total = x - back, total + ahead
        return total + m.blocks[-1](x)[1]

    make = lambda: Net(
        block, f1=linear(12, D), f2=linear(), n1=norm(), n2=norm(), backcast=linear(D, 12),
        forecast=linear(D, 6),
    )  # fmt: skip
    # By the letter of the rule the forecasts are a stream: a block's last hidden state reaches its
    # own forecast through one weight and the next forecast through the next block, so their sum is
    # a projection shortcut. It swallows the one difference in its branch.
    return Structure(
        model=Net(forward, blocks=repeat(3, make)), inputs=signal(2, 12),
        shortcut="blocks.0.n?", inner="blocks.1.n? blocks.2.n?",
    )  # fmt: skip


@structure
def ts_mixer() -> Structure:
    """Mixes over time, then over channels, with norms of both dimensions."""

    def layer(m: Net, x: Tensor) -> Tensor:
        h = m.n1(x.flatten(1)).view_as(x)
        x = x + m.time(h.transpose(1, 2)).relu().transpose(1, 2)
        h = m.n2(x.flatten(1)).view_as(x)
        return x + m.mlp(h)

    def forward(m: Net, x: Tensor) -> Tensor:
        for each in m.blocks:
            x = each(x)
        return m.out(x.transpose(1, 2)).transpose(1, 2)

    make = lambda: Net(
        layer, n1=nn.BatchNorm1d(5 * D), n2=nn.BatchNorm1d(5 * D), time=linear(5, 5), mlp=mlp()
    )
    model = Net(forward, blocks=repeat(2, make), out=linear(5, 3))
    return Structure(model=model, inputs=signal(), inner="blocks.*.n?")


@structure
def tabular_transformer() -> Structure:
    """FT-Transformer: a token per feature; the first block has no norm before attention."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = x[..., None] * m.w + m.b
        x = torch.cat([m.cls.expand(len(x), -1, -1), x], 1)
        for i, each in enumerate(m.blocks):
            x = x + each.attention(each.n1(x) if i else x)
            h, g = each.up(each.n2(x)).chunk(2, -1)
            x = x + each.down(h * g.relu())
        return m.out(m.final(x[:, 0]).relu())

    def make(first: bool) -> Net:
        return Net(
            forward, n2=norm(), attention=Attention(), up=linear(D, 16), down=linear(),
            **({} if first else {"n1": norm()}),
        )  # fmt: skip

    model = Net(
        forward, w=nn.Parameter(torch.randn(6, D)), b=nn.Parameter(torch.randn(6, D)),
        cls=nn.Parameter(torch.randn(1, 1, D)), final=norm(), out=linear(),
        blocks=nn.ModuleList([make(True), make(False)]),
    )  # fmt: skip
    return Structure(
        model=model, inputs=signal(2, 6), inner="blocks.*.n2 blocks.1.n1", head="final"
    )
