"""What optimizers hold: their parameter groups, through the wrappers of others.

A wrapper may put other tensors into the groups of the optimizer inside it: copies in float32, or
flat ones that stand for many parameters. Where it keeps a list of what they stand for, that is
read; nothing is imported.

=================================  ===========================================================
wrapper                            what is read
=================================  ===========================================================
accelerate, fairseq, apex          ``optimizer``
ZeroRedundancyOptimizer, SAM       the class of ``optim`` or ``base_optimizer``, their own groups
Lightning                          what ``configure_optimizers`` returns, without schedulers
torchtitan, Megatron, layer-wise   ``optimizers``, ``chained_optimizers``, ``optimizer_dict``
fairseq ``--fp16``                 ``fp16_params`` beside ``fp32_params``, flat or not
DeepSpeed (ZeRO 1, 2, fp16, bf16)  ``bit16_groups``, ``fp16_groups``, ``bf16_groups``
DeepSpeed (ZeRO 3)                 the same with ``sub_group_to_group_id``
=================================  ===========================================================
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gamma_nlp.decay.group_keys import needs_hook
from gamma_nlp.decay.step_hook import has_hook
from gamma_nlp.errors import GammaError

_SEVERAL = ("optimizers", "chained_optimizers", "optimizer_dict")
_INNER = ("optimizer", "fp32_optimizer", "wrapped_optimizer")
_STEPS_FOR = ("optim", "base_optimizer")
_LISTS = ("bit16_groups", "bf16_groups", "fp16_groups")
_LABELS = frozenset(
    # What only names a group, or changes with the steps.
    ("params", "param_names", "name", "group_name", "gamma_due", "gamma_taken", "gamma_calls")
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Slot:
    """One place in a parameter group.

    Attributes:
        tensor: The parameter that it trains, as far as wrappers tell.
        stepped: The tensor that the optimizer itself changes; ``None`` where it is not known.
        name: What the group calls it, if it has names.
        index: Its number in the group.
    """

    tensor: Tensor
    stepped: Tensor | None
    name: str | None
    index: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """One parameter group.

    Attributes:
        optimizer: The innermost optimizer, which makes the steps.
        settings: Its settings as they act: without the keys of a step hook that is not there.
        label: For messages: ``group 0``, or ``Muon, group 0`` where there are several optimizers.
        slots: What it holds.
        unhooked: Whether it asks for a step hook that the optimizer lacks.
    """

    optimizer: Optimizer
    settings: Mapping[str, Any]
    label: str
    slots: tuple[Slot, ...]
    unhooked: bool = False

    @cached_property
    def kind(self) -> Hashable:
        """What groups have in common whose parameters are treated alike."""
        settings = (item for item in self.settings.items() if item[0] not in _LABELS)
        return id(self.optimizer), tuple(sorted((key, _plain(value)) for key, value in settings))


def _plain(value: Any) -> str:
    return repr(value.item() if isinstance(value, Tensor) and value.numel() == 1 else value)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Opened:
    optimizer: Optimizer
    stands_for: Mapping[int, Sequence[Tensor]]  # by the id of the tensor in a group
    lists: Mapping[int, Sequence[Tensor]]  # by the number of the group


def groups_of(given: Any) -> list[Group]:
    """Return all parameter groups of an optimizer or of several.

    Raises:
        GammaError: Something in it is no optimizer, or there is none.
    """
    opened = {id(one.optimizer): one for one in _open(given, {}, {})}
    if not opened:
        raise GammaError(f"{_EXPECTED}, got an empty {type(given).__name__}")
    labels = _labels([one.optimizer for one in opened.values()])
    return [
        _group(one, number, group, label)
        for one, label in zip(opened.values(), labels, strict=True)
        for number, group in enumerate(one.optimizer.param_groups)
    ]


_EXPECTED = "optimizer= takes a torch.optim.Optimizer, wrapped or not, or a list or dict of them"


def _open(
    given: Any, stands_for: Mapping[int, Sequence[Tensor]], lists: Mapping[int, Sequence[Tensor]]
) -> Iterator[_Opened]:
    given = _of_lightning(given)
    several = given if isinstance(given, (Mapping, list, tuple)) else _several(given)
    if several is not None:
        for one in several.values() if isinstance(several, Mapping) else several:
            yield from _open(one, stands_for, lists)
        return
    stands_for = {**stands_for, **_copies(given)}
    lists = _lists(given) or lists
    inner = next((one for key in _INNER if _steps(one := _get(given, key))), None)
    if _steps(given) and inner is not None:
        yield from _open(inner, stands_for, lists)
    elif _steps(given):
        yield _Opened(optimizer=given, stands_for=stands_for, lists=lists)
    else:
        hint = ", not its class" if isinstance(given, type) else ""
        raise GammaError(f"{_EXPECTED}{hint}, got {_shown(given)}{_instead(given)}")


def _of_lightning(given: Any) -> Any:
    """Return the optimizers of what ``configure_optimizers`` gives, and anything else as it is."""
    if isinstance(given, Mapping) and "optimizer" in given:
        return given["optimizer"]
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        return given
    optimizers, schedulers = given
    lists = isinstance(optimizers, (list, tuple)) and isinstance(schedulers, (list, tuple))
    return optimizers if lists and schedulers and all(map(_schedules, schedulers)) else given


def _schedules(one: Any) -> bool:
    return isinstance(one, LRScheduler) or (isinstance(one, Mapping) and "scheduler" in one)


def _steps(one: Any) -> bool:
    return not isinstance(one, type) and isinstance(_get(one, "param_groups"), (list, tuple))


def _get(one: Any, key: str) -> Any:
    try:
        return getattr(one, key, None)
    except Exception:  # a property of somebody else's wrapper, before it is ready
        return None


def _several(one: Any) -> Mapping[Any, Any] | Sequence[Any] | None:
    for key in _SEVERAL:
        found = _get(one, key)
        if isinstance(found, (Mapping, list, tuple)) and found:
            values = list(found.values()) if isinstance(found, Mapping) else list(found)
            if all(map(_steps, values)):
                return values
    return None


def _copies(one: Any) -> dict[int, Sequence[Tensor]]:
    """Return what the copies in float32 of fairseq and Megatron stand for."""
    halved, full = _get(one, "fp16_params"), _get(one, "fp32_params")
    if halved is None or full is None:
        return {}
    if isinstance(full, Tensor):
        return {id(full): list(halved)}
    if isinstance(full, Mapping):
        return {
            id(flat): [p for p in halved if p.requires_grad and p.device.index == device]
            for device, flat in full.items()
        }
    return {id(copy): [p] for p, copy in zip(halved, full, strict=False)}


def _lists(one: Any) -> dict[int, list[Tensor]]:
    """Return the parameters of each group that DeepSpeed made flat tensors of."""
    for key in _LISTS:
        found = _get(one, key)
        if isinstance(found, (list, tuple)) and found and isinstance(found[0], (list, tuple)):
            number = _get(one, "sub_group_to_group_id") or {}
            lists: dict[int, list[Tensor]] = {}
            for index, own in enumerate(found):
                lists.setdefault(number.get(index, index), []).extend(own)
            return lists
    return {}


def _group(one: _Opened, number: int, group: Mapping[str, Any], label: str) -> Group:
    label = f"{label}, group {number}" if label else f"group {number}"
    _check(group, label)
    makes_steps = _makes_steps(one.optimizer)
    hooked = has_hook(one.optimizer) or has_hook(makes_steps)
    unhooked = needs_hook([group]) and not hooked
    settings = group
    if unhooked:
        settings = {key: value for key, value in group.items() if not key.startswith("gamma_")}
    return Group(
        optimizer=makes_steps,
        settings=settings,
        label=label,
        slots=tuple(_slots(one, number, group)),
        unhooked=unhooked,
    )


def _makes_steps(one: Optimizer) -> Optimizer:
    """Return the optimizer inside one that has groups of its own, or shares them."""
    for _ in range(_DEPTH):
        inner = next((own for key in _STEPS_FOR if _steps(own := _get(one, key))), None)
        if inner is None:
            break
        one = inner
    return one


_DEPTH = 8  # more than anybody nests


def _check(group: Mapping[str, Any], label: str) -> None:
    """Insist on settings that a step can use; torch looks at those of the constructor only."""
    for key in ("lr", "weight_decay", "wd"):
        value = group.get(key)
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta:
            value = value.item()
        outside = isinstance(value, (int, float)) and not 0 <= value < math.inf
        if outside or isinstance(value, str):
            raise GammaError(f"{label} has {key}={value!r}; expected a number of 0 or more")


def _slots(one: _Opened, number: int, group: Mapping[str, Any]) -> Iterator[Slot]:
    params = list(group["params"])
    names = list(group.get("param_names") or [])
    if number in one.lists:
        flat = params[0] if params else None
        for index, p in enumerate(one.lists[number]):
            yield Slot(tensor=p, stepped=flat, name=None, index=index)
        return
    for index, p in enumerate(params):
        name = names[index] if len(names) == len(params) else None
        for own in one.stands_for.get(id(p), (p,)):
            yield Slot(tensor=own, stepped=p, name=name, index=index)


def _labels(optimizers: Sequence[Optimizer]) -> list[str]:
    if len(optimizers) == 1:
        return [""]
    names = [type(one).__name__ for one in optimizers]
    return [
        f"{name} {names[: at + 1].count(name)}" if names.count(name) > 1 else name
        for at, name in enumerate(names)
    ]


def _shown(given: Any) -> str:
    return given.__name__ if isinstance(given, type) else f"a {type(given).__name__}"


def _instead(given: Any) -> str:
    inner = None if isinstance(given, type) else _get(given, "optimizer")
    return "; pass its .optimizer" if _steps(inner) else ""
