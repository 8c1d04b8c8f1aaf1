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
from gamma_nlp.graph import messages, operations
from gamma_nlp.graph.affine import Expr, combine
from gamma_nlp.graph.as_found import tensors_in
from gamma_nlp.graph.escapes import Outside
from gamma_nlp.graph.gradients import innermost
from gamma_nlp.graph.interpreter import Interpreter, Operand
from gamma_nlp.graph.memory import Memory, inner_tensors, memory_of, same_memory
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
        held: Whether it is a constant matrix that the model holds (a buffer, a plain attribute), or
            is made of one. Contracted with the signal it is a weight; a matrix that the pass makes
            of shapes (a mean, an interpolation) is none.
        noise: Whether it was drawn in the pass. It is a constant, until a weight is applied to it.
    """

    node: int | None = None
    choice: int | None = None
    expr: Expr | None = None
    from_input: bool = False
    from_signal: bool = False
    unwritten: bool = False
    held: bool = False
    noise: bool = False


@dataclass(frozen=True, kw_only=True)
class _Kernel:
    """What matters of an operation beside its name.

    Attributes:
        foreign: Whether it comes from outside PyTorch.
        packed: Whether it takes a matrix in an object that is no tensor.
        random: Whether it draws random numbers.
    """

    foreign: bool
    packed: bool
    random: bool


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
                value = _Value(expr=Expr(frozenset([name]), slope))
                if name in self.tokens:
                    self.graph.touched.add(name)
                    value = _Value(node=self._interpreter.node(Op.SOURCE, "parameter"))
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
            matrix = tensor.dim() >= 2 and tensor.dtype is not torch.bool
            if matrix and tensor not in self._values:
                self._set(tensor, _Value(held=True))

    def undo(self) -> None:
        """Put back what the pass overwrote."""
        self._memory.undo()

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
        name = _name(func)
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
            kernel = _Kernel(
                foreign=getattr(func, "namespace", "aten") not in ("aten", "prims"),
                packed=_is_packed(func, leaves),
                random=torch.Tag.nondeterministic_seeded in getattr(func, "tags", ()),
            )
            self._record(name, args, operands, outputs, written, kernel)
        return result

    def _record(
        self,
        name: str,
        args: tuple[Any, ...],
        tensors: list[torch.Tensor],
        outputs: list[torch.Tensor],
        written: list[torch.Tensor],
        kernel: _Kernel,
    ) -> None:
        values = [self._get(tensor) for tensor in tensors]
        fresh = name in operations.FRESH or (
            name in operations.MOVES and bool(values) and values[0].unwritten and not written
        )
        if not fresh:
            self._refuse_unseen(name, tensors, values, written)
        from_signal = any(v.node is not None or v.from_signal for v in values)
        from_input = from_signal or any(v.from_input for v in values)
        discrete = _Value(from_input=from_input, from_signal=from_signal)
        choices = list(dict.fromkeys(v.choice for v in values if v.choice is not None))
        carries = [_carries_signal(t) or _is_quantised(t, values) for t in outputs]
        if name in operations.CONSTANTS:
            result = discrete = _Value(noise=kernel.random)
        elif fresh:
            result = _Value(unwritten=any(t.numel() > 0 for t in outputs))
        elif any(carries):
            result = self._signal(name, args, tensors, values, outputs[0], from_input, kernel)
            if choices and result.node is not None:
                node = self._interpreter.node(Op.LINEAR, "choose", (result.node, *choices))
                result = replace(result, node=node)
        else:
            result = discrete
            if not from_input:  # a packed matrix that is about to be unpacked
                discrete.expr = combine(name, args, tensors, [v.expr for v in values])
                discrete.held = any(v.held for v in values)
        if name not in operations.CONSTANTS and not all(carries):
            discrete.choice = self._choice(name, values, choices)
        for expr in (v.expr for v in values if v.expr is not None):
            self.graph.touched |= expr.params
        for tensor, carried in zip(outputs, carries, strict=True):
            self._set(tensor, result if carried else replace(discrete, expr=result.expr))
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
        output: torch.Tensor,
        from_input: bool,
        kernel: _Kernel,
    ) -> _Value:
        params = frozenset(p for v in values if v.expr for p in v.expr.params)
        table = values[0].expr if values else None
        if table is not None and (
            name in operations.LOOKUPS
            or (name in operations.INDEXING and any(v.from_input for v in values[1:]))
        ):
            self.graph.embeddings |= table.params
            return _Value(node=self._interpreter.node(Op.SOURCE, name))
        weighs = name in operations.CONTRACTIONS and any(
            v.expr is not None and _is_matrix(t) for t, v in zip(tensors, values, strict=True)
        )
        if weighs and all(v.node is None for v in values):
            values = [self._source(v) if v.noise else v for v in values]
        if any(v.node is not None for v in values):
            if kernel.packed:  # the matrix is in an object that is no tensor
                nodes = [v.node for v in values if v.node is not None]
                return _Value(node=self._interpreter.node(Op.WEIGHT, name, nodes))
            if name in ("cat", "stack"):
                self.tokens |= params - self.graph.weights
            operands = [
                Operand(
                    node=v.node,
                    expr=_HELD if _weighs(name, kernel, t, v, tensors[0]) else v.expr,
                    shape=tuple(t.shape),
                )
                for t, v in zip(tensors, values, strict=True)
            ]
            return _Value(node=self._interpreter.interpret(name, operands, tuple(output.shape)))
        if from_input and not params:
            return _Value(node=self._interpreter.node(Op.SOURCE, name))
        if table is not None and name in operations.NORMALISE_TOKENS:
            self.tokens |= table.params
            return _Value(node=self._interpreter.node(Op.SOURCE, name))  # until the next run
        if name in operations.CONTRACTIONS:  # a weight on constants only, such as a time step
            self.graph.weights |= {
                param
                for tensor, value in zip(tensors, values, strict=True)
                if value.expr is not None and _is_matrix(tensor)
                for param in value.expr.params
            }
        expr = combine(name, args, tensors, [v.expr for v in values])
        constant = expr is None
        return _Value(
            expr=expr,
            held=constant and any(v.held for v in values),
            noise=constant and (kernel.random or any(v.noise for v in values)),
        )

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
    return tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized


_HELD = Expr(frozenset())
"""A weight that is no parameter."""
_WEIGHS = ("mm", "linear", "matmul", "conv", "dot")
"""Parts of the names of foreign kernels that contract with a matrix of numbers."""
_SMALL = (torch.int8, torch.uint8, torch.int16, torch.int32)


def _is_quantised(tensor: torch.Tensor, values: Iterable[_Value]) -> bool:
    """Return whether small integers are a signal in another form: cast, clamped or multiplied.

    Indices made from a signal are long.
    """
    return tensor.dtype in _SMALL and any(value.node is not None for value in values)


def _weighs(
    name: str, kernel: _Kernel, tensor: torch.Tensor, value: _Value, signal: torch.Tensor
) -> bool:
    """Return whether an operation uses a constant that the model holds as a weight."""
    if not value.held or value.node is not None or value.expr is not None:
        return False
    if kernel.foreign:
        return not tensor.is_floating_point() or any(word in name for word in _WEIGHS)
    if name not in operations.CONTRACTIONS or not _is_matrix(tensor):
        return False
    # One filter for each channel, such as a blur before a stride, pools and mixes nothing.
    filters = "conv" in name and signal.dim() == tensor.dim() >= 3
    return not (filters and tensor.shape[1] == 1 and signal.shape[1] == tensor.shape[0])


def _is_packed(func: Any, leaves: Iterable[Any]) -> bool:
    if "c10d" in getattr(func, "namespace", ""):
        return False  # the object is a group of processes
    return any(isinstance(leaf, torch.ScriptObject) for leaf in leaves)


def _is_matrix(tensor: torch.Tensor) -> bool:
    return sum(size > 1 for size in tensor.shape) >= 2


def _name(func: Any) -> str:
    return str(getattr(func, "overloadpacket", func).__name__).rstrip("_")
