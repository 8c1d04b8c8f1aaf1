"""Operations without a gain, put together into few boxes with short names."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from gamma_nlp.draw.blocks import common
from gamma_nlp.draw.stream import (
    Block,
    Box,
    BoxKind,
    Dot,
    Element,
    Split,
    Stream,
    Tangle,
    children,
    walk,
)
from gamma_nlp.graph.nodes import Graph, Op

_MOST_LETTERS = 22
_UNNAMED = {BoxKind.INPUT: "input", BoxKind.WEIGHT: "weight", BoxKind.ATTENTION: "product"}
_MERGED = (BoxKind.WEIGHT, BoxKind.ATTENTION, BoxKind.PLAIN)


class Compact:
    """Makes the boxes of a graph.

    Args:
        graph: The graph of one forward pass.
        linked: The nodes where links start and end, which must be seen.
    """

    def __init__(self, graph: Graph, linked: Collection[int] = ()) -> None:
        self._nodes, self._linked = graph.nodes, frozenset(linked)

    def box(self, nodes: Sequence[int]) -> Box:
        """Return the box that operations without a gain are drawn as."""
        ops = [self._nodes[node].op for node in nodes]
        weights = [n for n in nodes if self._nodes[n].op is Op.WEIGHT]
        if Op.SOURCE in ops:
            kind = BoxKind.INPUT
        elif Op.SOFTMAX in ops and ops.count(Op.CONTRACT) > 1:
            kind = BoxKind.ATTENTION
        elif weights:
            kind = BoxKind.WEIGHT
        elif Op.CONTRACT in ops or Op.SOFTMAX in ops:
            kind = BoxKind.ATTENTION
        else:
            kind = BoxKind.PLAIN
        seen = nodes if kind is BoxKind.ATTENTION else weights or nodes
        modules = tuple(dict.fromkeys(self._nodes[node].module for node in seen))
        label = name_of(modules) if kind is not BoxKind.PLAIN else ""
        return Box(
            nodes=tuple(nodes),
            kind=kind,
            label=label or _UNNAMED.get(kind, ""),
            modules=modules,
            weight=bool(weights) or Op.CHOICE in ops,
        )

    def stream(self, stream: Stream, cut: bool = False) -> Stream:
        """Return a stream with few boxes: runs of operations without a gain are one.

        Args:
            stream: The stream.
            cut: Whether every way from its end crosses a weight.
        """
        found: list[Element] = []
        run: list[Element] = []
        for place, element in enumerate(stream):
            if self._is_plain(element) or self._is_attention(element, stream[place + 1 :]):
                run.append(element)
                continue
            later = itertools.takewhile(lambda e: not isinstance(e, Block), stream[place:])
            found += self._together(run, cut or self._cuts(later))
            drawn, after = self._element(element, cut or self._cuts(stream[place + 1 :]))
            found.append(drawn)
            run = [self.box(after)] if after else []
        return (*found, *self._together(run, cut))

    def _together(self, run: Sequence[Element], cut: bool) -> Stream:
        """Return one box for operations without a gain.

        A way around their weights stays visible: a gate made of the signal that it gates.
        """
        if cut or not any(self._has_weight((element,)) for element in run) or self._cuts(run):
            return self._seen(_nodes_of(run))
        found: list[Element] = []
        nodes: list[int] = []
        for element in run:
            if isinstance(element, Split) and self._has_weight((element,)):
                found += [*self._seen(nodes), self._element(element, cut)[0]]
                nodes = []
            else:
                nodes += _nodes_of((element,))
        return (*found, *self._seen(nodes))

    def _seen(self, nodes: Sequence[int]) -> Stream:
        box = self.box(nodes)
        hidden = box.kind is BoxKind.PLAIN and self._linked.isdisjoint(nodes)
        return () if hidden else (box,)

    def _has_weight(self, stream: Iterable[Element]) -> bool:
        return any(self._nodes[node].op is Op.WEIGHT for node in _nodes_of(stream))

    def _cuts(self, stream: Iterable[Element]) -> bool:
        """Return whether every way through some elements crosses a weight."""
        return any(
            all(self._cuts(path) for path in element.paths)
            if isinstance(element, Split)
            else self._has_weight((element,))
            for element in stream
        )

    def _element(self, element: Element, cut: bool) -> tuple[Element, list[int]]:
        """Return an element with few boxes, and operations that now come after it."""
        after: list[int] = []
        match element:
            case Block():
                apart = (path for branch in element.branches for path in self._summands(branch))
                branches = tuple(self.stream(branch) for branch in apart)
                return replace(element, skip=self.stream(element.skip), branches=branches), after
            case Split():
                paths = tuple(p for path in element.paths for p in self._hoisted(path, after))
                return Split(paths=tuple(self.stream(path, cut) for path in paths)), after
            case Tangle():
                return self._tangle(element), after
            case _:
                return element, after

    def _summands(self, branch: Stream) -> tuple[Stream, ...]:
        """Return the branches of which a branch is the sum: x + (f(x) + g(x))."""
        sums = branch[1:] and all(
            isinstance(e, Box) and all(self._nodes[n].op is Op.ADD for n in e.nodes)
            for e in branch[1:]
        )
        if sums and isinstance(branch[0], Split) and all(branch[0].paths):
            return branch[0].paths
        return (branch,)

    def _hoisted(self, path: Stream, after: list[int]) -> tuple[Stream, ...]:
        """Return a path, or those that it begins with where no weight follows: queries, keys."""
        if path and isinstance(path[0], Split) and all(isinstance(e, Box) for e in path[1:]):
            rest = [node for e in path[1:] if isinstance(e, Box) for node in e.nodes]
            if not any(self._nodes[node].op is Op.WEIGHT for node in rest):
                after += rest
                return tuple(p for inner in path[0].paths for p in self._hoisted(inner, after))
        return (path,)

    def _is_attention(self, element: Element, after: Stream) -> bool:
        """Return whether paths without a gain meet in a product, as scores and values do."""
        meets = after and isinstance(after[0], Box) and after[0].kind is BoxKind.ATTENTION
        return bool(meets) and isinstance(element, Split) and _without_gains(element)

    def _is_plain(self, element: Element) -> bool:
        """Return whether an element need not be seen by itself: attention, a gated product."""
        if isinstance(element, Box):
            return element.kind in _MERGED
        if not isinstance(element, (Split, Tangle)):
            return False
        if not _without_gains(element):
            return False
        kinds = [self.box(_nodes_of(path)).kind for path in children(element)]
        parallel = len(kinds) > 1 and BoxKind.ATTENTION in kinds and BoxKind.WEIGHT in kinds
        return not parallel or isinstance(element, Tangle)

    def _tangle(self, tangle: Tangle) -> Tangle:
        """Leave out what need not be seen, and connect what it connected."""
        elements = [self.stream((element,)) for element in tangle.elements]
        edges = list(dict.fromkeys(tangle.edges))
        for place, inner in enumerate(elements):
            if not inner:
                before = [a for a, b in edges if b == place]
                after = [b for a, b in edges if a == place]
                edges = [edge for edge in edges if place not in edge]
                edges = list(dict.fromkeys([*edges, *((a, b) for a in before for b in after)]))
        kept = [place for place, inner in enumerate(elements) if inner]
        new = {place: i for i, place in enumerate(kept)} | {-1: -1, len(elements): len(kept)}
        return Tangle(
            elements=tuple(elements[place][0] for place in kept),
            edges=tuple(sorted((new[a], new[b]) for a, b in edges)),
        )


def _without_gains(element: Element) -> bool:
    return not any(isinstance(e, (Dot, Block)) for e in walk((element,)))


def _nodes_of(stream: Iterable[Element]) -> list[int]:
    return [node for e in walk(tuple(stream)) if isinstance(e, Box) for node in e.nodes]


def name_of(modules: Iterable[str]) -> str:
    """Return a short name for modules: what they have in common, else their own last names.

    >>> name_of(["h.0.mlp.c_fc", "h.0.mlp.c_proj"])
    'mlp'
    >>> name_of(["layer.0.intermediate.dense", "layer.0.output.dense"])
    'intermediate · output'
    """
    known = [module for module in modules if module]
    if not known:
        return ""
    shared = [part for part in common(known).split(".") if part]
    if shared and not shared[-1].isdecimal():
        return cut(shared[-1])
    if len(set(known)) == 1:
        named = [part for part in shared if not part.isdecimal()]
        return cut(f"{named[-1]}.{shared[-1]}" if named else shared[-1])
    rest = [module.split(".")[len(shared) :] for module in known]
    heads = dict.fromkeys(
        next((part for part in parts if not part.isdecimal()), ".".join(parts)) for parts in rest
    )
    return cut(" · ".join(head for head in heads if head))


def cut(text: str, most: int = _MOST_LETTERS) -> str:
    """Return a text that fits into a box."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def label_of(parameter: str) -> str:
    """Return what to write beside a gain: the last name of its module that says something.

    >>> label_of("h.0.ln_1.weight"), label_of("layer.0.output.LayerNorm.weight")
    ('ln_1', 'output.LayerNorm')
    """
    parts = parameter.removesuffix(".weight").split(".")
    last = parts[-1]
    if last.isdecimal() or last.lower() in _SAY_LITTLE:
        before = [part for part in parts[:-1] if not part.isdecimal() and part not in _LISTS]
        if before:
            last = f"{before[-1]}.{last}"
    return cut(last, 26)


_LISTS = {"layer", "layers", "block", "blocks", "h", "encoder", "decoder", "model"}
_SAY_LITTLE = {"layernorm", "layer_norm", "norm", "weight", "gamma", "scale", "ln", "bn", "g"}
