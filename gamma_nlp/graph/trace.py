"""Run a model once, leave it as it was, and return its residual graph.

The pass runs in eval mode under ``no_grad``. Afterwards mode, gradients, random states, buffers
and configuration are as before: a buffer that the pass overwrites is copied first.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.graph import messages
from gamma_nlp.graph.escapes import Escapes
from gamma_nlp.graph.inputs import arguments
from gamma_nlp.graph.nodes import Graph
from gamma_nlp.graph.recorder import Recorder
from gamma_nlp.wrappers import unwrap

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
        GammaError: No inputs are known for this model, or its forward pass failed.
    """
    inner = unwrap(model)
    for name, module in inner.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise GammaError(messages.scripted(name))
    args, kwargs = arguments(inner, inputs)
    tokens: set[str] = set()
    while True:
        recorder = _run(model, inner, args, kwargs, tokens)
        if recorder.tokens == tokens:
            return recorder.graph
        tokens = recorder.tokens  # the pass shows only at its end which they are: run it again


def _run(
    model: nn.Module,
    inner: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tokens: set[str],
) -> Recorder:
    running: list[str] = []
    parameters = dict(model.named_parameters(remove_duplicate=False))
    # Some quantised layers keep their matrices in integer buffers.
    packed = {
        name: buffer
        for name, buffer in model.named_buffers()
        if buffer.dim() >= 2 and not buffer.is_floating_point() and buffer.dtype is not torch.bool
    }
    recorder = Recorder(
        {**packed, **parameters},
        list(_tensors((args, kwargs))),
        tokens,
        lambda: running[-1] if running else "",
    )
    recorder.protect(_constants(model))
    with _as_found(inner, running), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with (
                torch.no_grad(),
                torch.compiler.set_stance("force_eager"),
                recorder,
                Escapes(recorder.leave),
            ):
                result = inner(*args, **kwargs)
            recorder.returned(_tensors(result))
        except GammaError:
            raise
        except Exception as error:
            place = running[-1] if running else ""
            raise GammaError(messages.forward_failed(inner, place, error, args, kwargs)) from error
        finally:
            with torch.no_grad():
                for tensor, before in recorder.undo:
                    tensor.copy_(before)
    return recorder


def _constants(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield buffers, and tensors that modules hold as plain attributes."""
    for module in model.modules():
        for value in (*module._buffers.values(), *vars(module).values()):
            if isinstance(value, torch.Tensor):
                yield value


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for leaf in torch.utils._pytree.tree_leaves(values):
        if isinstance(leaf, torch.Tensor):
            yield leaf


@contextlib.contextmanager
def _as_found(model: nn.Module, running: list[str]) -> Iterator[None]:
    """Switch to eval mode and plain kernels, keep a list of running modules, restore everything."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    names = {id(module): name for name, module in model.named_modules()}
    attention = _eager(model)
    packing = [m for m in model.modules() if getattr(m, _REPACKS, False)]

    here = threading.get_ident()

    def enter(module: nn.Module, args: Any) -> None:
        if threading.get_ident() == here:  # the hooks are global: they see other threads' models
            running.append(names.get(id(module), running[-1] if running else ""))
        elif id(module) in names:
            raise GammaError(messages.other_thread(names[id(module)]))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == here:
            running.pop()

    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    hooks = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave),
    ]
    fastpath = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # one kernel for a whole block, norms too
        for module in packing:
            setattr(module, _REPACKS, False)
        with torch.random.fork_rng(devices=devices):
            model.eval()
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for hook in hooks:
            hook.remove()
        for module in packing:
            setattr(module, _REPACKS, True)
        for module, training in modes:
            module.training = training
        for module, held in buffers:
            module._buffers.clear()
            module._buffers.update(held)
        for config, implementation in attention:
            config._attn_implementation_internal = implementation


def _eager(model: nn.Module) -> list[tuple[Any, Any]]:
    """Switch attention kernels that hide their operations to eager; return what to put back."""
    changed = []
    seen = set()
    for module in model.modules():
        config = getattr(module, "config", None)
        kernel = getattr(config, "_attn_implementation_internal", None)
        if config is None or id(config) in seen or kernel in (None, "eager", "sdpa"):
            continue
        seen.add(id(config))
        changed.append((config, kernel))
        config._attn_implementation_internal = "eager"
    return changed
