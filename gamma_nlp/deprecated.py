"""Old names, which work for one release and say what they are called now."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def renamed_arguments(**names: str) -> Callable[[F], F]:
    """Let a function take keyword arguments by their old names too: ``old="new"``.

    The old name gives a DeprecationWarning at the caller's line; both at once are a TypeError, as
    an argument that is given twice always is.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                new, what = names[old], function.__qualname__.removesuffix(".__init__")
                if new in kwargs:
                    raise TypeError(f"{what} got {new}= twice: {old}= is its old name")
                message = f"{what}: {old}= is called {new}= now"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
