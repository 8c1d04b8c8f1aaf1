"""Operations on lists of tensors, ``torch._foreach_add`` and its kind, as one call for each tensor.

::

    torch._foreach_add([x, y], [f, g])      is      x + f, y + g
"""

from __future__ import annotations

from typing import Any

import torch

_PREFIX = "_foreach_"
_PLAIN = {"norm": "linalg_vector_norm"}
"""Names of the operation on one tensor, where it is another."""


def plain(func: Any) -> Any:
    """Return the operation on one tensor that one on lists stands for; ``None`` if it is none."""
    name = getattr(getattr(func, "overloadpacket", None), "__name__", "")
    if not name.startswith(_PREFIX):
        return None
    own = name.removeprefix(_PREFIX)
    return getattr(torch.ops.aten, _PLAIN.get(own, own), None)


def one_by_one(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
    """Carry out an operation on lists tensor by tensor, and return what it returns."""
    operation = plain(func)
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    if "addc" in func._schema.name and "scalars" in given:
        given["value"] = given.pop("scalars")
    named = {key: given.pop(key) for key in ("alpha", "value", "dtype") if key in given}
    found = []
    for i in range(len(args[0])):
        options = {key: _at(i, value) for key, value in named.items()}
        found.append(operation(*(_at(i, value) for value in given.values()), **options))
    return found if func._schema.returns else None


def _at(index: int, value: Any) -> Any:
    return value[index] if isinstance(value, (list, tuple)) else value
