"""The residual graph as plain data: what each operation of one forward pass does to the signal.

A node is an operation on an activation. Operations that only move or cast values (views, copies,
permutations) have no node of their own: their output stands for their input. Nothing here knows
tensors. :mod:`gamma_nlp.graph.recorder` fills the graph, :mod:`gamma_nlp.gains.rule` reads it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field


class Op(enum.Enum):
    """What an operation does to the signal."""

    SOURCE = "source"
    """An input, an embedding lookup, or a parameter used as a token array."""
    WEIGHT = "weight"
    """Contracts the signal with a parameter."""
    CONTRACT = "contract"
    """Contracts the signal with itself, as attention does."""
    NORM = "norm"
    """Divides the signal by a statistic of itself."""
    SOFTMAX = "softmax"
    ADD = "add"
    """Adds two activations, the two ``parents``."""
    LINEAR = "linear"
    """Linear in the signal without contracting a parameter: a factor, a bias, a sum, a mean."""
    CHOICE = "choice"
    """Makes indices or masks from the signal: they steer it but carry none of it."""
    NONLINEAR = "nonlinear"
    """Everything else."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A broadcast product of the signal with one parameter: a gain, or a candidate for one.

    Attributes:
        parameter: The parameter's name.
        offset: The product is proportional to ``parameter + offset``: 0 for ``w``, 1 for ``1 + w``.
        kind: As :attr:`gamma_nlp.Gain.kind` where the factor follows a norm, ``None`` where it is
            a candidate for a layer scale.
    """

    parameter: str
    offset: float
    kind: str | None


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation on activations.

    Attributes:
        op: What it does.
        name: Its name, as in :mod:`gamma_nlp.graph.operations`.
        parents: The nodes that it reads.
        module: The module that ran it.
        scale: The parameter that it multiplies by, if that may be a gain.
        factors: All parameters in what it multiplies by, or contracts with.
        total: Whether its output is one number, or one for each item of a batch, that a reduction
            has made, such as a loss.
    """

    op: Op
    name: str
    parents: tuple[int, ...]
    module: str
    scale: Scale | None = None
    factors: frozenset[str] = frozenset()
    total: bool = False


@dataclass
class Graph:
    """Nodes in the order in which they ran, so that every parent precedes its children.

    Attributes:
        nodes: The operations.
        weights: Parameters contracted with the signal.
        embeddings: Parameters looked up by an index.
        shifts: Biases of normalisations.
        biases: Other parameters added to the signal.
        sums: For parameters added to the signal, the nodes of these sums.
        tokens: Parameters used as tokens, such as latent queries; each with its node, or ``None``
            where it has none.
        idle: Gains of norms of a constant, which have nothing to scale.
        touched: Every parameter that some operation read, not counting norms of a constant.
        outputs: The nodes that the model returns; empty if that is not known.
    """

    nodes: list[Node] = field(default_factory=list)
    weights: set[str] = field(default_factory=set)
    embeddings: set[str] = field(default_factory=set)
    shifts: set[str] = field(default_factory=set)
    biases: set[str] = field(default_factory=set)
    sums: dict[str, set[int]] = field(default_factory=dict)
    tokens: dict[str, int | None] = field(default_factory=dict)
    idle: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    outputs: set[int] = field(default_factory=set)

    def add(
        self,
        op: Op,
        name: str,
        parents: Iterable[int],
        module: str = "",
        scale: Scale | None = None,
        factors: frozenset[str] = frozenset(),
    ) -> int:
        """Append a node and return its index."""
        node = Node(
            op=op, name=name, parents=tuple(parents), module=module, scale=scale, factors=factors
        )
        self.nodes.append(node)
        return len(self.nodes) - 1

    def children(self) -> list[list[int]]:
        """Return, for each node, the nodes that read it, in order."""
        below: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for parent in dict.fromkeys(node.parents):
                below[parent].append(index)
        return below
