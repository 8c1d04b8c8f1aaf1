"""Copy the model that the probe works on and record its one forward pass."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from gamma_nlp.check.probe.recorder import record
from gamma_nlp.check.probe.tape import Tape
from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.graph import messages
from gamma_nlp.wrappers import unwrap

PACKED = (torch.int8, torch.uint8, torch.int16, torch.int32)
TINY = 1e-6
"""Matrices with all elements below this let nothing through."""


def duplicate(model: nn.Module, dtype: torch.dtype) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return a copy in this precision, and its parameters under the names of the original.

    The integer buffers in which quantised layers keep matrices count as parameters.

    Raises:
        GammaError: The model cannot be copied, or a copy shares tensors with it.
    """
    memo: dict[int, Any] = {}
    inner = unwrap(model)
    try:
        copied = copy.deepcopy(inner, memo)
    except Exception as error:
        raise GammaError(
            f"the probe works on a copy, but {type(inner).__name__} cannot be copied "
            f"({type(error).__name__}: {one_line(error)}). Check table against graph instead: "
            "categorize(model, inputs)"
        ) from error
    if {id(t) for t in _tensors(inner)} & {id(t) for t in _tensors(copied)}:
        raise GammaError(
            f"the probe changes a copy of the model, but a copy of {type(inner).__name__} shares "
            "tensors with it (does it define __deepcopy__?). Check table against graph instead: "
            "categorize(model, inputs)"
        )
    with torch.no_grad():
        for tensor in _tensors(copied):
            kind = dtype if tensor.is_floating_point() else tensor.dtype
            tensor.data = tensor.data.to(kind, copy=True).contiguous()
    for module in copied.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "_attn_implementation_internal", None) not in (None, "eager", "sdpa"):
            config._attn_implementation_internal = "eager"
        if getattr(config, "_experts_implementation_internal", None) is not None:
            config._experts_implementation_internal = "eager"  # fused ones know no float64
    packed = {n: b for n, b in model.named_buffers() if b.dim() >= 2 and b.dtype in PACKED}
    names = {
        name: memo[id(tensor)]
        for name, tensor in {**packed, **dict(model.named_parameters())}.items()
        if id(tensor) in memo
    }
    return copied.eval(), names


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def is_silent(parameter: torch.Tensor) -> bool:
    """Return whether a parameter is constant, or so small that nothing gets through it."""
    if not parameter.is_floating_point() or parameter.numel() == 0:
        return False
    first = parameter.flatten()[0]
    return bool((parameter == first).all() | (parameter.abs().max() < TINY))


def randomise(model: nn.Module) -> None:
    """Put noise on every silent parameter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if is_silent(parameter):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.1 * noise.to(parameter))


def cast(inputs: Any, dtype: torch.dtype) -> Any:
    """Return the inputs with all tensors copied, floats in this precision."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return leaf.detach().to(dtype if leaf.is_floating_point() else leaf.dtype, copy=True)

    return tree_map(one, inputs)


def carries_signal(leaf: Any) -> bool:
    """Return whether an input holds a signal; zeros and ones alone are a mask."""
    return (
        isinstance(leaf, torch.Tensor)
        and leaf.is_floating_point()
        and not bool(((leaf == 0) | (leaf == 1)).all())
    )


def refuse_silence(inputs: Any) -> None:
    """Raise if the inputs hold only zeros and ones.

    Raises:
        GammaError: There are tensors, but neither a signal nor token ids among them.
    """
    tensors = [t for t in tree_leaves(inputs) if isinstance(t, torch.Tensor)]
    tokens = any(not t.is_floating_point() and t.dtype is not torch.bool for t in tensors)
    known = not any(t.is_meta for t in tensors)
    if known and tensors and not tokens and not any(carries_signal(t) for t in tensors):
        raise GammaError(
            "no input carries a signal: all are empty, or hold only zeros and ones, as masks do; "
            "pass numbers that differ: probe(model, torch.randn(2, 8, width))"
        )


def run(model: nn.Module, original: nn.Module, inputs: Any, dtype: torch.dtype) -> Tape:
    """Record one forward pass.

    Args:
        model: The copy.
        original: The model that it is a copy of; the pass must not use its tensors.
        inputs: Positional and keyword arguments, already cast.
        dtype: The precision of the pass.

    Raises:
        GammaError: The pass fails, or has no values to record.
    """
    running: list[str] = []
    names = {id(module): name for name, module in model.named_modules()}

    def enter(module: nn.Module, args: Any) -> None:
        running.append(names.get(id(module), running[-1] if running else ""))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    def where() -> str:
        return running[-1] if running else ""

    args, kwargs = inputs
    cuda = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    hooks = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave),
    ]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.random.fork_rng(devices=cuda), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.compiler.set_stance("force_eager"):
                return record(lambda: model(*args, **kwargs), where, dtype, _tensors(original))
    except GammaError:
        raise
    except Exception as error:
        raise GammaError(
            messages.forward_failed(model, where(), error, args, kwargs, function="probe")
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
