from collections.abc import Iterable

"""The one exception of this library: something its user can put right."""


class GammaError(ValueError):
    """Names the user's own thing, what was expected, and what to type next."""


def listed(names: Iterable[str], most: int = 4) -> str:
    """Return names for a message, cut after ``most`` of them."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
