"""Whether an optimizer has more parameter groups than settings, and how their rates differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from gamma_nlp.check.audit.acting import peak_rate
from gamma_nlp.check.audit.held import Group


def more_than_needed(groups: Sequence[Group]) -> list[str]:
    """Return a line for each set of groups that could be one, and for groups without parameters.

    Kernels do not span device meshes, so groups of different meshes are needed.
    """
    alike: dict[Any, list[Group]] = {}
    empty = []
    for group in groups:
        if not group.slots:
            empty.append(group)
            continue
        meshes = frozenset(str(getattr(s.tensor, "device_mesh", "")) for s in group.slots)
        alike.setdefault((group.kind, meshes), []).append(group)
    return [*_merged(list(alike.values())), *_empty(empty)]


def _merged(sets: Sequence[Sequence[Group]]) -> Iterator[str]:
    for own in sets:
        if len(own) > 1:
            names = [group.label for group in own]
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            yield f"{'; '.join(names[:4])}{more}: equal settings, so these {len(own)} could be one"


def _empty(groups: Sequence[Group]) -> Iterator[str]:
    for group in groups:
        decay = group.settings.get("weight_decay")
        has = "" if decay is None else f", weight_decay {float(decay):g}"
        yield f"{group.label}{has}: no parameter, so what it was made for matched nothing"


def rates(groups: Sequence[Group]) -> list[str]:
    """Return a line per learning rate, where groups that hold something differ in it.

    Layer-wise rates are many: the largest are named.
    """
    found: dict[float | None, list[Group]] = {}
    for group in groups:
        if group.slots:
            found.setdefault(peak_rate(group.settings), []).append(group)
    if len(found) < 2:
        return []
    ordered = sorted(found.items(), key=lambda item: math.inf if item[0] is None else item[0])
    lines = [_rate(rate, own) for rate, own in reversed(ordered)]
    if len(lines) <= _MOST_RATES:
        return lines
    more, least = len(lines) - _MOST_RATES, ordered[0][0]
    return [*lines[:_MOST_RATES], f"and {more} more, down to {least:g}"]


_MOST_RATES = 6


def _rate(rate: float | None, own: Sequence[Group]) -> str:
    labels = "; ".join(one.label for one in own[:4])
    more = f" and {len(own) - 4} more" if len(own) > 4 else ""
    tensors = sum(len(one.slots) for one in own)
    number = "its own" if rate is None else f"{rate:g}"
    return f"{number}: {labels}{more} ({tensors} tensor{'' if tensors == 1 else 's'})"
