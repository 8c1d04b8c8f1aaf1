"""What stays with an optimizer: its hooks, how it loads a state, and parameters that come later."""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.decay.groups import Decay, merged_groups
from gamma_nlp.decay.loading import Loading
from gamma_nlp.decay.policy import DecayPolicy, Native
from gamma_nlp.decay.rounding import with_deferral
from gamma_nlp.decay.saved_state import as_told
from gamma_nlp.decay.step_hook import StepHook
from gamma_nlp.decay.untrained import watch
from gamma_nlp.errors import GammaError, listed, shown
from gamma_nlp.wrappers import plain_names


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What an optimizer's groups were made from.

    Attributes:
        policy: The decay policy.
        weight_decay: The coefficient that it multiplies.
        native: The optimizer's own kind of decay.
        labels: Category or role of each parameter by plain name, for logs.
        decays: The decay of each parameter of the model, frozen ones too, by plain name.
        rates: The planned learning rates.
    """

    policy: DecayPolicy
    weight_decay: float
    native: Native
    labels: Mapping[str, str] = field(default_factory=dict)
    decays: Mapping[str, Decay] = field(default_factory=dict)
    rates: Sequence[float] | None = None


def planned_groups(
    named: Mapping[str, nn.Parameter],
    decays: Mapping[str, Decay],
    *,
    native: Native,
    lr: float | Tensor | None,
    rates: Sequence[float] | None = None,
    earlier: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return the groups of :func:`merged_groups`, with decay deferred where rounding cancels it.

    Args:
        named: The parameters.
        decays: The decay of each.
        native: The optimizer's own kind.
        lr: The learning rate, where ``rates`` are unknown.
        rates: The planned learning rates.
        earlier: The group of each parameter in an earlier part of the run. Where its decay is the
            same, it is deferred or not as it was: the values that decide have moved since.

    Raises:
        GammaError: A learning rate that is none; whatever :func:`merged_groups` refuses.
    """
    planned = list(rates) if rates else [] if lr is None else [float(lr)]
    for rate in planned:
        check_rate(rate)
    decays = with_deferral(named, decays, native=native, rates=planned)
    peak, steps = max(planned, default=0.0), len(rates) if rates else None
    groups = merged_groups(named, decays, native=native, peak=peak, steps=steps)
    if not earlier:
        return groups
    kept = dict(decays)
    plain = plain_names(decays)
    present = {name: group for group in groups for name in group["param_names"]}
    for name in named:
        group, before = present[plain[name]], earlier.get(plain[name])
        same = before is not None and as_told(group, native) == as_told(before, native)
        if before is not None and same and decays[name].rounding == "defer":
            kept[name] = dataclasses.replace(decays[name], share=before.get("gamma_share", 0.0))
    return merged_groups(named, kept, native=native, peak=peak, steps=steps)


def check_rate(rate: Any, name: str = "lr") -> None:
    """Refuse what is no learning rate.

    Raises:
        GammaError: Not a number, not finite or negative.
    """
    number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not number or not 0 <= rate < math.inf:
        raise GammaError(f"{name} must be a finite number >= 0, got {shown(rate)}")


def read_rates(rates: Any) -> list[float] | None:
    """Return the planned learning rate of every step as numbers; ``None`` for none.

    Raises:
        GammaError: It is no sequence of them.
    """
    if rates is None:
        return None
    try:
        read = [rate.item() if hasattr(rate, "item") else rate for rate in rates]
    except (TypeError, ValueError, RuntimeError):  # no sequence, or one of several numbers each
        read = []
    if not read or isinstance(rates, str | bytes):
        raise GammaError(
            f"rates must be the learning rates of the run, one for every step, got {shown(rates)}; "
            "write for example rates=[1e-3] * 1000, or leave it out"
        )
    for step, rate in enumerate(read):
        check_rate(rate, f"rates[{step}]")
    return read


def needs_hook(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the optimizer needs the step hook for these groups."""
    return any("gamma_part" in group or "gamma_schedule" in group for group in groups)


def attach(
    optimizer: Optimizer,
    labels: Mapping[str, str] | None = None,
    model: nn.Module | None = None,
    *,
    decided: Decided | None = None,
) -> Optimizer:
    """Give an optimizer made from :func:`.optimizer.decay_groups` its hooks, and return it.

    The hooks decay before each step where a group asks for it, load saved states by parameter
    name with the current decay, and follow the optimizer through deep copies and pickling. With
    ``model``, parameters of it that are unfrozen, added or replaced later, and so do not train,
    are warned of; copies of the optimizer do not watch.

    Args:
        optimizer: Made from such groups.
        labels: Category or role of each parameter, for logs; by default those of ``decided``.
        model: The model of the groups. ``optimizer.add_param_group`` then finds the decay of its
            parameters by name.
        decided: What the groups were made from.
    """
    labels = dict(labels or (decided.labels if decided else {}))
    _add_hooks(optimizer, labels, decided)
    optimizer.__dict__["add_param_group"] = _Adding(optimizer, model, decided)
    if model is not None:
        watch(optimizer, model)
    return optimizer


def is_attached(optimizer: Optimizer) -> bool:
    """Return whether an optimizer went through :func:`attach`, or is a copy of one that did."""
    return "__reduce_ex__" in vars(optimizer)


def decided_for(optimizer: Optimizer) -> Decided | None:
    """Return what the groups of an optimizer were made from, if that is known."""
    adding = vars(optimizer).get("add_param_group")
    return adding.decided if isinstance(adding, _Adding) else None


def _add_hooks(optimizer: Optimizer, labels: dict[str, str], decided: Decided | None) -> None:
    _hook_if_needed(optimizer)
    loading = Loading(labels, decided, _hook_if_needed)
    if type(optimizer).load_state_dict is Optimizer.load_state_dict:
        optimizer.register_load_state_dict_pre_hook(loading.before)
        optimizer.register_load_state_dict_post_hook(loading.after)
    else:  # bitsandbytes has its own load_state_dict, which runs no hooks
        optimizer.__dict__["load_state_dict"] = partial(loading.run, optimizer)
    # Copied and pickled optimizers lose their hooks, and would then silently not decay.
    optimizer.__dict__["__reduce_ex__"] = partial(_reduce, optimizer, labels, decided)


def _hook_if_needed(optimizer: Optimizer) -> None:
    present = optimizer._optimizer_step_pre_hooks.values()
    if any(isinstance(getattr(hook, "__self__", None), StepHook) for hook in present):
        return
    if needs_hook(optimizer.param_groups):
        StepHook().add_to(optimizer)


def _reduce(
    optimizer: Optimizer, labels: dict[str, str], decided: Decided | None, protocol: Any
) -> tuple[Any, ...]:
    if decided is not None:  # a copy does not know its model, so names mean nothing to it
        decided = dataclasses.replace(decided, decays={}, rates=None)
    return _revive, (type(optimizer), optimizer.__getstate__(), labels, decided)


def _revive(
    optimizer_class: type[Optimizer],
    state: dict[str, Any],
    labels: dict[str, str],
    decided: Decided | None = None,
) -> Optimizer:
    optimizer = optimizer_class.__new__(optimizer_class)
    optimizer.__setstate__(state)
    _add_hooks(optimizer, labels, decided)
    optimizer.__dict__["add_param_group"] = _Adding(optimizer, None, decided)
    return optimizer


class _Adding:
    """``add_param_group`` that gives parameters of the model the policy's decay."""

    def __init__(
        self, optimizer: Optimizer, model: nn.Module | None, decided: Decided | None
    ) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._model = (lambda: None) if model is None else weakref.ref(model)
        self.decided = decided

    def __call__(self, param_group: dict[str, Any]) -> None:
        """Add a group, or several where its parameters have different decay.

        Raises:
            GammaError: No ``weight_decay`` for parameters that the policy does not know.
        """
        optimizer = self._optimizer()
        assert optimizer is not None  # it holds this object
        named, asked = self._named(param_group, optimizer)
        options = {k: v for k, v in param_group.items() if k not in ("params", "param_names")}
        groups = [{"params": list(named.values()), "param_names": list(named)}]
        if "weight_decay" not in param_group:
            lr = options.get("lr", optimizer.defaults.get("lr"))
            groups = self._decided_groups(named, asked, lr)
        for group in groups:
            clock = _clock(optimizer.param_groups, group)
            type(optimizer).add_param_group(optimizer, {**options, **group, **clock})
        _hook_if_needed(optimizer)

    def _named(
        self, param_group: dict[str, Any], optimizer: Optimizer
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return parameters by new names, and the name under which the policy knows each."""
        params = param_group["params"]
        given = [params] if isinstance(params, Tensor) else list(params)
        own = param_group.get("param_names") or [None] * len(given)
        pairs = [
            one if isinstance(one, tuple) else (name, one)
            for name, one in zip(own, given, strict=True)
        ]
        model = self._model()
        names = {} if model is None else {id(p): name for name, p in model.named_parameters()}
        plain = plain_names(names.values())
        taken = {name for group in optimizer.param_groups for name in group["param_names"]}
        named: dict[str, Any] = {}
        asked: dict[str, str] = {}
        for told, p in pairs:
            known = plain[names[id(p)]] if id(p) in names else told or "added"
            name, number = known, 0
            while name in taken or name in named:
                name, number = f"{known}.{number}", number + 1
            named[name], asked[name] = p, known
        return named, asked

    def _decided_groups(
        self, named: Mapping[str, Any], asked: Mapping[str, str], lr: Any
    ) -> list[dict[str, Any]]:
        decided = self.decided
        known = decided.decays if decided else {}
        if unknown := [name for name in named if asked[name] not in known]:
            raise GammaError(
                f"add_param_group: the decay policy does not know {listed(unknown)} (of shape "
                f"{tuple(named[unknown[0]].shape)}), not in the model when the optimizer was made; "
                "say the decay: add_param_group({'params': [...], 'weight_decay': 0.0})"
            )
        assert decided is not None
        decays = {name: known[asked[name]] for name in named}
        return planned_groups(named, decays, native=decided.native, lr=lr, rates=decided.rates)


def _clock(present: Sequence[Mapping[str, Any]], group: Mapping[str, Any]) -> dict[str, int]:
    """Return how many steps a run has made, for a group whose decay depends on it."""
    wanted = {"gamma_step": "gamma_schedule", "gamma_calls": "gamma_share"}
    made = max(int(one.get(key, 0)) for one in present for key in wanted)
    return {key: made for key, why in wanted.items() if made and why in group}
