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

import torch
from torch import Tensor, nn

from gamma_nlp.check.audit.groups import settings_of
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


def wiring(named: Mapping[str, nn.Parameter], groups: Iterable[Group]) -> Wiring:
    """Find the parameters of a model in the groups of its optimizers."""
    by_id = {id(p): name for name, p in named.items()}
    # Megatron keeps the copy at the parameter itself.
    by_id |= {id(p.main_param): name for name, p in named.items() if _has_copy(p)}
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
    absent = {n: p for n, p in named.items() if n not in places}
    copies = _copies(absent, outside) if absent and outside else {}
    for name, place in copies.items():
        places[name] = [place]
    masters |= copies.keys()
    paired = {id(slot) for _, slot in copies.values()}
    missing = {n: p for n, p in absent.items() if n not in copies and p.requires_grad}
    left = [place for place in outside if id(place[1]) not in paired]
    return Wiring(
        places={name: places[name] for name in named if name in places},
        masters=frozenset(masters),
        missing=tuple(missing),
        foreign=tuple((place, _name(place), _why_foreign(place, missing, named)) for place in left),
    )


def _has_copy(parameter: nn.Parameter) -> bool:
    return isinstance(getattr(parameter, "main_param", None), Tensor)


def _is_wider(stepped: Tensor, parameter: Tensor) -> bool:
    return stepped is not parameter and stepped.dtype in WIDE and parameter.dtype in HALVES


def _copies(absent: Mapping[str, nn.Parameter], outside: Sequence[Place]) -> dict[str, Place]:
    """Return the tensors that are master copies of parameters that nothing else holds."""
    plain = {short: name for name, short in plain_names(absent).items()}
    found: dict[str, Place] = {}
    nameless: list[Place] = []
    for place in outside:
        stated = place[1].name
        name = None if stated is None else plain.get(stated, stated if stated in absent else None)
        if name is not None and name not in found and _equals(place[1].tensor, absent[name]):
            found[name] = place
        elif name is None:
            nameless.append(place)
    left = {name: p for name, p in absent.items() if name not in found}
    for own, names in _alike(nameless, left):
        same = {(id(group.optimizer), settings_of(group.settings)) for group, _ in own}
        if len(same) == 1:  # else which is which decides what decays, and cannot be told
            found |= dict(zip(names, own, strict=False))
    return found


def _alike(
    outside: Sequence[Place], absent: Mapping[str, nn.Parameter]
) -> list[tuple[list[Place], list[str]]]:
    """Return the sets of copies and parameters that have the same shape and values."""
    by_shape: dict[torch.Size, list[Place]] = {}
    for place in outside:
        by_shape.setdefault(place[1].tensor.shape, []).append(place)
    sets: list[tuple[list[Place], list[str]]] = []
    for name, p in absent.items():
        known = next((one for one in sets if _same(absent[one[1][0]], p)), None)
        if known is not None:
            known[1].append(name)
            continue
        own = [place for place in by_shape.get(p.shape, []) if _equals(place[1].tensor, p)]
        if own:
            sets.append((own, [name]))
    return sets


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and _equal(one, other)


def _equals(copy: Tensor, parameter: Tensor) -> bool:
    """Return whether a tensor is a parameter in half precision, before it was rounded."""
    wider = copy.dtype in WIDE and parameter.dtype in HALVES
    return wider and copy.shape == parameter.shape and _equal(copy, parameter)


@torch.no_grad()
def _equal(one: Tensor, other: Tensor) -> bool:
    if one.is_meta or other.is_meta or one.shape != other.shape:
        return False  # on the meta device there are no values to compare
    one, other = one.detach(), other.detach()
    for few in (64, one.numel()):  # most that differ do so at once, and whole models are large
        begins = one.reshape(-1)[:few].to(other.device, other.dtype)
        if not begins.equal(other.reshape(-1)[:few]):
            return False
    return True


def _name(place: Place) -> str:
    group, slot = place
    return slot.name or f"{group.label}, number {slot.index}"


def _why_foreign(
    place: Place, missing: Mapping[str, nn.Parameter], named: Mapping[str, nn.Parameter]
) -> str:
    tensor = place[1].tensor
    shape = "x".join(map(str, tensor.shape)) or "a single number"
    it_is = f"{shape}, {str(tensor.dtype).removeprefix('torch.')}; "
    alike = [name for name, p in missing.items() if p.shape == tensor.shape]
    equal = [
        name
        for name in alike
        if _equal(tensor, missing[name]) and not _equals(tensor, missing[name])
    ]
    if equal:
        return (
            f"{it_is}a copy of {listed(equal, most=2)}: make the optimizer from the model that is "
            "trained, after the last change to it"
        )
    if any(_equals(tensor, missing[name]) for name in alike):
        return (
            f"{it_is}a master copy of one of {listed(alike, most=2)}, whose values are the same; "
            "groups with names would tell which"
        )
    resized = [
        name
        for name, p in missing.items()
        if p.ndim == tensor.ndim > 0 and p.shape[1:] == tensor.shape[1:] and p.shape != tensor.shape
    ]
    if alike or resized:
        what = "has the shape of" if alike else "has the shape, but for its length, of"
        return (
            f"{it_is}{what} {listed(alike or resized, most=2)}: make the optimizer after the "
            "model's last change (resize_token_embeddings, a new head, .to())"
        )
    return (
        f"{it_is}of no module of this model; if it is a loss's or another model's, audit "
        "nn.ModuleList([model, loss])"
    )
