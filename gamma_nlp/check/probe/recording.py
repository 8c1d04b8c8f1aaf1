"""Record one forward pass of a copy of the model, and which memory belongs to what."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.check.probe.model_copy import carries_signal, cast, duplicate, own_tensors, randomise
from gamma_nlp.check.probe.recorder import record
from gamma_nlp.check.probe.tape import Key, Tape
from gamma_nlp.errors import GammaError
from gamma_nlp.graph import input_messages
from gamma_nlp.graph.as_found import AsFound
from gamma_nlp.graph.eval_mode import has_own_eval
from gamma_nlp.graph.gradients import NeedsGradientsError
from gamma_nlp.graph.memory import inner_tensors, is_wrapper
from gamma_nlp.graph.reached import tensors_in, tensors_of
from gamma_nlp.wrappers import unwrap


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recorded pass.

    Attributes:
        tape: Its steps.
        gains: The memory of each parameter.
        parameters: The parameter that each piece of memory belongs to; a wrapper has several.
        sources: The memory of the inputs that carry a signal.
        given: The memory of all inputs, masks and indices included.
        held: The memory of other matrices that the model holds.
        vectors: The memory of vectors that it holds, such as a batch norm's statistics.
    """

    tape: Tape
    gains: dict[str, Key]
    parameters: dict[Key, str]
    sources: list[Key]
    given: set[Key]
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
        inputs_at = [t.untyped_storage() for t in given]
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
        given={key for s in inputs_at if (key := tape.key_of(s)) is not None},
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
                lambda: model(*args, **kwargs), where, dtype, own_tensors(original), gradients
            )
    except GammaError:
        raise
    except Exception as error:
        raise GammaError(
            input_messages.forward_failed(model, where(), error, args, kwargs, function="probe")
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
