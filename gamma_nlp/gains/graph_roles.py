"""The roles of parameters that are no gains, by what they do in the residual graph.

A matrix that is read but never contracted or looked up is a *table* if it is added to what the
network works on, as positions are, or to attention scores. It is none if the sum only steers
something else::

    x + table ──▶ norm or weight          positions on the stream: embedding
    scores + table ──▶ softmax            relative positions: embedding
    t + table ──▶ * norm(x)               a table of modulations (scale_shift_table): other
    (dynamic + table) @ x                 a mix: other
    exp(k + table)                        a rate: other
    (q + table) @ keys                    u and v of Transformer-XL: other

The matrix of a layer keeps its role where it is added: the one row of an embedding, as SAM's "no
mask", is an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import nn

from gamma_nlp.gains.category import Role
from gamma_nlp.gains.roles import is_linear, is_matrix, is_norm, owners, static_roles
from gamma_nlp.gains.table import MIX, TOKENS, UNREACHED
from gamma_nlp.graph.nodes import Graph, Node, Op


def graph_roles(
    model: nn.Module, graph: Graph, named: Mapping[str, str], skip: Iterable[str]
) -> tuple[dict[str, Role], dict[str, str]]:
    """Return the role of every parameter that is no gain, and a reason where one is needed.

    Args:
        model: The model.
        graph: Its residual graph.
        named: The first name of each parameter, by all its names.
        skip: The gains.
    """
    return _Roles(model, graph, named, skip).decide()


class _Roles:
    def __init__(
        self, model: nn.Module, graph: Graph, named: Mapping[str, str], skip: Iterable[str]
    ) -> None:
        self.graph, self.named = graph, named
        gains = list(skip)
        self.roles = static_roles(model, gains)
        self.parameters = dict(model.named_parameters())
        self.owner: dict[str, nn.Module] = {}
        for name, module, _, _ in owners(model):
            self.owner.setdefault(name, module)
        self.gain_shapes = {self.parameters[name].shape for name in gains}
        self.below = graph.children()
        tables = {name for name in self._own(graph.shifts) if self._is_no_shift(name)}
        self.added = self._own(graph.biases) | tables
        self.shifts = self._own(graph.shifts) - tables

    def decide(self) -> tuple[dict[str, Role], dict[str, str]]:
        """Return roles and reasons; a later kind of use wins over an earlier one."""
        for name in self._own(self.graph.touched):
            # By its shape, until it is seen to be contracted; a layer of one input says so itself.
            if self.roles[name] is Role.WEIGHT and not is_linear(self.owner[name]):
                self.roles[name] = self._added_matrix(name) if name in self.added else Role.OTHER
        for name in self.added:
            if not is_matrix(self.parameters[name]) and not self._is_of_a_layer(name):
                no_bias = self._is_logit(name) or self._is_token(name)
                self.roles[name] = Role.OTHER if no_bias else Role.BIAS
        for name in self.shifts:
            if not self._is_of_a_layer(name):
                self.roles[name] = Role.SHIFT
        for name in self._own(self.graph.weights):
            # What is contracted with p = W q + b is contracted with b too.
            if not (self.roles[name] is Role.BIAS and name in self.added):
                self.roles[name] = Role.WEIGHT
        for name in self._own(self.graph.embeddings):
            # Experts look up their bias along with their weight: `proj`, `proj_bias`.
            weight = self.roles.get(name.removesuffix("_bias"))
            if not (self.roles[name] is Role.BIAS and weight is Role.WEIGHT):
                self.roles[name] = Role.EMBEDDING
        return self.roles, dict(self._reasons())

    def _reasons(self) -> Iterator[tuple[str, str]]:
        others = {name for name, role in self.roles.items() if role is Role.OTHER}
        touched = self._own(self.graph.touched)
        tokens = {
            self.named[name]
            for name, node in self.graph.tokens.items()
            if name in self.named and not self._joins_scores(node)
        }
        for name in self.roles:
            if name in others and name not in touched:
                yield name, UNREACHED
            elif name in others and name in tokens:
                yield name, TOKENS
            elif name in others and name in self.added and is_matrix(self.parameters[name]):
                yield name, MIX

    def _own(self, names: Iterable[str]) -> set[str]:
        return {self.named[name] for name in names if self.named.get(name) in self.roles}

    def _is_no_shift(self, name: str) -> bool:
        """Return whether what is added right after a norm is a table: larger than a norm's bias."""
        own = self.parameters[name]
        larger = is_matrix(own) and own.shape not in self.gain_shapes
        return larger and not is_norm(self.owner[name])

    def _is_of_a_layer(self, name: str) -> bool:
        """Return whether it is the matrix of a layer, if only of one row or for one input."""
        layer = isinstance(self.owner[name], nn.Embedding) or is_linear(self.owner[name])
        return layer and self.roles[name] in (Role.EMBEDDING, Role.WEIGHT)

    def _is_token(self, name: str) -> bool:
        """Return whether a vector is worked on by weights, as a single latent query is."""
        tokens = {self.named.get(other) for other in self.graph.tokens}
        return name in tokens and self.roles[name] is Role.OTHER

    def _added_matrix(self, name: str) -> Role:
        if self._belongs_to_a_stack(name):
            return Role.BIAS
        sums = self._sums(name)
        if not sums or any(map(self._is_on_scores, sums)):
            return Role.EMBEDDING
        on_stream = any(map(self._is_on_stream, sums)) and not self._is_on_queries(name, sums)
        return Role.EMBEDDING if on_stream else Role.OTHER

    def _is_on_queries(self, name: str, sums: set[int]) -> bool:
        """Return whether a matrix has an entry for each output of a layer, and meets keys next."""
        entries = self.parameters[name].numel()
        layers = (child for child in self.owner[name].children() if isinstance(child, nn.Linear))
        after = {self.graph.nodes[child].op for total in sums for child in self.below[total]}
        contracted = bool(after) and after <= {Op.CONTRACT, Op.WEIGHT}
        return contracted and any(layer.out_features == entries for layer in layers)

    def _sums(self, name: str) -> set[int]:
        """Return the sums of the signal with a parameter, under all its names."""
        totals = self.graph.sums.items()
        return {node for other, nodes in totals if self.named.get(other) == name for node in nodes}

    def _belongs_to_a_stack(self, name: str) -> bool:
        """Return whether a matrix holds the biases of a stack of matrices, one of each expert."""
        count, *rest = _sides(self.parameters[name])
        stacks = [
            _sides(other)
            for last, other in self.owner[name].named_parameters(recurse=False)
            if other is not self.parameters[name] and is_matrix(other)
        ]
        return any(
            len(sides) == len(rest) + 2 and sides[0] == count and rest[-1] in sides[1:]
            for sides in stacks
        )

    def _is_on_scores(self, total: int) -> bool:
        """Return whether a node is made of attention scores: the signal contracted with itself."""
        stack = [total]
        while stack:
            node = self.graph.nodes[stack.pop()]
            if node.op is Op.CONTRACT:
                return True
            if node.op in (Op.LINEAR, Op.ADD) or (node.op is Op.NONLINEAR and node.name != "mul"):
                stack.extend(node.parents)
        return False

    def _is_on_stream(self, total: int) -> bool:
        """Return whether the network works on a sum next, which modulates nothing."""
        seen, stack, ends = {total}, [total], not self.below[total]
        while stack:
            current = stack.pop()
            for child in self.below[current]:
                node = self.graph.nodes[child]
                if self._modulates(total, current, node):
                    return False
                ends = ends or node.op in (Op.NORM, Op.WEIGHT)
                passes = node.op in (Op.LINEAR, Op.ADD) or self._masks(current, node)
                if passes and child not in seen:
                    seen.add(child)
                    stack.append(child)
                    ends = ends or not self.below[child]
        return ends

    def _masks(self, signal: int, product: Node) -> bool:
        """Return whether a product is one with something that no weight or norm has made."""
        others = [parent for parent in product.parents if parent != signal]
        return (
            product.name == "mul"
            and bool(others)
            and not any(
                self.graph.nodes[node].op in (Op.NORM, Op.WEIGHT)
                for node in self._ancestors(others[0])
            )
        )

    def _modulates(self, total: int, factor: int, product: Node) -> bool:
        """Return whether a sum is a factor of a signal that has been worked on already."""
        others = [parent for parent in product.parents if parent != factor]
        if product.name != "mul" or product.op is not Op.NONLINEAR or not others:
            return False
        independent = self._ancestors(others[0]) - self._ancestors(total) - self._descendants(total)
        return any(self.graph.nodes[node].op in (Op.NORM, Op.WEIGHT) for node in independent)

    def _ancestors(self, node: int) -> set[int]:
        return _reached(node, lambda current: self.graph.nodes[current].parents)

    def _descendants(self, node: int) -> set[int]:
        return _reached(node, lambda current: self.below[current])

    def _joins_scores(self, token: int | None) -> bool:
        """Return whether a parameter is joined to attention scores: a sink, and no token."""
        if token is None:
            return False
        return any(
            self._is_on_scores(parent)
            for child in self.below[token]
            if self.graph.nodes[child].name == "cat"
            for parent in self.graph.nodes[child].parents
        )

    def _is_logit(self, name: str) -> bool:
        """Return whether a number is compared with a log-sum of exponents: an attention sink."""
        parents = (parent for node in self._sums(name) for parent in self.graph.nodes[node].parents)
        return any(self.graph.nodes[parent].name == "logsumexp" for parent in parents)


def _reached(start: int, step: Callable[[int], Iterable[int]]) -> set[int]:
    found, stack = {start}, [start]
    while stack:
        for other in step(stack.pop()):
            if other not in found:
                found.add(other)
                stack.append(other)
    return found


def _sides(parameter: nn.Parameter) -> list[int]:
    return [size for size in parameter.shape if size > 1]
