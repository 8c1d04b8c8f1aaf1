"""Record one forward pass as a :class:`~gamma_nlp.graph.nodes.Graph`.

Operations are seen where PyTorch dispatches them, below modules, autograd and Python wrappers.
Frozen and quantised weights, custom autograd functions, checkpointed blocks and towers that run
under ``no_grad`` all look the same from there. What each tensor then holds is in
:mod:`gamma_nlp.graph.values`, what an operation makes of it in :mod:`gamma_nlp.graph.propagation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gamma_nlp.errors import GammaError
from gamma_nlp.graph import lists, messages, operations, parts
from gamma_nlp.graph.affine import Expr
from gamma_nlp.graph.call import Call
from gamma_nlp.graph.escapes import Outside
from gamma_nlp.graph.gradients import innermost
from gamma_nlp.graph.held import Kernel
from gamma_nlp.graph.interpreter import Interpreter
from gamma_nlp.graph.memory import Memory, overwritten
from gamma_nlp.graph.nodes import Graph, Op
from gamma_nlp.graph.propagation import Propagation
from gamma_nlp.graph.reached import tensors_in
from gamma_nlp.graph.values import Value, Values, carries_signal


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
        self._where = where
        self._interpreter = Interpreter(self.graph, where)
        self._values = Values(self._interpreter.follow)
        self._propagation = Propagation(self._interpreter, self.tokens)
        self._memory = Memory()
        self._unseen = False
        self._outside = Outside()
        for name, tensor in parameters.items():
            if tensor not in self._values:
                number = tensor.is_floating_point() or tensor.is_complex()
                slope = 1.0 if number else None  # integers are no gains
                expr = Expr(frozenset([name]), slope, parts=parts.parameter(name))
                value = Value(expr=expr)
                if name in self.tokens:
                    self.graph.touched.add(name)
                    value = Value(node=self._interpreter.node(Op.SOURCE, "parameter"))
                    self.graph.tokens[name] = value.node
                self._values.set(tensor, value)
                if tensor.requires_grad and name not in self.tokens:
                    self._values.train(tensor)
        for name, tensor in parameters.items():
            for part in tensors_in(vars(tensor)):  # what a quantised matrix is made of
                if part not in self._values:
                    self._values.set(part, Value(expr=Expr(frozenset([name]))))
        for tensor in inputs:
            value = Value(from_input=True)
            if carries_signal(tensor):
                value.node = self._interpreter.node(Op.SOURCE, "input")
            self._values.set(tensor, value)

    @property
    def initialised(self) -> bool:
        """Whether the pass wrote to a parameter that is trained."""
        return self._values.initialised

    def own(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note which tensors the model has, parameters or not."""
        own = list(tensors)
        self._outside.own(own)
        for tensor in own:
            if tensor in self._values:
                continue
            matrix = tensor.dim() >= 2 and tensor.dtype is not torch.bool
            vector = carries_signal(tensor) and tensor.numel() > 1
            self._values.set(tensor, Value(held=matrix, statistic="plain" if vector else None))

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
            wanted = [self._values.get(tensor) for tensor in inputs]
            found = tuple(
                torch.zeros_like(gradient) if value.expr is not None and gradient is not None
                else gradient
                for gradient, value in zip(found, wanted, strict=True)
            )  # fmt: skip
        finally:
            self._unseen = False
        nodes = [v.node for v in map(self._values.get, outputs) if v.node is not None]
        for gradient, value in zip(found, wanted, strict=True):
            if value.node is not None and gradient is not None:
                node = self._interpreter.node(Op.NONLINEAR, "gradient", nodes)
                self._values.set(innermost(gradient), Value(node=node))
        return found

    def returned(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note what the model returns."""
        found = (self._values.get(tensor).node for tensor in tensors)
        self.graph.outputs.update(node for node in found if node is not None)

    def leave(self, tensor: torch.Tensor, method: str) -> None:
        """Note that the values of a tensor are read, or its memory lent, outside PyTorch."""
        value = self._values.get(tensor)
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
        if lists.plain(func) is not None:
            with self:
                return lists.one_by_one(func, args, kwargs)
        name = operations.precise(_name(func), args, kwargs)
        if isinstance(func, HigherOrderOperator) and not operations.is_attention(name):
            raise GammaError(messages.higher_order(self._where(), name))
        if func is torch.ops.aten._local_scalar_dense.default and self._is_meta_flag(args[0]):
            return True
        written = _tensors([args[i] for i in overwritten(func) if i < len(args)])
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
        values = [self._values.get(tensor) for tensor in tensors]
        fresh = name in operations.FRESH or (
            name in operations.MOVES and bool(values) and values[0].unwritten and not written
        )
        if not fresh:
            self._refuse_unseen(name, tensors, values, written)
        for expr in (v.expr for v in values if v.expr is not None):
            self.graph.touched |= expr.params
        call = Call(
            name=name, args=args, tensors=tensors, values=values, outputs=outputs, kernel=kernel
        )
        found, result = self._propagation.outputs(call, fresh)
        for tensor, value in zip(outputs, found, strict=True):
            self._values.set(tensor, value)
        for tensor in written:
            self._values.write(tensor, result)

    def _is_meta_flag(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor without values is a yes-or-no question about positions or masks.

        Models ask whether a faster way applies (no padding, no packed sequences); answer yes.
        """
        value = self._values.get(tensor)
        return tensor.is_meta and tensor.dtype is torch.bool and not value.from_signal

    def _refuse_unseen(
        self,
        name: str,
        tensors: list[torch.Tensor],
        values: list[Value],
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


def _name(func: Any) -> str:
    return str(getattr(func, "overloadpacket", func).__name__).rstrip("_")
