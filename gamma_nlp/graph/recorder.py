"""Record one forward pass as a :class:`~gamma_nlp.graph.nodes.Graph`.

Operations are seen where PyTorch dispatches them, below modules, autograd and Python wrappers.
Frozen and quantised weights, custom autograd functions, checkpointed blocks and towers that run
under ``no_grad`` all look the same from there. This module knows which tensor holds what;
:mod:`gamma_nlp.graph.interpreter` knows what the operations mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from gamma_nlp.graph.gradients import innermost
from gamma_nlp.graph.held import HELD, Kernel, is_matrix, is_quantised
from gamma_nlp.graph.interpreter import Interpreter, Operand
from gamma_nlp.graph.joins import Join, cut, joined
from gamma_nlp.graph.memory import Memory, inner_tensors, memory_of, same_memory
from gamma_nlp.graph.nodes import Graph, Op
from gamma_nlp.graph.reached import tensors_in


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
        held: Whether it is a constant matrix that the model holds (a buffer, a plain attribute), or
            is made of one. Contracted with the signal it is a weight; a matrix that the pass makes
            of shapes (a mean, an interpolation) is none.
        noise: Whether it was drawn in the pass. It is a constant, until a weight is applied to it.
        statistic: Whether it is a constant made of the model's own vectors, such as a running
            variance, and whether a root of one: ``None``, ``"plain"`` or ``"root"``.
        join: What was concatenated, if it is a concatenation.
    """

    node: int | None = None
    choice: int | None = None
    expr: Expr | None = None
    from_input: bool = False
    from_signal: bool = False
    unwritten: bool = False
    held: bool = False
    noise: bool = False
    statistic: str | None = None
    join: Join | None = None


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
        parameters: The names of all parameters.
        initialised: Whether the pass wrote to a parameter that is trained.
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
        self.parameters = frozenset(parameters)
        self.initialised = False
        self._where = where
        self._interpreter = Interpreter(self.graph, where)
        self._values = WeakTensorKeyDictionary()
        self._aliases: dict[int, list[TensorWeakRef]] = {}
        self._writes: dict[Any, tuple[int, ...]] = {}
        self._memory = Memory()
        self._trained: set[int | None] = set()
        self._unseen = False
        self._outside = Outside()
        for name, tensor in parameters.items():
            if tensor not in self._values:
                number = tensor.is_floating_point() or tensor.is_complex()
                slope = 1.0 if number else None  # integers are no gains
                expr = Expr(frozenset([name]), slope, parts=parts.parameter(name))
                value = _Value(expr=expr)
                if name in self.tokens:
                    self.graph.touched.add(name)
                    value = _Value(node=self._interpreter.node(Op.SOURCE, "parameter"))
                    self.graph.tokens[name] = value.node
                self._set(tensor, value)
                if tensor.requires_grad and name not in self.tokens:
                    self._trained.add(memory_of(tensor))
        for name, tensor in parameters.items():
            for part in tensors_in(vars(tensor)):  # what a quantised matrix is made of
                if part not in self._values:
                    self._set(part, _Value(expr=Expr(frozenset([name]))))
        for tensor in inputs:
            value = _Value(from_input=True)
            if _carries_signal(tensor):
                value.node = self._interpreter.node(Op.SOURCE, "input")
            self._set(tensor, value)

    def own(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note which tensors the model has, parameters or not."""
        own = list(tensors)
        self._outside.own(own)
        for tensor in own:
            if tensor in self._values:
                continue
            matrix = tensor.dim() >= 2 and tensor.dtype is not torch.bool
            vector = _carries_signal(tensor) and tensor.numel() > 1
            self._set(tensor, _Value(held=matrix, statistic="plain" if vector else None))

    def undo(self) -> None:
        """Put back what the pass overwrote."""
        self._memory.undo()

    def record_whole(self, name: str, run: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        """Run a call unseen, and record it as one operation; see :mod:`.whole_calls`."""
        self._unseen = True
        try:
            result = run()
        finally:
            self._unseen = False
        kernel = Kernel(name=name)
        self._record(name, args, _tensors(args), _tensors(result), [], kernel)
        return result

    def take_gradients(
        self,
        run: Callable[[], Any],
        outputs: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor],
    ) -> Any:
        """Take gradients unseen; those with respect to activations are made of the outputs.

        Those with respect to parameters are replaced by zeros: after a step of training inside the
        pass, a parameter is still the same parameter.
        """
        self._unseen = True
        try:
            found = run()
            if not isinstance(found, tuple):
                return found
            wanted = [self._get(tensor) for tensor in inputs]
            found = tuple(
                torch.zeros_like(gradient) if value.expr is not None and gradient is not None
                else gradient
                for gradient, value in zip(found, wanted, strict=True)
            )  # fmt: skip
        finally:
            self._unseen = False
        nodes = [v.node for v in map(self._get, outputs) if v.node is not None]
        for gradient, value in zip(found, wanted, strict=True):
            if value.node is not None and gradient is not None:
                node = self._interpreter.node(Op.NONLINEAR, "gradient", nodes)
                self._set(innermost(gradient), _Value(node=node))
        return found

    def returned(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note what the model returns."""
        found = (self._get(tensor).node for tensor in tensors)
        self.graph.outputs.update(node for node in found if node is not None)

    def leave(self, tensor: torch.Tensor, method: str) -> None:
        """Note that the values of a tensor are read, or its memory lent, outside PyTorch."""
        value = self._get(tensor)
        if value.expr is not None:
            self.graph.touched |= value.expr.params
        if value.node is not None:
            self._outside.leave(self._where(), method)
        elif value.expr is None:
            self._outside.lend(tensor)
        if method in ("numpy", "__dlpack__"):  # what is made of it may be written to
            self._memory.keep([tensor])

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = operations.precise(_name(func), args, kwargs)
        if isinstance(func, HigherOrderOperator) and not operations.is_attention(name):
            raise GammaError(messages.higher_order(self._where(), name))
        if func is torch.ops.aten._local_scalar_dense.default and self._is_meta_flag(args[0]):
            return True
        written = _tensors([args[i] for i in self._written(func) if i < len(args)])
        written += _tensors(kwargs.get("out", ()))
        self._memory.keep(written)
        result = func(*args, **kwargs)
        if not self._unseen:
            leaves = tree_leaves((args, kwargs))
            operands = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
            outputs = _tensors(result)
            self._memory.made(operands, outputs)
            kernel = Kernel.of(func, name, leaves, kwargs.get("alpha", 1))
            self._record(name, args, operands, outputs, written, kernel)
        return result

    def _record(
        self,
        name: str,
        args: tuple[Any, ...],
        tensors: list[torch.Tensor],
        outputs: list[torch.Tensor],
        written: list[torch.Tensor],
        kernel: Kernel,
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
        active = any(v.node is not None for v in values)
        carries = [_carries_signal(t) or (active and is_quantised(t)) for t in outputs]
        if name in operations.CONSTANTS:
            result = discrete = _Value(noise=kernel.random)
        elif fresh:
            result = _Value(unwritten=any(t.numel() > 0 for t in outputs))
        elif any(carries):
            result = self._signal(name, args, tensors, values, outputs, from_input, kernel)
            if choices and result.node is not None:
                node = self._interpreter.follow("choose", (result.node, *choices))
                result = replace(result, node=node)
        else:
            result = discrete
            if not from_input:  # a packed matrix that is about to be unpacked
                discrete.expr = self._made(name, args, tensors, values, outputs, kernel)
                discrete.held = any(v.held for v in values)
        held = values[0].join if values else None
        slices = cut(name, args, held, outputs) if held else [None] * len(outputs)
        if name not in operations.CONSTANTS and not all(carries):
            discrete.choice = self._choice(name, values, choices)
        for tensor, carried, own in zip(outputs, carries, slices, strict=True):
            value = result if carried else replace(discrete, expr=result.expr)
            if own is not None and not choices:
                several = len(own.nodes) > 1
                value = replace(
                    value,
                    node=value.node if several else own.nodes[0],
                    join=own if several else None,
                )
            self._set(tensor, value)
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
        kernel: Kernel,
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
        weighs = name in operations.CONTRACTIONS and any(
            v.expr is not None and is_matrix(t) for t, v in zip(tensors, values, strict=True)
        )
        if weighs and all(v.node is None for v in values):
            values = [self._source(v) if v.noise else v for v in values]
        if any(v.node is not None for v in values):
            if kernel.packed:  # the matrix is in an object that is no tensor
                nodes = [v.node for v in values if v.node is not None]
                return _Value(node=self._interpreter.node(Op.WEIGHT, name, nodes))
            if name in ("cat", "stack"):
                with_signal = {row for v in values for row in _rows(v)}
                # Positions may be added to a class token too, and do not become one.
                self.tokens |= with_signal - self.graph.weights - self.graph.sums.keys()
            node = self._interpret(name, tensors, values, outputs, kernel)
            self._note_use(name, tensors, values, node, outputs[0])
            return _Value(node=node, join=joined(name, args, tensors, [v.node for v in values]))
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
            values = [source, *values[1:]]
            return _Value(node=self._interpret(name, tensors, values, outputs, kernel))
        elif table and name in operations.INDEXING and _repeats_rows(tensors[0], outputs[0]):
            self.graph.embeddings |= table.added
        expr = self._made(name, args, tensors, values, outputs, kernel)
        if expr is not None:
            return _Value(expr=expr)
        return _Value(
            held=any(v.held for v in values),
            noise=kernel.random or any(v.noise for v in values),
            statistic=_statistic(name, values),
        )

    def _normalised_rows(self, name: str, values: list[_Value]) -> frozenset[str]:
        """Return the parameters that an operation on parameters alone normalises as tokens."""
        if name in operations.NORMALISE_TOKENS:
            return _rows(values[0])
        known = [v.expr.parts if v.expr else None for v in values]
        if name in operations.PRODUCTS:
            return parts.normalised(known)
        if name in operations.CONTRACTIONS:
            return parts.read_as_rows(name, known)
        return frozenset()

    def _interpret(
        self,
        name: str,
        tensors: list[torch.Tensor],
        values: list[_Value],
        outputs: list[torch.Tensor],
        kernel: Kernel,
    ) -> int:
        operands = [
            Operand(
                node=v.node,
                expr=HELD if v.held and kernel.weighs(t, tensors[0]) else v.expr,
                shape=tuple(t.shape),
                root=v.statistic == "root",
            )
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
        kernel: Kernel,
    ) -> Expr | None:
        """Return what an operation on parameters and constants gives, and note their roles."""
        exprs = [v.expr for v in values]
        root = _statistic(name, values) == "root"
        expr = combine(name, args, tensors, exprs, alpha=kernel.alpha, root=root)
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

    def _source(self, value: _Value) -> _Value:
        return replace(value, node=self._interpreter.node(Op.SOURCE, "noise"), noise=False)

    # Which tensor holds what ------------------------------------------------------------------

    def _get(self, tensor: torch.Tensor) -> _Value:
        found = self._values.get(tensor)
        return found or self._unannounced(tensor) or _Value()

    def _unannounced(self, tensor: torch.Tensor) -> _Value | None:
        """Return what is known of the same memory: no operation makes ``tensor.data``.

        Nor does one make a wrapper: what is known of it is what is known of its parts.
        """
        key = memory_of(tensor)
        for reference in self._aliases.get(key, []) if key is not None else []:
            other = reference()
            if other is not None and same_memory(other, tensor):
                return self._values[other]
        parts = [self._get(part) for part in inner_tensors(tensor)]
        for known in ("node", "expr"):
            for value in parts:
                if getattr(value, known) is not None:
                    return value
        return _Value(held=True) if any(value.held for value in parts) else None

    def _set(self, tensor: torch.Tensor, value: _Value) -> None:
        if tensor not in self._values:
            key = memory_of(tensor)
            if key is not None:
                self._aliases.setdefault(key, []).append(TensorWeakRef(tensor))
        self._values[tensor] = value
        for part in inner_tensors(tensor):
            inside = value if value.expr is None else _Value(expr=Expr(value.expr.params))
            if part not in self._values:
                self._set(part, inside)

    def _write(self, tensor: torch.Tensor, value: _Value) -> None:
        """Note that a tensor was overwritten, and with it its views and what it is a view of."""
        key = memory_of(tensor)
        if key in self._trained:  # initialised, or trained in the pass: still the same parameter
            self.initialised = True
            return
        self._set(tensor, value)
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
                mixed = self._interpreter.follow("write", (before.node, value.node))
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
    return tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized


def _statistic(name: str, values: list[_Value]) -> str | None:
    """Return what a constant is made of, as :attr:`_Value.statistic`."""
    found = {v.statistic for v in values} - {None}
    if not found:
        return None
    return "root" if "root" in found or name in operations.ROOTS else "plain"


def _sides(tensor: torch.Tensor) -> int:
    return sum(size > 1 for size in tensor.shape)


def _repeats_rows(table: torch.Tensor, picked: torch.Tensor) -> bool:
    return _sides(table) == 2 and picked.numel() > table.numel()


def _rows(value: _Value) -> frozenset[str]:
    return value.expr.parts.rows if value.expr and value.expr.parts else frozenset()


def _name(func: Any) -> str:
    return str(getattr(func, "overloadpacket", func).__name__).rstrip("_")
