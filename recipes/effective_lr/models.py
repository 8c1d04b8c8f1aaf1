"""Two small networks in which most weights come before a norm, so that their scale has no effect.

The norms' epsilons are far below the variances that decayed weights produce: with larger ones a
small weight would not be scale invariant any more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamma_nlp.errors import GammaError

EPS = 1e-8
CLASSES = 10
CHANNELS = (8, 16, 32, 32)
STRIDES = (2, 2, 2, 1)


def make_network(name: str, seed: int) -> nn.Module:
    """Return ``conv`` or ``transformer``, with the random weights of a seed.

    Raises:
        GammaError: There is no network of that name.
    """
    kinds: dict[str, type[nn.Module]] = {"conv": ConvNet, "transformer": PatchTransformer}
    if name not in kinds:
        raise GammaError(f"no network is called {name!r}; there are {', '.join(kinds)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kinds[name]()


class ConvNet(nn.Module):
    """Four times convolution, batch norm and ReLU, then a linear head on the mean of all places.

    The architecture of van Laarhoven's experiment (arXiv:1706.05350), sized for one CPU core. Maps
    images [batch, 3, 32, 32] to logits [batch, 10].
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in zip((3, *CHANNELS), CHANNELS, STRIDES, strict=False):
            layers += [
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after, eps=EPS),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(CHANNELS[-1], CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images).mean(dim=(2, 3))
        logits: Tensor = self.head(features)
        return logits


class PatchTransformer(nn.Module):
    """Two Transformer blocks on the 16 patches of an image, with norms as in Gemma 3.

    Norms come before and after each branch and on queries and keys. Maps images
    [batch, 3, 32, 32] to logits [batch, 10].
    """

    def __init__(self, width: int = 48, heads: int = 4, depth: int = 2, patch: int = 8) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(3 * patch**2, width)
        self.place = nn.Parameter(0.02 * torch.randn((32 // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.RMSNorm(width, eps=EPS)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        size = self.patch
        patches = F.pixel_unshuffle(images, size).flatten(2).transpose(1, 2)
        logits: Tensor = self.head(self.norm(self.blocks(self.embed(patches) + self.place)).mean(1))
        return logits


class Block(nn.Module):
    """Attention and a feed-forward part; maps [batch, tokens, width] to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        norm, linear = nn.RMSNorm, nn.Linear
        self.before_attention, self.after_attention = norm(width, eps=EPS), norm(width, eps=EPS)
        self.before_mlp, self.after_mlp = norm(width, eps=EPS), norm(width, eps=EPS)
        self.q_norm, self.k_norm = norm(width // heads, eps=EPS), norm(width // heads, eps=EPS)
        self.q, self.k, self.v, self.out = (linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = linear(width, 2 * width, bias=False), linear(2 * width, width, False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.before_attention(x)
        q, k, v = (
            part(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        x = x + self.after_attention(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.after_mlp(self.down(self.up(self.before_mlp(x)).relu()))
