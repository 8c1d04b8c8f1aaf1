"""What a model or its inputs hold: containers, objects, hooks, and the tensors in them."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections import UserDict, UserList, deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

DEPTH = 3
"""How many objects that are neither modules nor containers to follow on the way to a value."""
MOST = 1_000_000
"""How many values to look at; the nearest come first."""

_PLAIN = (
    type(None), bool, int, float, complex, str, bytes, type, range, torch.dtype, torch.device,
    torch.Size, types.ModuleType, types.BuiltinFunctionType,
)  # fmt: skip
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_RUNS = (nn.Module, types.FunctionType, types.MethodType, functools.partial)
_OPEN = (types.SimpleNamespace, UserDict, UserList)
_CLOSED = frozenset(sys.stdlib_module_names) | {"torch", "numpy"}


def tensors_in(values: Any) -> list[Tensor]:
    """Return the tensors in inputs or outputs: in containers, dataclasses and other objects."""
    return [v for v in reached((values,), functions=False) if isinstance(v, Tensor)]


def tensors_of(model: nn.Module) -> list[Tensor]:
    """Return the tensors that a model holds: parameters, buffers, and all that is reached."""
    return [v for v in reached((model,), functions=True) if isinstance(v, Tensor)]


def opaque_in(model: nn.Module) -> list[Any]:
    """Return the objects that a model holds and that hold nothing to follow, such as a lock."""
    return [v for v in reached((model,), functions=True) if _is_object(v) and not any(_parts(v))]


def reached(roots: Iterable[Any], *, functions: bool) -> Iterator[Any]:
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
        for base in own_classes(value):
            yield from (held for held in vars(base).values() if isinstance(held, _CONTAINERS))
    if is_open(value):
        yield getattr(value, "__dict__", None)
        yield from (getattr(value, name, None) for name in slots(value))


def is_open(value: Any) -> bool:
    """Return whether the attributes of a value are followed: those of users' and models' classes.

    Objects of the standard library may belong to other threads (queues, loggers).
    """
    if isinstance(value, (nn.Module, Tensor)) or type(value) in _OPEN:
        return True
    return type(value).__module__.partition(".")[0] not in _CLOSED


def own_classes(module: nn.Module) -> list[type]:
    """Return the classes of a module that are not PyTorch's."""
    bases = type(module).__mro__
    return [
        base for base in bases if base.__module__.partition(".")[0] not in _CLOSED | {"builtins"}
    ]


def slots(value: Any) -> list[str]:
    """Return the names of the attributes that a value keeps in slots."""
    if isinstance(value, (Tensor, nn.Module)):
        return []
    named: list[str] = []
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        named += [slots] if isinstance(slots, str) else list(slots)
    return [name for name in named if not name.startswith("__")]
