"""Record one forward pass as a :class:`~gamma_nlp.graph.nodes.Graph`.

Operations are seen where PyTorch dispatches them, below modules, autograd and Python wrappers.
Frozen and quantised weights, custom autograd functions, checkpointed blocks and towers that run
under ``no_grad`` all look the same from there. This module knows which tensor holds what;
:mod:`gamma_nlp.graph.interpreter` knows what the operations mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from gamma_nlp.errors import GammaError
from gamma_nlp.graph import messages, operations, parts
from gamma_nlp.graph.affine import Expr, combine
from gamma_nlp.graph.escapes import Outside
from gamma_nlp.graph.interpreter import Interpreter, Operand
from gamma_nlp.graph.nodes import Graph, Op


@dataclass
class _Value:
    """What is known of a tensor.

    Attributes:
        node: The node whose output it is, if it is an activation.
        choice: The node that stands for it, if it holds indices or masks made from activations.
        expr: What it is of parameters, if it is made of them alone.
        from_input: Whether it depends on the model's inputs.
        from_signal: Whether it depends on an activation.
        unwritten: Whether it is memory that nothing has been written to yet.
    """

    node: int | None = None
    choice: int | None = None
    expr: Expr | None = None
    from_input: bool = False
    from_signal: bool = False
    unwritten: bool = False


class Recorder(TorchDispatchMode):
    """A dispatch mode that fills :attr:`graph` while a model runs.

    Args:
        parameters: Tensors that count as parameters, by name.
        inputs: The tensors that the model is called with.
        tokens: Names of parameters that are used as tokens, such as latent queries; they count as
            activations.
        where: Returns the name of the module that is running.

    Attributes:
        graph: What was recorded.
        tokens: The parameters used as tokens, those that this pass found included.
        undo: Protected tensors that were overwritten, each with a copy of what it held.
    """

    supports_higher_order_operators = True  # so that they come here: all but attention are refused

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        inputs: Iterable[torch.Tensor],
        tokens: Iterable[str] = (),
        where: Callable[[], str] = lambda: "",
    ) -> None:
        super().__init__()
        self.graph = Graph()
        self.tokens = set(tokens)
        self.undo: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._where = where
        self._interpreter = Interpreter(self.graph, where)
        self._values = WeakTensorKeyDictionary()
        self._aliases: dict[int, list[TensorWeakRef]] = {}
        self._writes: dict[Any, tuple[int, ...]] = {}
        self._protected: set[int] = set()
        self._outside = Outside()
        for name, tensor in parameters.items():
            if tensor not in self._values:
                slope = 1.0 if _carries_signal(tensor) else None  # integers are no gains
                expr = Expr(frozenset([name]), slope, parts=parts.parameter(name))
                value = _Value(expr=expr)
                if name in self.tokens:
                    self.graph.touched.add(name)
                    value = _Value(node=self._interpreter.node(Op.SOURCE, "parameter"))
                    self.graph.tokens[name] = value.node
                self._set(tensor, value)
                self._protected.add(id(tensor))
        for tensor in inputs:
            value = _Value(from_input=True)
            if _carries_signal(tensor):
                value.node = self._interpreter.node(Op.SOURCE, "input")
            self._set(tensor, value)

    def protect(self, tensors: Iterable[torch.Tensor]) -> None:
        """Keep a copy of the model's own tensors if an operation is about to overwrite them."""
        own = list(tensors)
        self._protected.update(id(tensor) for tensor in own)
        self._outside.own(own)

    def leave(self, tensor: torch.Tensor, method: str) -> None:
        """Note that the values of a tensor are read, or its memory lent, outside PyTorch."""
        value = self._get(tensor)
        if value.expr is not None:
            self.graph.touched |= value.expr.params
        if value.node is not None:
            self._outside.leave(self._where(), method)
        elif value.expr is None:
            self._outside.lend(tensor)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = _name(func)
        if isinstance(func, HigherOrderOperator) and not operations.is_attention(name):
            raise GammaError(messages.higher_order(self._where(), name))
        if func is torch.ops.aten._local_scalar_dense.default and self._is_meta_flag(args[0]):
            return True
        written = _tensors([args[i] for i in self._written(func) if i < len(args)])
        written += _tensors(kwargs.get("out", ()))
        for tensor in written:
            if id(tensor) in self._protected:
                self._protected.discard(id(tensor))
                self.undo.append((tensor, tensor.detach().clone()))
        result = func(*args, **kwargs)
        self._record(name, args, _tensors((args, kwargs)), _tensors(result), written)
        return result

    def _record(
        self,
        name: str,
        args: tuple[Any, ...],
        tensors: list[torch.Tensor],
        outputs: list[torch.Tensor],
        written: list[torch.Tensor],
    ) -> None:
        values = [self._get(tensor) for tensor in tensors]
        fresh = name in operations.FRESH or (
            name in operations.MOVES and bool(values) and values[0].unwritten and not written
        )
        if not fresh:
            self._refuse_unseen(name, tensors, values, written)
        for expr in (v.expr for v in values if v.expr is not None):
            self.graph.touched |= expr.params
        from_signal = any(v.node is not None or v.from_signal for v in values)
        from_input = from_signal or any(v.from_input for v in values)
        discrete = _Value(from_input=from_input, from_signal=from_signal)
        choices = list(dict.fromkeys(v.choice for v in values if v.choice is not None))
        if name in operations.CONSTANTS:
            result = discrete = _Value()
        elif fresh:
            result = _Value(unwritten=any(t.numel() > 0 for t in outputs))
        elif any(map(_carries_signal, outputs)):
            result = self._signal(name, args, tensors, values, outputs, from_input)
            if choices and result.node is not None:
                node = self._interpreter.node(Op.LINEAR, "choose", (result.node, *choices))
                result = replace(result, node=node)
        else:
            result = discrete
            if not from_input:  # a packed matrix that is about to be unpacked
                discrete.expr = self._made(name, args, tensors, values, outputs)
        if name not in operations.CONSTANTS and not all(map(_carries_signal, outputs)):
            discrete.choice = self._choice(name, values, choices)
        for tensor in outputs:
            self._set(
                tensor, result if _carries_signal(tensor) else replace(discrete, expr=result.expr)
            )
        for tensor in written:
            self._write(tensor, result)

    def _choice(self, name: str, values: list[_Value], choices: list[int]) -> int | None:
        nodes = [v.node for v in values if v.node is not None]
        if not nodes and len(choices) < 2:
            return choices[0] if choices else None
        return self._interpreter.node(Op.CHOICE, name, [*nodes, *choices])

    def _signal(
        self,
        name: str,
        args: tuple[Any, ...],
        tensors: list[torch.Tensor],
        values: list[_Value],
        outputs: list[torch.Tensor],
        from_input: bool,
    ) -> _Value:
        table = values[0].expr if values else None
        if table is not None and (
            name in operations.LOOKUPS
            or (name in operations.INDEXING and any(v.from_input for v in values[1:]))
        ):
            # What the signal picks from a stack of matrices is an expert.
            stack = any(v.from_signal for v in values[1:]) and _sides(tensors[0]) > 2
            (self.graph.weights if stack else self.graph.embeddings).update(table.contracted)
            return _Value(node=self._interpreter.node(Op.SOURCE, name))
        if any(v.node is not None for v in values):
            if name in ("cat", "stack"):
                joined = {row for v in values for row in _rows(v)}
                # Positions may be added to a class token too, and do not become one.
                self.tokens |= joined - self.graph.weights - self.graph.sums.keys()
            node = self._interpret(name, tensors, values, outputs)
            self._note_use(name, tensors, values, node, outputs[0])
            return _Value(node=node)
        if from_input and not any(v.expr for v in values):
            return _Value(node=self._interpreter.node(Op.SOURCE, name))
        rows = self._normalised_rows(name, values)
        self.tokens |= rows
        if rows:
            return _Value(node=self._interpreter.node(Op.SOURCE, name))  # until the next run
        if operations.is_norm(name) and table is None:
            # Nothing is left of a constant but the norm's bias.
            self._leave_idle(p for v in values[1:2] if v.expr for p in v.expr.params)
            values = [replace(v, expr=None) if i == 1 else v for i, v in enumerate(values)]
        elif name in operations.NORMALISE_TOKENS:  # of what weights have made of a constant
            source = _Value(node=self._interpreter.node(Op.SOURCE, name))
            return _Value(node=self._interpret(name, tensors, [source, *values[1:]], outputs))
        elif table and name in operations.INDEXING and _repeats_rows(tensors[0], outputs[0]):
            self.graph.embeddings |= table.added
        return _Value(expr=self._made(name, args, tensors, values, outputs))

    def _normalised_rows(self, name: str, values: list[_Value]) -> frozenset[str]:
        """Return the parameters that an operation on parameters alone normalises as tokens."""
        if name in operations.NORMALISE_TOKENS:
            return _rows(values[0])
        if name in operations.PRODUCTS:
            return parts.normalised([v.expr.parts if v.expr else None for v in values])
        return frozenset()

    def _interpret(
        self,
        name: str,
        tensors: list[torch.Tensor],
        values: list[_Value],
        outputs: list[torch.Tensor],
    ) -> int:
        operands = [
            Operand(node=v.node, expr=v.expr, shape=tuple(t.shape))
            for t, v in zip(tensors, values, strict=True)
        ]
        return self._interpreter.interpret(name, operands, tuple(outputs[0].shape))

    def _note_use(
        self,
        name: str,
        tensors: list[torch.Tensor],
        values: list[_Value],
        node: int,
        output: torch.Tensor,
    ) -> None:
        """Note what an operation says of parameters that its node does not hold."""
        exprs = [(t, v.expr) for t, v in zip(tensors, values, strict=True) if v.expr is not None]
        if operations.is_attention(name):
            exprs = exprs[-1:] if len(values) > 3 and values[3].expr is not None else []
            self.graph.biases.update(*(expr.added for _, expr in exprs))
        if operations.is_attention(name) or name in operations.SUMS:
            for _, expr in exprs:
                for param in expr.added:
                    self.graph.sums.setdefault(param, set()).add(node)
        elif name in operations.FILLS:
            self._note_tokens(row for v in values for row in _rows(v))
        elif name == "mul" and output.is_complex():
            # On a spectrum, a product is a convolution.
            signals = [v.node for v in values if v.node is not None]
            if any(map(self._is_spectrum, signals)):
                matrices = [expr for tensor, expr in exprs if _sides(tensor) > 1]
                self.graph.weights.update(*(expr.contracted for expr in matrices))

    def _is_spectrum(self, node: int) -> bool:
        while True:
            entry = self.graph.nodes[node]
            if entry.name.startswith("_fft"):
                return True
            if entry.op is not Op.LINEAR or not entry.parents:
                return False
            node = entry.parents[0]

    def _note_tokens(self, names: Iterable[str]) -> None:
        for name in names:
            self.graph.tokens.setdefault(name, None)

    def _leave_idle(self, gains: Iterable[str]) -> None:
        """Note gains that a norm multiplies by nothing; another use touches them again."""
        gains = set(gains)
        self.graph.idle |= gains
        self.graph.touched -= gains

    def _made(
        self,
        name: str,
        args: tuple[Any, ...],
        tensors: list[torch.Tensor],
        values: list[_Value],
        outputs: list[torch.Tensor],
    ) -> Expr | None:
        """Return what an operation on parameters and constants gives, and note their roles."""
        exprs = [v.expr for v in values]
        expr = combine(name, args, tensors, exprs)
        if expr is None or not outputs:
            return expr
        if expr.slope == 0:  # a norm of zeros, written out, times its gain
            self._leave_idle(expr.params)
            return None
        made = parts.make(name, tensors, [e.parts if e else None for e in exprs], outputs[0])
        self.graph.weights |= made.weights
        self.graph.biases |= made.biases
        self._note_tokens(n for n, p in made.parts.of.items() if p is parts.Part.PROJECTED)
        return replace(expr, parts=made.parts)

    # Which tensor holds what ------------------------------------------------------------------

    def _get(self, tensor: torch.Tensor) -> _Value:
        found = self._values.get(tensor)
        return found or self._unannounced(tensor) or _Value()

    def _unannounced(self, tensor: torch.Tensor) -> _Value | None:
        """Return what is known of the same memory: no operation makes ``tensor.data``."""
        key = _storage(tensor)
        for reference in self._aliases.get(key, []) if key is not None else []:
            other = reference()
            if other is not None and _same_memory(other, tensor):
                return self._values[other]
        return None

    def _set(self, tensor: torch.Tensor, value: _Value) -> None:
        if tensor not in self._values:
            key = _storage(tensor)
            if key is not None:
                self._aliases.setdefault(key, []).append(TensorWeakRef(tensor))
        self._values[tensor] = value

    def _write(self, tensor: torch.Tensor, value: _Value) -> None:
        """Note that a tensor was overwritten, and with it its views and what it is a view of."""
        self._set(tensor, value)
        key = _storage(tensor)
        for reference in self._aliases.get(key, []) if key is not None else []:
            other = reference()
            if other is None or other is tensor:
                continue
            before = self._get(other)
            if value.node is None:
                after = before if before.node is not None else value
            elif before.node is None or other.numel() == tensor.numel():
                after = value
            else:
                mixed = self._interpreter.node(Op.LINEAR, "write", (before.node, value.node))
                after = _Value(node=mixed)
            self._set(other, after)

    def _written(self, func: Any) -> tuple[int, ...]:
        """Return the positions of the arguments that an operation overwrites."""
        if func not in self._writes:
            schema = getattr(func, "_schema", None)
            self._writes[func] = tuple(
                position
                for position, argument in enumerate(schema.arguments if schema else ())
                if not argument.kwarg_only
                and argument.alias_info is not None
                and argument.alias_info.is_write
            )
        return self._writes[func]

    def _is_meta_flag(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor without values is a yes-or-no question about positions or masks.

        Models ask whether a faster way applies (no padding, no packed sequences); answer yes.
        """
        value = self._get(tensor)
        return tensor.is_meta and tensor.dtype is torch.bool and not value.from_signal

    def _refuse_unseen(
        self,
        name: str,
        tensors: list[torch.Tensor],
        values: list[_Value],
        written: list[torch.Tensor],
    ) -> None:
        """Refuse to read memory that something other than an operation may have filled."""
        left = self._outside.exit
        for tensor, value in zip(tensors, values, strict=True):
            if value.unwritten and all(tensor is not other for other in written):
                raise GammaError(messages.hidden_kernel(self._where(), tensor.shape, name))
            constant = value.node is None and value.expr is None
            if left and constant and self._outside.may_hold_signal(tensor, tensor in self._values):
                raise GammaError(messages.left_torch(*left))


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _carries_signal(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _sides(tensor: torch.Tensor) -> int:
    return sum(size > 1 for size in tensor.shape)


def _repeats_rows(table: torch.Tensor, picked: torch.Tensor) -> bool:
    return _sides(table) == 2 and picked.numel() > table.numel()


def _rows(value: _Value) -> frozenset[str]:
    return value.expr.parts.rows if value.expr and value.expr.parts else frozenset()


def _name(func: Any) -> str:
    return str(getattr(func, "overloadpacket", func).__name__).rstrip("_")


def _same_memory(one: torch.Tensor, two: torch.Tensor) -> bool:
    return (one.shape, one.stride(), one.storage_offset(), one.dtype) == (
        two.shape, two.stride(), two.storage_offset(), two.dtype,
    )  # fmt: skip


def _storage(tensor: torch.Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError, AttributeError):
        return None  # sparse and wrapped tensors have none
