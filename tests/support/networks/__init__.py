"""Random residual networks in which the category of each gain is known.

``make(seed)`` builds a small network in plain torch: ids or dense inputs, a trunk of random
elements, a head or none. Its labels follow from how it was built (see ``builder.py``); names of
modules, parameters and classes give nothing away.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.gains.category import Category

from .builder import AT_END, INNER, RESIZES, Built, Exit, Sums
from .forms import BRANCHES, NESTED, NETWORKS
from .labels import places, queries, unmeasured
from .parts import HEADS, Part, in_turn
from .sources import BATCH, TOKENS, make_source
from .stacks import Stacks

SHORT = 100  # networks in the short run of every test that goes through them
DIMS = (8, 12, 16)

STEMS = (
    "",
    "",
    "move",
    "norm",
    "norm move",
    "linear",
    "linear norm",
    "linear norm act linear norm",
)
STACKS = (
    "residual",
    "residual residual",
    "residual norm residual norm",
    "residual norm residual norm",
    "residual act residual act",
    "parallel",
    "parallel norm",
    "beside",
    "loop",
    "long",
    "concat",
    "streams",
    "norm act",
    "wide",
    "wide",
    "project",
    "norm act project",
    "project act residual",
    "simple norm",
    "carried",
    "aside",
    "half",
    "residual aside norm",
    "norm scored",
)
TAILS = (
    "",
    "",
    "norm",
    "norm",
    "norm linear",
    "norm linear",
    "linear",
    "norm linear act norm linear",
    "wide norm",
    "norm wide",
    "norm scored",
)
POST_NORM = ("residual norm", "residual norm residual norm", "parallel norm")
POOLS = ("pool linear", "norm pool linear", "pool", "norm body", "norm body norm", "norm wide norm")
MEMORIES = ("", "norm", "move norm")
PLAIN = ("linear norm act", "linear norm", "body norm", "body norm act", "wide norm")
PLAIN_TAILS = ("", "act", "linear", "linear act linear", "body")
WISHES = (*dict.fromkeys(BRANCHES), *NESTED, *NETWORKS)  # each in turn, so that none stays rare
COUNTED = {"beside", "residual", "parallel", "loop", "long", "streams", "project", "carried"}


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network and what is true of it.

    Attributes:
        module: The network, in training mode.
        inputs: What to call it with: a tensor, a tuple or a dict.
        labels: For each gain by name its category (``None``: never reached) and its offset.
        unmeasured: Gains at the end of a branch that something else follows or joins, so that the
            branch does not vanish with them; the rule places them, a change of scale cannot.
        queries: Whether a gain is that of a query or a key of a branch, where all that decides its
            category agrees on it.
        kinds: The constructions in it.
        description: Its elements in the order in which they run.
    """

    module: nn.Module
    inputs: Any
    labels: dict[str, tuple[Category | None, int]]
    unmeasured: frozenset[str]
    queries: dict[str, bool]
    kinds: frozenset[str]
    description: str


def make(seed: int) -> Network:
    """The network of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _make(random.Random(seed), WISHES[seed % len(WISHES)])


def _make(rng: random.Random, wish: str) -> Network:
    plain = rng.random() < 0.12
    reuse = rng.choice([0.0, 0.05, 0.05, 0.4])
    builder = Stacks(rng=rng, plain=plain, reuse=reuse, wish=wish)
    if plain:
        builder.kind("no residual addition")
        members, inputs, text = _single(builder, _plain_stream)
    elif rng.random() < 0.2:
        members, inputs, text = _pair(builder)
    else:
        members, inputs, text = _single(builder, _stream)
    if rng.random() < 0.5:
        members["bias"] = nn.Embedding(2 * TOKENS - 1, HEADS)
    if rng.random() < 0.1:
        builder.kind("unused norm")
        members["unused"] = nn.LayerNorm(8)
    ends = [name for name in ("mean", "tied") if rng.random() < 0.3]
    module = builder.part(
        _forward,
        *members.values(),
        at={name: i for i, name in enumerate(members)},
        ends=ends,
        output=rng.choice(["tensor", "tuple", "dict"]),
    )
    names = {id(p): name for name, p in module.named_parameters()}
    labels = places(builder.uses, names)
    if "unused" in members:
        labels[names[id(members["unused"].weight)]] = (None, 0)
    frozen = rng.choice([0.0, 0.0, 0.3, 1.0])
    for parameter in module.parameters():
        if rng.random() < frozen:
            parameter.requires_grad_(False)
            builder.kind("frozen parameter")
    return Network(
        module=module,
        inputs=inputs,
        labels=labels,
        unmeasured=unmeasured(builder.uses, names, labels),
        queries=queries(builder.uses, names, labels),
        kinds=frozenset(builder.kinds),
        description=" ".join([text, *ends]),
    )


# What is read and what follows ------------------------------------------------------------------


Make = Callable[[Stacks, int], Built]


def _single(builder: Stacks, make: Make) -> tuple[dict[str, nn.Module], Any, str]:
    dim = builder.pick(DIMS)
    source, x, name = make_source(builder, dim)
    stream = make(builder, dim)
    inputs = builder.pick([x, (x,), {"x": x}])
    return {"source": source, "stream": stream.module}, inputs, f"{name} {stream.text}"


def _pair(builder: Stacks) -> tuple[dict[str, nn.Module], Any, str]:
    """An encoder, and a decoder or latent tokens that read its output."""
    dim, builder.memory_dim = builder.pick(DIMS), builder.pick(DIMS)
    latent = builder.flag(0.3)
    builder.kind("latent tokens" if latent else "encoder and decoder")
    first, x, name = make_source(builder, builder.memory_dim)
    encoder = _row(
        builder,
        [builder.pick(STEMS), *_stacks(builder), builder.pick(MEMORIES)],
        builder.memory_dim,
        Exit(INNER, INNER),
        fixed=True,
    )
    reads = ["xres", builder.pick(["", "norm"])]
    if latent:
        second: nn.Module = builder.part(
            lambda m, x: m[0].expand(BATCH, -1, -1), nn.Parameter(torch.randn(TOKENS, dim))
        )
        inputs, other = builder.pick([x, (x,), {"x": x}]), "latents:"
        reads.insert(0, builder.pick(["latent", "token", "token residual"]))
    else:
        second, y, other = make_source(builder, dim)
        reads[:0] = [builder.pick(STEMS), builder.pick(["", "residual", "residual norm"])]
        inputs = builder.pick([(x, y), {"x": x, "y": y}])
    reads += [*_stacks(builder)[:1], builder.pick(["", "xres"]), builder.pick(TAILS)]
    decoder = _row(builder, reads, dim, AT_END)
    members = {"source": second, "stream": decoder.module}
    members |= {"first": first, "encoder": encoder.module}
    return members, inputs, f"{name} {encoder.text} => {other} {decoder.text}"


def _stacks(builder: Stacks) -> list[str]:
    stacks = [builder.pick(STACKS) for _ in range(builder.pick([1, 1, 2, 3]))]
    if not COUNTED & set(" ".join(stacks).split()):
        stacks.insert(builder.rng.randrange(len(stacks) + 1), "residual")
    return stacks


def _stream(builder: Stacks, dim: int) -> Built:
    tail = builder.pick(POOLS if builder.flag(0.25) else TAILS)
    return _row(builder, [builder.pick(STEMS), *_stacks(builder), tail], dim, AT_END)


def _plain_stream(builder: Stacks, dim: int) -> Built:
    rows = [builder.pick(PLAIN) for _ in range(builder.pick([1, 2, 3, 4]))]
    stem = builder.pick(["", "norm", "linear act"])
    return _row(builder, [stem, *rows, builder.pick(PLAIN_TAILS)], dim, AT_END)


def _row(builder: Stacks, groups: list[str], dim: int, exit: Exit, fixed: bool = False) -> Built:
    """Groups of elements in a row; those with a weight may change the width, unless it is fixed."""
    groups = [group for group in groups if group]
    dims = [dim]
    for group in groups:
        resizes = RESIZES & set(group.split())
        dims.append(builder.pick(DIMS) if resizes and not fixed else dims[-1])
    modules, texts = [], []
    for i in reversed(range(len(groups))):
        if groups[i] in POST_NORM:
            builder.kind("post-norm")
        built = builder.stream(groups[i], dims[i], exit, Sums.TOP, dims[i + 1])
        exit = built.before
        modules.insert(0, built.module)
        texts.insert(0, built.text)
    return Built(builder.part(in_turn, *modules), exit, " ".join(texts))


def _forward(m: Part, *inputs: Tensor) -> Any:
    at = m.options["at"]
    env: dict[str, Any] = {"aside": []}
    if "bias" in at:
        here = torch.arange(TOKENS)
        env["bias"] = m[at["bias"]](here[:, None] - here + TOKENS - 1).permute(2, 0, 1)
    memory = None
    if "encoder" in at:
        memory = m[at["encoder"]](m[at["first"]](inputs[0]), dict(env))
    x = m[at["stream"]](m[at["source"]](inputs[-1]), {**env, "memory": memory})
    for end in m.options["ends"]:
        table = m[at["source"]][0] if end == "tied" and len(m[at["source"]]) else None
        if end == "mean":
            x = x.mean(1)
        elif isinstance(table, nn.Embedding) and table.weight.shape[1] == x.shape[-1]:
            x = x @ table.weight.t()
    outputs = {"x": x, "memory": memory, "aside": env["aside"]}
    if m.options["output"] == "tensor" and not env["aside"]:
        return x
    return outputs if m.options["output"] == "dict" else tuple(outputs.values())
