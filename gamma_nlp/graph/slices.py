"""What an operation makes of a concatenation; see :mod:`gamma_nlp.graph.joins`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gamma_nlp.graph import operations
from gamma_nlp.graph.call import Call
from gamma_nlp.graph.joins import Join, Part, Place, between, concatenated, moved, reshaped
from gamma_nlp.graph.nodes import Graph, Op
from gamma_nlp.graph.values import Value

_RESHAPES = frozenset(["view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten"])
_SPLITS = frozenset(["split", "split_with_sizes", "unsafe_split", "chunk", "unsafe_chunk"])


class Slices:
    """Tells what the outputs of an operation on concatenations are made of.

    Args:
        graph: The graph that nodes of parts are looked up in.
        add: Adds a node.
    """

    def __init__(self, graph: Graph, add: Callable[[Op, str, Sequence[int]], int]) -> None:
        self._graph, self._add = graph, add

    def of(self, call: Call, result: Value, choices: Sequence[int]) -> list[Part | None]:
        """Return the part that each output is; ``None`` for what is no concatenation.

        Args:
            call: The operation.
            result: What its outputs are as a whole.
            choices: The nodes of the indices and masks among its operands.
        """
        nothing: list[Part | None] = [None] * len(call.outputs)
        if result.node is None:
            return nothing
        if call.name in ("cat", "stack"):
            return [_part(result.node, self._concatenated(call))]
        places = [i for i, value in enumerate(call.values) if value.node is not None]
        if call.name == "copy" and len(call.tensors) > 1:  # the second over the first
            places = [1] if call.tensors[0].shape == call.tensors[1].shape else []
        if len(places) != 1:
            return nothing
        tensor, join = call.tensors[places[0]], call.values[places[0]].join
        if join is None or not join.fits(tensor.shape):
            return nothing
        cut = self._cut(call, tensor, Part(call.values[places[0]].node, join))
        if cut is not None:
            return [*cut]
        whole = self._whole(call, tensor, join, places[0], result.node, choices)
        return [_part(result.node, whole), *nothing[1:]]

    def _concatenated(self, call: Call) -> Join | None:
        shapes: list[Sequence[int]] = [tensor.shape for tensor in call.tensors]
        parts = [Part(value.node, value.join) for value in call.values]
        # Long ago an empty vector could be joined to anything.
        kept = [i for i, shape in enumerate(shapes) if tuple(shape) != (0,)]
        shapes, parts = [shapes[i] for i in kept], [parts[i] for i in kept]
        dims = max(len(shape) for shape in shapes) + (call.name == "stack") if shapes else 0
        dim = (call.args[1] if len(call.args) > 1 else 0) % max(dims, 1)
        if call.name == "stack":
            shapes = [(*shape[:dim], 1, *shape[dim:]) for shape in shapes]
            parts = [_placed(part, lambda d: d + (d >= dim)) for part in parts]
        return concatenated(shapes, parts, dim)

    def _cut(self, call: Call, tensor: torch.Tensor, part: Part) -> list[Part] | None:
        """Return what an operation takes between two positions along one dimension."""
        args, dims = call.args, tensor.dim()

        def piece(dim: int, start: int, end: int) -> Part:
            return between(part, dim, start, end, lambda n: self._add(Op.LINEAR, "cat", n))

        if call.name == "slice":
            _, along, start, end, step = (*args, *(None,) * 5)[:5]
            dim = (along or 0) % dims
            if step in (None, 1):
                first, last, _ = slice(start, end).indices(tensor.shape[dim])
                return [piece(dim, first, last)] if first < last else None
        elif call.name in ("select", "unbind"):
            dim = (args[1] if len(args) > 1 else 0) % dims
            single = call.name == "select"
            positions = [args[2] % tensor.shape[dim]] if single else range(tensor.shape[dim])
            shift: Place = lambda d: None if d == dim else d - (d > dim)  # noqa: E731
            return [_placed(piece(dim, at, at + 1), shift) for at in positions]
        elif call.name in _SPLITS:
            dim = (args[2] if len(args) > 2 else 0) % dims
            found, start = [], 0
            for output in call.outputs:
                found.append(piece(dim, start, start + output.shape[dim]))
                start += output.shape[dim]
            return found
        return None

    def _whole(
        self,
        call: Call,
        tensor: torch.Tensor,
        join: Join,
        position: int,
        node: int,
        choices: Sequence[int],
    ) -> Join | None:
        """Return the concatenation that an operation leaves one."""
        before, after = tuple(tensor.shape), tuple(call.outputs[0].shape)
        if call.name in _RESHAPES:
            return reshaped(join, before, after)
        place = _place(call, tensor, position)
        if place is None:
            return None
        same = call.values[position].node == node
        found = moved(join, place, None if same else self._each(call.name, node, choices))
        return found if found is not None and found.fits(after) else None

    def _each(self, name: str, whole: int, choices: Sequence[int]) -> Callable[[int], int]:
        """Return what adds to each part the node that an operation has added to the whole."""
        entry = self._graph.nodes[whole]
        if entry.name == "choose":
            entry = self._graph.nodes[entry.parents[0]]

        def new(part: int) -> int:
            made = self._add(entry.op, name, [part])
            return self._add(Op.LINEAR, "choose", [made, *choices]) if choices else made

        return new


def _place(call: Call, tensor: torch.Tensor, position: int) -> Place | None:
    """Return where an operation leaves each dimension, if parts stay apart along it."""
    args, dims, after = call.args, tensor.dim(), call.outputs[0].shape
    learned = any(value.expr is not None for value in call.values)
    if call.name == "copy" or (
        tensor.shape == after
        and not learned
        and (call.kernel.pointwise or call.name in operations.CASTS)
    ):
        return lambda d: d
    if position != 0 or learned:
        return None
    if call.name in ("expand", "repeat"):
        return lambda d: d + len(after) - dims
    if call.name == "unsqueeze":
        new = args[1] % (dims + 1)
        return lambda d: d + (d >= new)
    if call.name == "squeeze":
        gone = [d for d in range(dims) if tensor.shape[d] == 1]
        if len(args) > 1:
            named = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
            gone = [d for d in gone if d in {n % dims for n in named}]
        return lambda d: None if d in gone else d - sum(g < d for g in gone)
    if call.name in ("transpose", "permute", "t"):
        order = list(range(dims))
        if call.name == "permute":
            order = [d % dims for d in args[1]]
        else:
            one, two = (args[1] % dims, args[2] % dims) if len(args) > 2 else (0, dims - 1)
            order[one], order[two] = two, one
        return order.index
    if call.name in ("gather", "index_select", "flip", "roll", "sort", "topk", "cumsum"):
        return _unless(call, dims)
    return _indexed(call, dims) if call.name == "index" else None


def _unless(call: Call, dims: int) -> Place | None:
    """Return the places behind an operation that mixes positions along some dimensions."""
    which = (*call.args, -1)[2 if call.name in ("roll", "topk") else 1]
    mixed = {d % dims for d in (which if isinstance(which, (list, tuple)) else [which])}
    return lambda d: None if d in mixed else d


def _indexed(call: Call, dims: int) -> Place | None:
    """Return the places behind ``x[..., index, ...]``: neighbouring indices become one block."""
    indices = list(call.args[1])
    taken: list[int] = []
    at, first, last = 0, -1, -1
    for place, index in enumerate(indices):
        if index is None:
            at += 1
            continue
        if first >= 0 and place != last + 1:
            return None
        first, last = (place if first < 0 else first), place
        masks = index.dtype in (torch.bool, torch.uint8)
        width = index.dim() if masks else 1
        taken += range(at, at + width)
        at += width
    if not taken:
        return None
    made = call.outputs[0].dim() - (dims - len(taken))
    return lambda d: None if d in taken else d if d < taken[0] else d - len(taken) + made


def _part(node: int | None, join: Join | None) -> Part | None:
    return None if join is None else Part(node, join)


def _placed(part: Part, place: Place) -> Part:
    return part if part.join is None else Part(part.node, moved(part.join, place))
