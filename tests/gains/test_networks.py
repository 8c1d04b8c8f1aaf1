"""The graph places every gain of random networks as they were built.

A failure prints seed and description: ``networks.make(seed)`` gives the network again.
"""

from __future__ import annotations

import pytest
import torch

from gamma_nlp.gains import rule
from tests.support.networks import SHORT, make
from tests.support.networks.check import traced, wrong

LONG = 2000

# What the short run must contain; what a norm, a weight or an addition looks like comes on top.
CONSTRUCTIONS = {
    "pre-norm",
    "post-norm",
    "sandwich",
    "norm at the end of a branch",
    "branch of a norm alone",
    "parallel branches",
    "nested branch",
    "adapter in a branch",
    "uncounted residual inside a branch",
    "outer skip around a network",
    "projection shortcut",
    "projection in a branch",
    "two streams",
    "two streams, post-norm",
    "encoder and decoder",
    "cross-attention",
    "norm of the memory",
    "latent tokens",
    "class token",
    "shared block",
    "shared norm",
    "tied weight",
    "frozen parameter",
    "unused norm",
    "layer scale",
    "highway",
    "scaled skip",
    "divided branch",
    "delayed addition",
    "no residual addition",
    "head in the middle",
    "experts",
    "recurrent",
    "convolution",
    "attention",
    "linear attention",
    "score bias",
    "scores carried on",
    "q/k norm",
    "value norm",
    "gate",
    "norm on a gate",
    "squeeze and excite",
    "norm that only chooses",
    "vector behind a norm",
    "quotient that is no norm",
    "choice made from the signal",
    "mask made from the signal",
    "attention without queries",
    "contraction of the signal with itself",
    "softmax over channels",
    "softmax of a norm",
    "sum that enters a softmax",
    "vector on some of the channels",
    "softmax pooling",
    "norm inside a branch",
    "norm on half of the channels",
    "vector before a weight",
    "U-shaped skip",
    "concatenated skip",
    "long skip over pre-norm blocks",
    "long skip over post-norm blocks",
    "sum fused with a weight",
    "sum of simple and simple simple",
    "sum of simple and simple act",
    "sum of simple and act simple simple",
    "sum of simple simple and simple act simple",
    "sum of simple act simple and simple act simple",
    "sum of adapted and simple act simple",
    "sum of simple and simple move simple",
    "add: x + y",
    "add: y + x",
    "add: x - y",
    "add: in place",
    "add: into the branch",
    "add: by slices",
    "checkpoint",
    "no_grad",
    "moves",
    "weight: low rank",
    "weight: int8",
}


@pytest.mark.parametrize("start", range(0, SHORT, 20))
def test_graph_places_every_gain_of_a_random_network(start: int) -> None:
    failures = [text for seed in range(start, start + 20) if (text := wrong(seed))]
    assert not failures, "\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(SHORT, LONG, 100))
def test_graph_places_every_gain_of_two_thousand_networks(start: int) -> None:
    failures = [text for seed in range(start, start + 100) if (text := wrong(seed))]
    traced.cache_clear()
    assert not failures, "\n".join(failures)


def test_every_construction_occurs_in_the_short_run() -> None:
    kinds = set().union(*(traced(seed)[0].kinds for seed in range(SHORT)))
    assert kinds >= CONSTRUCTIONS, CONSTRUCTIONS - kinds


def test_labels_name_every_category_and_both_offsets() -> None:
    labels = [label for seed in range(SHORT) for label in traced(seed)[0].labels.values()]
    for category in (*rule.PRECEDENCE, None):
        assert sum(place is category for place, _ in labels) >= 5
    assert {offset for _, offset in labels} == {0, 1}


def test_labels_name_queries_and_keys_and_what_is_neither() -> None:
    queries = [query for seed in range(SHORT) for query in traced(seed)[0].queries.values()]
    assert min(queries.count(True), queries.count(False)) >= 5


def test_a_seed_gives_the_same_network_again_and_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    one, two = make(7), make(7)
    assert torch.equal(torch.get_rng_state(), state)
    assert (one.labels, one.description) == (two.labels, two.description)
    first, second = one.module.state_dict(), two.module.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_networks_run_the_same_twice_and_stay_finite() -> None:
    for seed in range(20):
        network = make(seed)
        outputs = []
        for _ in range(2):
            x = network.inputs
            module = network.module.eval()
            x = tuple(x.values()) if isinstance(x, dict) else x
            with torch.no_grad():
                y = module(*x) if isinstance(x, tuple) else module(x)
            outputs.append([t for t in torch.utils._pytree.tree_leaves(y) if t is not None])
        for one, two in zip(*outputs, strict=True):
            assert torch.equal(one, two), f"seed {seed}: {network.description}"
            assert one.isfinite().all(), f"seed {seed}: {network.description}"
