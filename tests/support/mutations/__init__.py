"""Changes of single clauses of the source, and modules compiled from the changed source."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple


class Mutation(NamedTuple):
    """A change of the source: ``old``, which occurs there exactly once, becomes ``new``."""

    name: str
    old: str
    new: str


def mutant(module: ModuleType, mutation: Mutation | None) -> ModuleType:
    """A fresh module of the changed source of ``module``; of the source as it is for ``None``."""
    source = inspect.getsource(module)
    if mutation is not None:
        count = source.count(mutation.old)
        assert count == 1, f"{mutation.name}: occurs {count} times in {module.__name__}"
        assert mutation.old != mutation.new
        source = source.replace(mutation.old, mutation.new)
    fresh = ModuleType(module.__name__)  # dataclasses look their module up by its name
    exec(compile(source, f"<{mutation.name if mutation else 'unchanged'}>", "exec"), vars(fresh))
    return fresh


def remade(
    modules: Sequence[ModuleType],
    changed: ModuleType | None = None,
    mutation: Mutation | None = None,
) -> ModuleType:
    """The last of some modules, all made again from their source, one of them changed.

    Each module stands after those that it takes names from, and takes them from the fresh ones.
    """
    fresh: dict[str, ModuleType] = {}
    for module in modules:
        made = mutant(module, mutation if module is changed else None)
        for name, value in list(vars(made).items()):
            home = fresh.get(getattr(value, "__module__", None) or "")
            if isinstance(value, ModuleType):
                setattr(made, name, fresh.get(value.__name__, value))
            elif home is not None and name in vars(home):
                setattr(made, name, vars(home)[name])
        fresh[module.__name__] = made
    return made
