"""Which parameters of a model an optimizer holds: none missing, none twice, none of others.

A parameter is recognised by being the same tensor, so that a tied one counts once. A tensor in
float32 or wider that equals a missing parameter in half precision is its *master copy*, which mixed
precision keeps in the optimizer. Where several parameters have the same values, as gains have at
first, the copies are told apart by their names in the group, or by their order if all of them have
the same settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.check.audit.held import Group, Slot
from gamma_nlp.errors import listed
from gamma_nlp.wrappers import plain_names

HALVES = (torch.float16, torch.bfloat16)
WIDE = (torch.float32, torch.float64)
Place = tuple[Group, Slot]


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """Where the parameters of a model are in its optimizers.

    Attributes:
        places: The places of each parameter that is held, by the model's names.
        masters: The names of those that are held as a copy in float32.
        missing: The names of trainable parameters that are nowhere.
        foreign: The places of tensors that are not the model's, each with a name and why.
    """

    places: Mapping[str, Sequence[Place]]
    masters: frozenset[str]
    missing: tuple[str, ...]
    foreign: tuple[tuple[Place, str, str], ...]


@torch.no_grad()
def wiring(named: Mapping[str, nn.Parameter], groups: Iterable[Group]) -> Wiring:
    """Find the parameters of a model in the groups of its optimizers."""
    by_id = {id(p): name for name, p in named.items()}
    # Megatron keeps the copy at the parameter itself.
    by_id |= {
        id(copy): n
        for n, p in named.items()
        if (copy := getattr(p, "main_param", None)) is not None
    }
    places: dict[str, list[Place]] = {}
    outside: list[Place] = []
    masters = set()
    for group in groups:
        for slot in group.slots:
            name = by_id.get(id(slot.tensor))
            if name is None:
                outside.append((group, slot))
                continue
            places.setdefault(name, []).append((group, slot))
            if slot.stepped is not None and _is_wider(slot.stepped, named[name]):
                masters.add(name)
    marks = _Marks()
    absent = _Absent({n: p for n, p in named.items() if n not in places}, marks)
    copies = absent.copies(outside)
    for name, place in copies.items():
        places[name] = [place]
    masters |= copies.keys()
    paired = {id(slot) for _, slot in copies.values()}
    left = [place for place in outside if id(place[1]) not in paired]
    missing = _Absent(
        {n: p for n, p in absent.named.items() if n not in copies and p.requires_grad}, marks
    )
    return Wiring(
        places={name: places[name] for name in named if name in places},
        masters=frozenset(masters),
        missing=tuple(missing.named),
        foreign=tuple(
            (place, _name(place), missing.why_foreign(place[1].tensor)) for place in left
        ),
    )


def _is_wider(stepped: Tensor, parameter: Tensor) -> bool:
    return stepped is not parameter and stepped.dtype in WIDE and parameter.dtype in HALVES


class _Absent:
    """Parameters that no group holds as they are, to be found by shape and values."""

    def __init__(self, named: Mapping[str, nn.Parameter], marks: _Marks) -> None:
        self.named = named
        self._marks = marks
        self._by_kind: dict[Any, list[str]] = {}
        self._by_shape: dict[Any, list[str]] = {}
        self._by_rest: dict[Any, list[str]] = {}
        for name, p in named.items():
            self._by_kind.setdefault((p.shape, p.dtype), []).append(name)
            self._by_shape.setdefault(p.shape, []).append(name)
            if p.ndim:
                self._by_rest.setdefault(p.shape[1:], []).append(name)
        self._alike: dict[Any, dict[Any, list[list[str]]]] = {}

    def equal(self, tensor: Tensor, dtype: torch.dtype) -> list[str]:
        """Return the parameters of a dtype that equal a tensor, rounded to it."""
        kind = tensor.shape, dtype
        if kind not in self._by_kind or (mark := self._marks(tensor, dtype)) is None:
            return []
        if kind not in self._alike:
            self._alike[kind] = self._sorted(self._by_kind[kind])
        for names in self._alike[kind].get(mark, ()):
            if _equal(tensor, self.named[names[0]]):
                return names
        return []

    def _sorted(self, names: Sequence[str]) -> dict[Any, list[list[str]]]:
        """Return parameters of one kind by their marks, those of equal values together."""
        found: dict[Any, list[list[str]]] = {}
        for name in names:
            p = self.named[name]
            classes = found.setdefault(self._marks(p, p.dtype), [])
            for own in classes:
                if _equal(p, self.named[own[0]]):
                    own.append(name)
                    break
            else:
                classes.append([name])
        found.pop(None, None)
        return found

    def mastered(self, copy: Tensor) -> list[str]:
        """Return the parameters in half precision that a tensor may be the master copy of."""
        if copy.dtype not in WIDE:
            return []
        return [name for dtype in HALVES for name in self.equal(copy, dtype)]

    def copies(self, outside: Sequence[Place]) -> dict[str, Place]:
        """Return the tensors that are master copies, each with its parameter."""
        plain = {short: name for name, short in plain_names(self.named).items()}
        found: dict[str, Place] = {}
        nameless: dict[tuple[str, ...], list[Place]] = {}
        for place in outside:
            names = self.mastered(place[1].tensor)
            stated = plain.get(place[1].name or "", place[1].name)
            if stated in names and stated not in found:
                found[stated] = place
            elif names and stated not in self.named:
                nameless.setdefault(tuple(names), []).append(place)
        for alike, own in nameless.items():
            same = {group.kind for group, _ in own}
            if len(same) == 1 or len(alike) == 1:  # else it would be a guess what decays
                free = [name for name in alike if name not in found]
                found |= dict(zip(free, own, strict=False))
        return found

    def why_foreign(self, tensor: Tensor) -> str:
        """Return what a tensor is that is not the model's, and what to do about it."""
        shape = "x".join(map(str, tensor.shape)) or "a single number"
        it_is = f"{shape}, {str(tensor.dtype).removeprefix('torch.')}; "
        if names := self.equal(tensor, tensor.dtype):
            return (
                f"{it_is}a copy of {listed(names, most=2)}: make the optimizer from the model that "
                "is trained, after the last change to it"
            )
        if names := self.mastered(tensor):
            return (
                f"{it_is}a master copy of one of {listed(names, most=2)}, whose values are the "
                "same; groups with names would tell which"
            )
        if names := self._by_shape.get(tensor.shape, []):
            return f"{it_is}has the shape of {listed(names, most=2)}: {_AFTER}"
        if names := self._by_rest.get(tensor.shape[1:], []) if tensor.ndim else []:
            return f"{it_is}has the shape, but for its length, of {listed(names, most=2)}: {_AFTER}"
        return (
            f"{it_is}of no module of this model; if it is a loss's or another model's, audit "
            "nn.ModuleList([model, loss])"
        )


_AFTER = (
    "make the optimizer after the model's last change (resize_token_embeddings, a new head, .to())"
)


def _name(place: Place) -> str:
    group, slot = place
    return slot.name or f"{group.label}, number {slot.index}"


class _Marks:
    """What tensors of equal values have in common; most that differ do so at once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, torch.dtype], tuple[float, ...]] = {}

    def __call__(self, tensor: Tensor, dtype: torch.dtype) -> tuple[float, ...] | None:
        """Return the mark of a tensor that is rounded to a dtype."""
        if tensor.is_meta:
            return None  # there are no values to compare
        key = id(tensor), dtype
        if key not in self._known:
            self._known[key] = tuple(tensor.detach().reshape(-1)[:8].to(dtype).tolist())
        return self._known[key]


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool(one.detach().to(other.device, other.dtype).equal(other.detach()))
