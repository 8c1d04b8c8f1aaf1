"""Matrices that are weights, however they are made."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from gamma_nlp import categorize
from tests.support.structures import D, Net, block, linear, norm, parameter, roles, signal

L, E = 5, 3


# What is contracted in place of a matrix, made of the parameters that follow.
MADE = {
    "transposed": (lambda m: m.a.mT, {"a": (D, D)}),
    "normed by hand": (
        lambda m: m.g * m.a / m.a.norm(dim=1, keepdim=True),
        {"a": (D, D), "g": (D, 1)},
    ),
    "standardised": (
        lambda m: (m.a - m.a.mean(1, keepdim=True)) * (m.a.var(1, keepdim=True) + 1e-5).rsqrt(),
        {"a": (D, D)},
    ),
    "of unit rows": (lambda m: F.normalize(m.a, dim=-1), {"a": (D, D)}),
    "divided by its own singular value": (
        lambda m: m.a / torch.dot(torch.mv(m.a, torch.ones(D)), torch.ones(D)),
        {"a": (D, D)},
    ),
    "low rank": (lambda m: m.b @ m.a, {"a": (2, D), "b": (D, 2)}),
    "merged LoRA": (lambda m: m.w + 0.5 * (m.b @ m.a), {"w": (D, D), "a": (2, D), "b": (D, 2)}),
    "merged LoRA of rank 1": (lambda m: m.w + m.b @ m.a, {"w": (D, D), "a": (1, D), "b": (D, 1)}),
    "merged by addmm": (
        lambda m: torch.addmm(m.w, m.b, m.a),
        {"w": (D, D), "a": (2, D), "b": (D, 2)},
    ),
    "DoRA": (
        lambda m: m.g * (v := m.w + m.b @ m.a) / v.norm(dim=1, keepdim=True),
        {"w": (D, D), "a": (2, D), "b": (D, 2), "g": (D, 1)},
    ),
    "LoHa": (
        lambda m: (m.a @ m.b) * (m.c @ m.d),
        {"a": (D, 2), "b": (2, D), "c": (D, 2), "d": (2, D)},
    ),
    "Kronecker": (lambda m: torch.kron(m.a, m.b), {"a": (2, 2), "b": (4, 4)}),
    "softmax": (lambda m: m.a.softmax(-1), {"a": (D, D)}),
    "softmax by hand": (lambda m: m.a.exp() / m.a.exp().sum(-1, keepdim=True), {"a": (D, D)}),
    "positive": (lambda m: F.softplus(m.a), {"a": (D, D)}),
    "orthogonal": (lambda m: torch.matrix_exp(m.a - m.a.mT), {"a": (D, D)}),
    "Cayley": (
        lambda m: torch.linalg.solve(torch.eye(D) + (m.a - m.a.mT), torch.eye(D) - (m.a - m.a.mT)),
        {"a": (D, D)},
    ),
    "pruned": (lambda m: m.a * torch.eye(D), {"a": (D, D)}),
    "causal": (lambda m: m.a.tril(), {"a": (D, D)}),
    "masked": (lambda m: m.a.masked_fill(torch.eye(D) > 0, 0.0), {"a": (D, D)}),
    "binarised": (lambda m: m.a.sign() * m.a.abs().mean(), {"a": (D, D)}),
    "rounded with a learned step": (
        lambda m: (m.a / m.g).round().clamp(-8, 7) * m.g,
        {"a": (D, D), "g": (D, 1)},
    ),
    "ternary with straight-through": (
        lambda m: m.a + ((m.a / m.a.abs().mean()).round().clamp(-1, 1) - m.a).detach(),
        {"a": (D, D)},
    ),
    "complex": (lambda m: torch.view_as_complex(m.a).real, {"a": (D, D, 2)}),
    "real and imaginary": (lambda m: (m.a + 1j * m.b).real, {"a": (D, D), "b": (D, D)}),
    "resampled": (
        lambda m: F.interpolate(m.a[None, None], size=(D, D), mode="bilinear")[0, 0],
        {"a": (4, 4)},
    ),
    "joined": (lambda m: torch.cat([m.a, m.b]), {"a": (D // 2, D), "b": (D // 2, D)}),
    "a circulant": (lambda m: m.a[(torch.arange(D)[:, None] - torch.arange(D)) % D], {"a": (D,)}),
    "block-diagonal": (lambda m: torch.block_diag(*m.a), {"a": (2, 4, 4)}),
    "of a tensor train": (
        lambda m: torch.einsum("iar,rbj->iabj", m.a, m.b).reshape(D, D),
        {"a": (4, 2, 3), "b": (3, 4, 2)},
    ),
    "a neural accumulator": (lambda m: m.a.tanh() * m.b.sigmoid(), {"a": (D, D), "b": (D, D)}),
    "an average of two": (lambda m: 0.3 * m.a + 0.7 * m.b, {"a": (D, D), "b": (D, D)}),
    "of constant bases": (lambda m: m.a @ torch.ones(3, D), {"a": (D, 3)}),
}


@pytest.mark.parametrize("way", MADE)
def test_what_a_contracted_matrix_is_made_of_are_weights(way: str) -> None:
    made, shapes = MADE[way]
    torch.manual_seed(0)
    model = block(
        lambda m, x: x @ made(m), **{name: parameter(*shape) for name, shape in shapes.items()}
    )
    assert roles(model, shapes) == dict.fromkeys(shapes, "weight")


def test_a_library_s_parametrized_weights_are_weights() -> None:
    class Symmetric(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.triu() + x.triu(1).mT

    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(D, D)),
        parametrizations.spectral_norm(nn.Linear(D, D)),
        parametrizations.orthogonal(nn.Linear(D, D)),
        nn.Linear(D, D),
        norm(),
    )
    parametrize.register_parametrization(model[3], "weight", Symmetric())
    table = categorize(model, signal())
    others = {name: str(role) for name, role in table.roles.items() if not name.endswith("bias")}
    assert set(others.values()) == {"weight"}


# What a branch computes, its own parameters, and their roles.
def expert_by_expert(m: Net, x: Tensor) -> Tensor:
    h = torch.einsum("bnd,edf->ebnf", x, m.w1) + m.b1[:, None, None]
    return (torch.einsum("ebnf,efd->ebnd", h.relu(), m.w2) + m.b2[:, None, None]).sum(0)


def experts_that_the_signal_picks(m: Net, x: Tensor) -> Tensor:
    chosen = (x @ m.gate).argmax(-1)
    return torch.einsum("bnd,bndf->bnf", x, m.w1[chosen])


def token_mixer(m: Net, x: Tensor) -> Tensor:
    return torch.einsum("ij,bjd->bid", m.w, x) + m.bias[:, None]


def talking_heads(m: Net, x: Tensor) -> Tensor:
    heads = x.unflatten(-1, (2, 4)).transpose(1, 2)
    scores = torch.einsum("bhij,hg->bgij", heads @ heads.mT, m.before).softmax(-1)
    return (torch.einsum("bhij,hg->bgij", scores, m.post) @ heads).transpose(1, 2).flatten(2)


def bilinear(m: Net, x: Tensor) -> Tensor:
    return F.bilinear(x, x, m.w, m.bias)


def monarch(m: Net, x: Tensor) -> Tensor:
    h = torch.einsum("bnki,kij->bnkj", x.unflatten(-1, (2, 4)), m.w1)
    return torch.einsum("bnik,kij->bnjk", h.transpose(2, 3).unflatten(2, (4,)).mT, m.w2).flatten(2)


def cosine(m: Net, x: Tensor) -> Tensor:
    return F.linear(F.normalize(x, dim=-1), F.normalize(m.prototypes, dim=-1)) * m.scale.exp()


def by_distance(m: Net, x: Tensor) -> Tensor:
    return torch.cdist(x, m.prototypes)


def codebook(m: Net, x: Tensor) -> Tensor:
    distance = (x**2).sum(-1, keepdim=True) - 2 * x @ m.codes.mT + (m.codes**2).sum(-1)
    return x + (m.codes[distance.argmin(-1)] - x).detach()


def implicit_hypernetwork(m: Net, x: Tensor) -> Tensor:
    return x @ (F.relu(m.latent @ m.h1 + m.hb) @ m.h2).view(D, D)


def spectral(m: Net, x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(x, dim=1)[:, :2]
    mixed = torch.einsum("bki,kio->bko", spectrum, torch.view_as_complex(m.w))
    return torch.fft.irfft(mixed, n=L, dim=1)


def global_filter(m: Net, x: Tensor) -> Tensor:
    """GFNet: a product on the spectrum, which is a convolution."""
    spectrum = torch.fft.rfft(x, dim=1, norm="ortho")
    return torch.fft.irfft(spectrum * torch.view_as_complex(m.w), n=L, dim=1, norm="ortho")


def long_convolution(m: Net, x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(x.mT, n=2 * L) * torch.fft.rfft(m.kernel, n=2 * L)
    return torch.fft.irfft(spectrum, n=2 * L)[..., :L].mT


def splines(m: Net, x: Tensor) -> Tensor:
    bases = torch.exp(-((x[..., None] - torch.linspace(-1, 1, 3)) ** 2)).flatten(2)
    return F.linear(x.sigmoid(), m.base) + F.linear(
        bases, (m.spline * m.scaler[..., None]).flatten(1)
    )


def additive_attention(m: Net, x: Tensor) -> Tensor:
    return (torch.tanh(x @ m.w) @ m.v).softmax(1)[..., None] * x


BRANCHES = [
    (expert_by_expert, {"w1": (E, D, 6), "b1": (E, 6), "w2": (E, 6, D), "b2": (E, D)},
     {"w1": "weight", "b1": "bias", "w2": "weight", "b2": "bias"}),
    (experts_that_the_signal_picks, {"gate": (D, E), "w1": (E, D, D)}, "weight"),
    (token_mixer, {"w": (L, L), "bias": (L,)}, {"w": "weight", "bias": "bias"}),
    (talking_heads, {"before": (2, 2), "post": (2, 2)}, "weight"),
    (bilinear, {"w": (D, D, D), "bias": (D,)}, {"w": "weight", "bias": "bias"}),
    (cosine, {"prototypes": (D, D), "scale": ()}, {"prototypes": "weight", "scale": "other"}),
    (by_distance, {"prototypes": (D, D)}, "weight"),
    (codebook, {"codes": (E, D)}, "embedding"),
    (implicit_hypernetwork, {"latent": (1, 4), "h1": (4, 6), "hb": (6,), "h2": (6, D * D)},
     {"latent": "other", "h1": "weight", "hb": "bias", "h2": "weight"}),
    (spectral, {"w": (2, D, D, 2)}, "weight"),
    (global_filter, {"w": (L // 2 + 1, D, 2)}, "weight"),
    (long_convolution, {"kernel": (D, L)}, "weight"),
    (splines, {"base": (D, D), "spline": (D, D, 3), "scaler": (D, D)}, "weight"),
    (additive_attention, {"w": (D, D), "v": (D,)}, "weight"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("branch", "shapes", "wanted"), BRANCHES, ids=lambda value: getattr(value, "__name__", "")
)
def test_role_of_every_own_parameter(branch, shapes, wanted) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model = block(branch, **{name: parameter(*shape) for name, shape in shapes.items()})
    expected = dict.fromkeys(shapes, wanted) if isinstance(wanted, str) else wanted
    assert roles(model, shapes) == expected


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_biases_of_recurrent_layers_are_biases(kind: type[nn.Module], bidirectional: bool) -> None:
    layer = kind(D, D // (1 + bidirectional), 2, batch_first=True, bidirectional=bidirectional)
    model = Net(lambda m, x: m.out(m.n(m.layer(x)[0])), layer=layer, n=norm(), out=linear())
    found = categorize(model, signal()).roles
    assert {str(role) for name, role in found.items() if "bias" in name and "n." not in name} == {
        "bias"
    }
    assert {str(role) for name, role in found.items() if "weight" in name} == {"weight"}


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_biases_of_recurrent_cells_are_biases(cell: type[nn.Module]) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        state = None
        for t in range(L):
            state = m.cell(x[:, t], state)
        return m.out(m.n(state[0] if isinstance(state, tuple) else state))

    found = categorize(Net(forward, cell=cell(D, D), n=norm(), out=linear()), signal()).roles
    assert {n: str(r) for n, r in found.items() if n.startswith("cell")} == {
        "cell.weight_ih": "weight", "cell.weight_hh": "weight",
        "cell.bias_ih": "bias", "cell.bias_hh": "bias",
    }  # fmt: skip
