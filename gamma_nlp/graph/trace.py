"""Run a model once, leave it as it was, and return its residual graph.

The pass runs in eval mode under ``no_grad``. Afterwards everything is as before: what the model and
its inputs hold (:mod:`gamma_nlp.graph.as_found`), and the memory of every tensor that the pass
wrote to, of which the recorder keeps a copy.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Container, Iterator
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.graph import input_messages, messages
from gamma_nlp.graph.as_found import AsFound
from gamma_nlp.graph.escapes import Escapes
from gamma_nlp.graph.eval_mode import to_eval
from gamma_nlp.graph.gradients import Gradients, NeedsGradientsError
from gamma_nlp.graph.inputs import arguments
from gamma_nlp.graph.nodes import Graph, Op
from gamma_nlp.graph.obstacles import refuse_obstacles
from gamma_nlp.graph.operations import NORMALISE_TOKENS
from gamma_nlp.graph.reached import tensors_in
from gamma_nlp.graph.recorder import Recorder
from gamma_nlp.graph.whole_calls import WholeCalls
from gamma_nlp.wrappers import unwrap

_EXPERTS = "_experts_implementation_internal"

# A layer of bitsandbytes with this flag repacks its matrix on its first pass in eval mode on the
# CPU, for good, and cannot be trained afterwards.
_REPACKS = "support_avx512bf16_for_cpu"


def trace(model: nn.Module, inputs: Any = None) -> Graph:
    """Record one forward pass of ``model``.

    Args:
        model: Any module, on any device, ``meta`` included.
        inputs: A tensor, a tuple of positional or a mapping of keyword arguments. ``None``
            is enough for models of transformers: eight random tokens.

    Raises:
        GammaError: No inputs are known for this model, its forward pass failed, or it is in a form
            whose operations cannot be seen (sharded, TorchScript).
    """
    refuse_obstacles(model)
    inner = unwrap(model)
    call = arguments(inner, inputs)
    tokens: set[str] = set()
    gradients = own_eval = False
    while True:
        one = _Pass(model, inner, call, tokens, gradients, own_eval)
        try:
            recorder = one.run()
        except NeedsGradientsError:
            gradients = True
        except GammaError:
            if not one.left_out_eval:
                raise
            own_eval = True  # it may make what the pass needs
        else:
            if recorder.tokens == tokens:
                return recorder.graph
            tokens = recorder.tokens  # the pass shows only at its end which they are


class _Pass:
    """One run of the model.

    Args:
        model: The model as the user has it; its names count.
        inner: The model without wrappers; it is what runs.
        call: Positional and keyword arguments.
        tokens: The parameters that are used as tokens.
        gradients: Whether the pass takes gradients itself and needs them switched on.
        own_eval: Whether to call an ``eval()`` of the model's own that computes with parameters.

    Attributes:
        left_out_eval: Whether such an ``eval()`` was left out.
    """

    def __init__(
        self,
        model: nn.Module,
        inner: nn.Module,
        call: tuple[tuple[Any, ...], dict[str, Any]],
        tokens: set[str],
        gradients: bool,
        own_eval: bool,
    ) -> None:
        self._model, self._inner, self._call = model, inner, call
        self._tokens, self._gradients, self._own_eval = tokens, gradients, own_eval
        self._running: list[str] = []
        self.left_out_eval = False

    def run(self) -> Recorder:
        """Run the model, and leave it as it was.

        Raises:
            GammaError: The pass failed, or cannot be followed.
            NeedsGradientsError: It takes gradients itself, and has to be run with ``gradients``.
        """
        known = {id(parameter) for parameter in self._model.parameters()}
        with AsFound(self._model, self._call) as found, contextlib.ExitStack() as undo:
            for _ in range(2):
                recorder = self._recorder(found)
                undo.callback(recorder.undo)
                self._run(recorder)
                if not recorder.initialised:
                    break  # else it has set itself up from its first batch: run it as it is now
            self._check(recorder, known)
        return recorder

    def _recorder(self, found: AsFound) -> Recorder:
        parameters = dict(self._model.named_parameters(remove_duplicate=False))
        # Some quantised layers keep their matrices in integer buffers.
        packed = {
            name: buffer
            for name, buffer in self._model.named_buffers()
            if buffer.dim() >= 2
            and not buffer.is_floating_point()
            and buffer.dtype is not torch.bool
        }
        inputs = tensors_in(self._call)
        recorder = Recorder({**packed, **parameters}, inputs, self._tokens, self._where)
        known = {id(tensor) for tensor in inputs}
        recorder.own(tensor for tensor in found.tensors if id(tensor) not in known)
        return recorder

    def _run(self, recorder: Recorder) -> None:
        args, kwargs = self._call
        gradients = Gradients(recorder.take_gradients, self._where, switched_on=self._gradients)
        with _plain_kernels(self._inner), self._watched(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not self._own_eval:
                self.left_out_eval |= to_eval(self._inner)
            try:
                with (
                    torch.set_grad_enabled(self._gradients),
                    torch.compiler.set_stance("force_eager"),
                    recorder,
                    Escapes(recorder.leave),
                    WholeCalls(recorder.record_whole),
                    gradients,
                ):
                    if self._own_eval:
                        self._inner.eval()
                    result = self._inner(*args, **kwargs)
                recorder.returned(tensors_in(result))
            except GammaError:
                raise
            except Exception as error:
                message = input_messages.forward_failed(
                    self._inner, self._where(), error, args, kwargs
                )
                raise GammaError(message) from error

    def _check(self, recorder: Recorder, known: Container[int]) -> None:
        new = [name for name, p in self._model.named_parameters() if id(p) not in known]
        new = [name for name in new if name not in recorder.parameters]
        if new:
            raise GammaError(messages.grows(new))
        args, kwargs = self._call
        given = [*args, *kwargs.values()]
        parameters = ("parameter", *NORMALISE_TOKENS)
        starts = [n.name for n in recorder.graph.nodes if n.op is Op.SOURCE]
        silent = all(name in parameters for name in starts)
        if silent and given and not tensors_in(given):
            raise GammaError(input_messages.no_tensors(self._inner, given))

    def _where(self) -> str:
        return self._running[-1] if self._running else ""

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Keep a list of the modules that are running."""
        names = {id(module): name for name, module in self._inner.named_modules()}
        here = threading.get_ident()

        def enter(module: nn.Module, args: Any) -> None:
            if (
                threading.get_ident() == here
            ):  # the hooks are global: they see other threads' models
                self._running.append(names.get(id(module), self._where()))
            elif id(module) in names:
                raise GammaError(messages.other_thread(names[id(module)]))

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            if threading.get_ident() == here:
                self._running.pop()

        hooks = [
            nn.modules.module.register_module_forward_pre_hook(enter),
            nn.modules.module.register_module_forward_hook(leave),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextlib.contextmanager
def _plain_kernels(model: nn.Module) -> Iterator[None]:
    """Switch off kernels that hide their operations; what modules hold is restored by others."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    # On the meta device the kernel for groups of experts takes no other dtype than bfloat16.
    no_groups = any(p.is_meta and p.dtype is not torch.bfloat16 for p in model.parameters())
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # one kernel for a whole block, norms too
        for module in model.modules():
            if getattr(module, _REPACKS, False):
                setattr(module, _REPACKS, False)
            config: Any = getattr(module, "config", None)
            kernel = getattr(config, "_attn_implementation_internal", None)
            if kernel not in (None, "eager", "sdpa"):
                config._attn_implementation_internal = "eager"
            if no_groups and getattr(config, _EXPERTS, None) == "grouped_mm":
                setattr(config, _EXPERTS, "batched_mm")
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
