"""What a config may ask for: counted before and while a model is built, so that no file hangs.

A model of a million layers, or of more memory than there is, is a slip or an attack. Whoever means
it builds the model in Python and passes it to ``categorize``, which has no such limits.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from gamma_nlp.errors import GammaError, shown

MOST_LAYERS = 2_000
"""The deepest models have 1,000."""

MOST_COUNTED = 1_000_000
"""Labels, experts or blocks."""

MOST_POSITIONS = 100_000_000
"""Some models fill a table of positions in Python, row by row."""

MOST_MODULES = 200_000
"""The largest models of many experts have about 125,000."""

_LAYERS = re.compile(r"(n|num)_\w*layers?|n_layer|\w*_layers|layers|(\w+_)?depths?")
_COUNT = re.compile(r"(n|num)_\w*(label|expert|block|group|stage|channel)s?|\w*_(blocks|repeats)")
_POSITIONS = re.compile(r"\w*positions?(_embeddings)?|\w*max_(length|len|seq_len)")
_BEYOND = "to build it all the same, do so in Python and call gamma_nlp.categorize(model)"


def check_counts(where: object, content: Any, key: str = "", at: str = "") -> None:
    """Refuse a config with counts that no model has, before transformers acts on them.

    Args:
        where: What to call the file in an error.
        content: The config, or a part of it.
        key: The name of this part.
        at: Where the part stands, for the message.

    Raises:
        GammaError: A count is negative or beyond the limit; it is named with the limit.
    """
    if isinstance(content, dict):
        for name, value in content.items():
            check_counts(where, value, str(name), f"{at}.{name}" if at else str(name))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            check_counts(where, value, key, f"{at}[{number}]")
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        layers = bool(_LAYERS.fullmatch(key))
        most = _most(key)
        if most is not None and content > most:
            raise GammaError(
                f"{where}: {at} is {shown(content)}, more than any model has (at most {most:,}); "
                f"{_BEYOND}"
            )
        if layers and content < 0 and not at.endswith("]"):
            raise GammaError(f"{where}: {at} must be at least 0, got {shown(content)}")


def _most(key: str) -> int | None:
    if _LAYERS.fullmatch(key):
        return MOST_LAYERS
    if _COUNT.fullmatch(key):
        return MOST_COUNTED
    return MOST_POSITIONS if _POSITIONS.fullmatch(key) else None


@contextlib.contextmanager
def limited_modules(name: str) -> Iterator[None]:
    """Refuse, while it is built, a model of more modules than any has.

    Args:
        name: What to call the model in the error.

    Raises:
        GammaError: It has.
    """
    count, thread = 0, threading.get_ident()

    def add(module: nn.Module, key: str, child: nn.Module | None) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > MOST_MODULES:
            raise GammaError(
                f"{name}: its config asks for more than {MOST_MODULES:,} modules, more than any "
                f"model has; {_BEYOND}"
            )

    hook = register_module_module_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()


def check_memory(model: nn.Module, name: str) -> None:
    """Refuse to fill a model with weights that do not fit in memory.

    Args:
        model: The model on the meta device.
        name: What to call it in the error.

    Raises:
        GammaError: It needs more than is free.
    """
    weights = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    needed = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    free = _free_memory()
    if free is not None and needed > free:
        raise GammaError(
            f"{name}: random weights for its config take {needed / 1e9:,.1f} GB, and "
            f"{free / 1e9:,.1f} GB of memory are free; give a config with smaller sizes"
        )


def _free_memory() -> int | None:
    """Return the bytes of memory that are free, or None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = {line.partition(":")[0]: line.split()[1] for line in file}
        return 1024 * int(found["MemAvailable"])
    except (OSError, ValueError, KeyError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
