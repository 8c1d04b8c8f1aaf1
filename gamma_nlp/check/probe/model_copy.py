"""Copy the model that the probe works on and record its one forward pass."""

from __future__ import annotations

import contextlib
import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from gamma_nlp.check.probe.recorder import record
from gamma_nlp.check.probe.tape import Key, Tape
from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.graph import messages
from gamma_nlp.graph.as_found import AsFound, opaque_in, tensors_in, tensors_of
from gamma_nlp.graph.eval_mode import has_own_eval, to_eval
from gamma_nlp.graph.gradients import NeedsGradientsError
from gamma_nlp.graph.memory import inner_tensors, is_wrapper
from gamma_nlp.wrappers import unwrap

PACKED = (torch.int8, torch.uint8, torch.int16, torch.int32)
TINY = 1e-6
"""Matrices with all elements below this let nothing through."""


def duplicate(
    model: nn.Module, dtype: torch.dtype, *, own_eval: bool = False
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a copy in this precision, and its parameters under the names of the original.

    The integer buffers in which quantised layers keep matrices count as parameters.

    Args:
        model: The model.
        dtype: The precision.
        own_eval: Whether to call an ``eval()`` of the model's own that computes with parameters.

    Raises:
        GammaError: The model cannot be copied, or a copy shares tensors with it.
    """
    inner = unwrap(model)
    copied, memo = _copied(inner, _stand_ins(inner, dtype))
    if {id(t) for t in _tensors(inner)} & {id(t) for t in _tensors(copied)}:
        raise GammaError(
            f"the probe changes a copy of the model, but a copy of {type(inner).__name__} shares "
            "tensors with it (does it define __deepcopy__?). Check table against graph instead: "
            "categorize(model, inputs)"
        )
    shared = {id(tensor) for tensor in tensors_of(inner)}  # by functions, which are not copied
    with torch.no_grad():
        for tensor in tensors_of(copied):
            if id(tensor) not in shared and not is_wrapper(tensor):
                kind = dtype if tensor.is_floating_point() else tensor.dtype
                data = tensor.data.to(kind, copy=True)
                tensor.data = data.contiguous() if data.layout is torch.strided else data
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
    if own_eval:
        copied.eval()
    else:
        to_eval(copied)
    return copied, names


def _stand_ins(model: nn.Module, dtype: torch.dtype) -> dict[int, Any]:
    """Return what to take in a copy for tensors that cannot be copied as they are, by ids."""
    found: dict[int, Any] = {}
    for tensor in tensors_of(model):
        if is_wrapper(tensor):
            numbers = _numbers(tensor, dtype)
            if numbers is not None or not _can_be_copied(tensor):
                found[id(tensor)] = tensor if numbers is None else numbers
        elif tensor.grad_fn is not None:  # an old weight norm's, or a cache of the last pass
            found[id(tensor)] = tensor.detach().clone()
    return found


def _numbers(wrapper: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return the numbers that a quantised tensor stands for, ``None`` if it cannot tell."""
    try:
        numbers = wrapper.detach().dequantize().to(dtype, copy=True)
    except Exception:  # a wrapper of another sort
        return None
    if is_wrapper(numbers) or numbers.shape != wrapper.shape:
        return None
    is_parameter = isinstance(wrapper, nn.Parameter)
    return nn.Parameter(numbers, requires_grad=False) if is_parameter else numbers


def _copied(model: nn.Module, stand_ins: dict[int, Any]) -> tuple[nn.Module, dict[int, Any]]:
    """Return a copy of a model, and what became of each of its objects, by their ids."""
    memo = dict(stand_ins)
    try:
        return copy.deepcopy(model, memo), memo
    except Exception as error:
        shared = {id(value): value for value in opaque_in(model) if not _can_be_copied(value)}
        if shared:  # locks, files, groups of processes
            memo = stand_ins | shared
            with contextlib.suppress(Exception):
                return copy.deepcopy(model, memo), memo
        raise GammaError(
            f"the probe works on a copy, but {type(model).__name__} cannot be copied "
            f"({type(error).__name__}: {one_line(error)}). Check table against graph instead: "
            "categorize(model, inputs)"
        ) from error


def _can_be_copied(value: Any) -> bool:
    try:
        copy.deepcopy(value)
    except Exception:
        return False
    return True


def _tensors(model: nn.Module) -> list[Tensor]:
    return [t for t in (*model.parameters(), *model.buffers()) if not is_wrapper(t)]


def is_silent(parameter: torch.Tensor) -> bool:
    """Return whether a parameter is constant, or so small that nothing gets through it."""
    if not parameter.is_floating_point() or parameter.numel() == 0 or is_wrapper(parameter):
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
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.detach().to(dtype if leaf.is_floating_point() else leaf.dtype, copy=True)

    try:
        return copy.deepcopy(inputs, {id(tensor): one(tensor) for tensor in tensors_in(inputs)})
    except Exception:  # an object that cannot be copied is passed on as it is
        return tree_map(one, inputs)


def carries_signal(leaf: Any) -> bool:
    """Return whether an input holds a signal; zeros and ones alone are a mask."""
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.is_meta:
        return False
    values = leaf if leaf.layout is torch.strided else leaf.to_dense()
    return not bool(((values == 0) | (values == 1)).all())


def refuse_silence(inputs: Any) -> None:
    """Raise if the inputs hold only zeros and ones.

    Raises:
        GammaError: There are tensors, but neither a signal nor token ids among them.
    """
    tensors = tensors_in(inputs)
    tokens = any(not t.is_floating_point() and t.dtype is not torch.bool for t in tensors)
    known = not any(t.is_meta for t in tensors)
    if known and tensors and not tokens and not any(carries_signal(t) for t in tensors):
        raise GammaError(
            "no input carries a signal: all are empty, or hold only zeros and ones, as masks do; "
            "pass numbers that differ: probe(model, torch.randn(2, 8, width))"
        )


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recorded pass.

    Attributes:
        tape: Its steps.
        gains: The memory of each parameter.
        parameters: The parameter that each piece of memory belongs to; a wrapper has several.
        sources: The memory of the inputs that carry a signal.
        held: The memory of other matrices that the model holds.
        vectors: The memory of vectors that it holds, such as a batch norm's statistics.
    """

    tape: Tape
    gains: dict[str, Key]
    parameters: dict[Key, str]
    sources: list[Key]
    held: set[Key]
    vectors: set[Key]


def record_pass(model: nn.Module, call: Any, dtype: torch.dtype, *, noisy: bool) -> Recording:
    """Copy a model and record one pass of the copy; leave the model as it was.

    Args:
        model: The user's model.
        call: Positional and keyword arguments.
        dtype: The precision of the copy.
        noisy: Whether to put noise on silent parameters first.

    Raises:
        GammaError: The model cannot be copied, the pass fails, or it has no values to record.
    """
    gradients = own_eval = False
    with AsFound(unwrap(model)):
        while True:
            copied, names = duplicate(model, dtype, own_eval=own_eval)
            if noisy:
                randomise(copied)
            inputs = cast(call, dtype)
            try:
                return _recording(copied, names, unwrap(model), inputs, dtype, gradients)
            except NeedsGradientsError:
                gradients = True
            except GammaError:
                if own_eval or not has_own_eval(copied):
                    raise
                own_eval = True  # it may make what the pass needs


def _recording(
    model: nn.Module,
    names: dict[str, Tensor],
    original: nn.Module,
    inputs: Any,
    dtype: torch.dtype,
    gradients: bool,
) -> Recording:
    for again in (False, True):
        # Noted before the pass, in which a model may replace the data of its parameters.
        own = {name: [p, *inner_tensors(p)] for name, p in names.items()}
        memory = {name: [t.untyped_storage() for t in parts] for name, parts in own.items()}
        held = [t.untyped_storage() for t in tensors_of(model) if _is_matrix(t)]
        vectors = [t.untyped_storage() for t in model.buffers() if _is_vector(t)]
        given = [t for t in tensors_in(inputs) if t.layout is torch.strided]
        sources = [t.untyped_storage() for t in given if carries_signal(t)]
        tape = run(model, original, inputs, dtype, gradients)
        keys = {
            name: [key for s in storages if (key := tape.key_of(s)) is not None]
            for name, storages in memory.items()
        }
        if again or not any(tape.overwritten(key) for found in keys.values() for key in found):
            break  # else it has initialised itself from its first batch
    return Recording(
        tape=tape,
        gains={name: found[0] for name, found in keys.items() if found},
        parameters={key: name for name, found in keys.items() for key in found},
        sources=[key for s in sources if (key := tape.key_of(s)) is not None],
        held={key for s in held if (key := tape.key_of(s)) is not None},
        vectors={key for s in vectors if (key := tape.key_of(s)) is not None},
    )


def _is_vector(tensor: Tensor) -> bool:
    wide = sum(size > 1 for size in tensor.shape)
    return tensor.layout is torch.strided and wide == 1 and tensor.is_floating_point()


def _is_matrix(tensor: Tensor) -> bool:
    usual = tensor.layout is torch.strided and not is_wrapper(tensor)
    return usual and tensor.dim() >= 2 and tensor.dtype is not torch.bool


def run(
    model: nn.Module, original: nn.Module, inputs: Any, dtype: torch.dtype, gradients: bool = False
) -> Tape:
    """Record one forward pass.

    Args:
        model: The copy.
        original: The model that it is a copy of; the pass must not use its tensors.
        inputs: Positional and keyword arguments, already cast.
        dtype: The precision of the pass.
        gradients: Whether the pass takes gradients itself and needs them switched on.

    Raises:
        GammaError: The pass fails, or has no values to record.
        NeedsGradientsError: It takes gradients, and has to be run with ``gradients``.
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
    hooks = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave),
    ]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
            warnings.simplefilter("ignore")
            return record(
                lambda: model(*args, **kwargs), where, dtype, _tensors(original), gradients
            )
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
