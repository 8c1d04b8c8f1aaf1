"""Leave a model, its inputs and the random states exactly as they were found.

A forward pass may count its calls, fill a cache, register a buffer or a layer, initialise itself
from its first batch, or draw numbers. :class:`AsFound` notes what the model and its inputs hold
before the pass, and puts it back after. ::

    model ──▶ attributes ──▶ dicts, lists, sets ──▶ objects ──▶ their attributes ...
      └─────▶ hooks ──▶ what their functions have captured
      └─────▶ tensors: memory, gradient, ``requires_grad``, version, own attributes

Only the references are copied, no numbers: what is written *into* the memory of a tensor is undone
by whoever sees the operations, the recorder. Out of reach are global variables, and the inside of
objects of the standard library and of PyTorch that are no modules.
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import types
from collections import OrderedDict, UserDict, UserList, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

DEPTH = 3
"""How many objects that are neither modules nor containers to follow on the way to a value."""
MOST = 1_000_000
"""How many values to look at; the nearest come first."""
LARGE = 1 << 26
"""Arrays of numpy with more bytes than this are not copied."""

Restore = Callable[[], object]

_PLAIN = (
    type(None), bool, int, float, complex, str, bytes, type, range, torch.dtype, torch.device,
    torch.Size, types.ModuleType, types.BuiltinFunctionType,
)  # fmt: skip
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_RUNS = (nn.Module, types.FunctionType, types.MethodType, functools.partial)
_OPEN = (types.SimpleNamespace, UserDict, UserList)
_CLOSED = frozenset(sys.stdlib_module_names) | {"torch", "numpy"}


class AsFound:
    """What ``roots`` hold now. Use it as a context: everything is put back at its end.

    Args:
        roots: Models and inputs.

    Attributes:
        tensors: Every tensor that was reached.
    """

    def __init__(self, *roots: Any) -> None:
        self.tensors: list[Tensor] = []
        self._restore: list[Restore] = [*_global_states()]
        classes: set[type] = set()
        for value in _reached(roots, functions=True):
            if isinstance(value, Tensor):
                self.tensors.append(value)
            if isinstance(value, nn.Module):
                classes.update(_own_classes(value))
            self._restore.extend(_ways_back(value))

        self._restore.extend(map(_class, classes))

    def __enter__(self) -> AsFound:
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Put everything back."""
        with torch.no_grad():
            for restore in self._restore:
                restore()


def tensors_in(values: Any) -> list[Tensor]:
    """Return the tensors in inputs or outputs: in containers, dataclasses and other objects."""
    return [v for v in _reached((values,), functions=False) if isinstance(v, Tensor)]


def tensors_of(model: nn.Module) -> list[Tensor]:
    """Return the tensors that a model holds: parameters, buffers, and all that is reached."""
    return [v for v in _reached((model,), functions=True) if isinstance(v, Tensor)]


def opaque_in(model: nn.Module) -> list[Any]:
    """Return the objects that a model holds and that hold nothing to follow, such as a lock."""
    return [v for v in _reached((model,), functions=True) if _is_object(v) and not any(_parts(v))]


# What is reached ----------------------------------------------------------------------------------


def _reached(roots: Iterable[Any], *, functions: bool) -> Iterator[Any]:
    """Yield what the roots hold, nearest first; modules and functions only where asked for."""
    seen: dict[int, Any] = {}
    queue: deque[tuple[Any, int]] = deque((root, 0) for root in roots)
    while queue and len(seen) < MOST:
        value, depth = queue.popleft()
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        if not functions and isinstance(value, _RUNS):
            continue
        seen[id(value)] = value  # held, so that no other value gets its number
        inside = depth + _is_object(value)
        if inside > DEPTH:
            continue
        yield value
        queue.extend((part, inside) for part in _parts(value))


def _is_object(value: Any) -> bool:
    return not isinstance(value, (nn.Module, Tensor, *_CONTAINERS, types.CellType))


def _parts(value: Any) -> Iterator[Any]:
    """Yield what a value refers to, one step further."""
    if isinstance(value, dict):
        yield from list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from list(value)
    elif isinstance(value, types.FunctionType):
        yield from value.__closure__ or ()
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.CellType):
        with contextlib.suppress(ValueError):  # an empty cell
            yield value.cell_contents
        return
    elif isinstance(value, Tensor) and value.grad_fn is None and value.grad is not None:
        yield value.grad
    if isinstance(value, nn.Module):
        for base in _own_classes(value):
            yield from (held for held in vars(base).values() if isinstance(held, _CONTAINERS))
    if _is_open(value):
        yield getattr(value, "__dict__", None)
        yield from (getattr(value, name, None) for name in _slots(value))


def _is_open(value: Any) -> bool:
    """Return whether the attributes of a value are followed: those of users' and models' classes.

    Objects of the standard library may belong to other threads (queues, loggers).
    """
    if isinstance(value, (nn.Module, Tensor)) or type(value) in _OPEN:
        return True
    return type(value).__module__.partition(".")[0] not in _CLOSED


def _own_classes(module: nn.Module) -> list[type]:
    bases = type(module).__mro__
    return [
        base for base in bases if base.__module__.partition(".")[0] not in _CLOSED | {"builtins"}
    ]


def _slots(value: Any) -> list[str]:
    if isinstance(value, (Tensor, nn.Module)):
        return []
    named: list[str] = []
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        named += [slots] if isinstance(slots, str) else list(slots)
    return [name for name in named if not name.startswith("__")]


# The way back -------------------------------------------------------------------------------------


def _ways_back(value: Any) -> Iterator[Restore]:
    if isinstance(value, dict):
        yield _dict(value)
    elif isinstance(value, (list, bytearray)):
        yield _list(value)
    elif isinstance(value, (set, deque)):
        yield _set_or_queue(value)
    elif isinstance(value, types.CellType):
        yield from _cell(value)
    elif isinstance(value, Tensor):
        yield from _tensor(value)
    elif isinstance(value, torch.Generator):
        yield functools.partial(value.set_state, value.get_state())
    elif isinstance(value, random.Random):
        yield functools.partial(value.setstate, value.getstate())
    elif "numpy" in sys.modules:
        yield from _of_numpy(value)
    if _is_open(value):
        yield from (
            functools.partial(object.__setattr__, value, name, getattr(value, name))
            for name in _slots(value)
            if hasattr(value, name)
        )


def _dict(value: dict[Any, Any]) -> Restore:
    # The methods of the built-in type: a class of the user's may do more in its own.
    kind: Any = OrderedDict if isinstance(value, OrderedDict) else dict
    before = list(kind.items(value))

    def restore() -> None:
        now = list(kind.items(value))
        if not _same(before, now):
            kind.clear(value)
            for key, held in before:
                kind.__setitem__(value, key, held)

    return restore


def _same(before: list[tuple[Any, Any]], now: list[tuple[Any, Any]]) -> bool:
    return len(before) == len(now) and all(
        one[0] is two[0] and one[1] is two[1] for one, two in zip(before, now, strict=True)
    )


def _class(kind: type) -> Restore:
    before = dict(vars(kind))

    def restore() -> None:
        for name, held in dict(vars(kind)).items():
            if name not in before:
                delattr(kind, name)
            elif held is not before[name]:
                setattr(kind, name, before[name])

    return restore


def _list(value: Any) -> Restore:
    kind = list if isinstance(value, list) else bytearray
    before = kind(value)

    def restore() -> None:
        kind.__setitem__(value, slice(None), before)

    return restore


def _set_or_queue(value: Any) -> Restore:
    kind: Any = set if isinstance(value, set) else deque
    add: Any = set.update if kind is set else deque.extend
    before = list(value)

    def restore() -> None:
        kind.clear(value)
        add(value, before)

    return restore


def _cell(value: types.CellType) -> Iterator[Restore]:
    with contextlib.suppress(ValueError):
        yield functools.partial(setattr, value, "cell_contents", value.cell_contents)


def _tensor(value: Tensor) -> Iterator[Restore]:
    if value.grad_fn is None:
        yield functools.partial(_set_gradient, value, value.requires_grad, value.grad)
    if _is_wrapper(value) or value.is_inference():
        return  # the tensors inside have memory and versions of their own
    if value.layout is torch.strided:
        yield functools.partial(_set_memory, value, value.data)
    version = torch.autograd._unsafe_preserve_version_counter(value)
    yield functools.partial(version.__exit__, None, None, None)


def _is_wrapper(value: Tensor) -> bool:
    return bool(is_traceable_wrapper_subclass(value))


def _set_gradient(tensor: Tensor, requires: bool, gradient: Tensor | None) -> None:
    if tensor.grad_fn is not None:  # the pass wrote something differentiable into it
        tensor.detach_()
    if tensor.requires_grad != requires:
        tensor.requires_grad_(requires)
    if tensor.grad is not gradient:
        tensor.grad = gradient


def _set_memory(tensor: Tensor, before: Tensor) -> None:
    if _layout(tensor) != _layout(before):
        tensor.data = before


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return (
        tensor.untyped_storage()._cdata,
        tensor.shape,
        tensor.stride(),
        tensor.storage_offset(),
        tensor.dtype,
    )


def _of_numpy(value: Any) -> Iterator[Restore]:
    np = sys.modules["numpy"]
    if isinstance(value, np.random.Generator):
        yield functools.partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    elif isinstance(value, np.random.RandomState):
        yield functools.partial(value.set_state, value.get_state())
    elif isinstance(value, np.ndarray) and value.flags.writeable and value.nbytes <= LARGE:
        yield functools.partial(np.copyto, value, value.copy())


def _global_states() -> Iterator[Restore]:
    """Yield how to put back the random states, and what a pass may set for the whole process."""
    yield functools.partial(random.setstate, random.getstate())
    if "numpy" in sys.modules:
        np = sys.modules["numpy"]
        yield functools.partial(np.random.set_state, np.random.get_state())
    yield functools.partial(torch.set_rng_state, torch.get_rng_state())
    for device in (torch.cuda, torch.xpu):
        if device.is_initialized():
            yield functools.partial(device.set_rng_state_all, device.get_rng_state_all())
    if torch.backends.mps.is_available():
        yield functools.partial(torch.mps.set_rng_state, torch.mps.get_rng_state())
    yield functools.partial(torch.set_default_dtype, torch.get_default_dtype())
