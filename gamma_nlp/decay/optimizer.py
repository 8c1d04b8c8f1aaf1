"""Make any known optimizer with a decay policy: plain groups if they suffice, else a step hook."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gamma_nlp.decay.effect import say_without_effect
from gamma_nlp.decay.groups import (
    Decay,
    PolicyLike,
    decays_for,
    merged_groups,
    table_for,
    trainable,
    trained_in,
)
from gamma_nlp.decay.known_optimizers import native_mode
from gamma_nlp.decay.policy import DecayPolicy, Native
from gamma_nlp.decay.rounding import with_deferral
from gamma_nlp.decay.saved_state import DECAY_KEYS, fit_state_dict
from gamma_nlp.decay.step_hook import StepHook
from gamma_nlp.decay.untrained import watch
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.names import renamed_arguments
from gamma_nlp.wrappers import plain_names

logger = logging.getLogger("gamma_nlp")


@renamed_arguments(example_inputs="inputs")
def make_optimizer(
    optimizer_class: type[Optimizer],
    model: nn.Module,
    *,
    weight_decay: float,
    lr: float | torch.Tensor | None,
    policy: PolicyLike = "guidelines",
    inputs: Any = None,
    table: GainTable | None = None,
    native_decay: str | None = None,
    rates: Sequence[float] | None = None,
    **kwargs: Any,
) -> Optimizer:
    """Make an optimizer that decays each parameter of ``model`` as ``policy`` says.

    Where the optimizer's own decay suffices, the result is a plain optimizer with groups. A step
    hook adds the rest: targets other than parameter 0, such as that of gains stored as 1 + weight,
    schedules, decay that rounding would cancel, and everything under a policy whose mode is not
    the optimizer's. Saved states load by parameter name, and the policy given here wins over the
    saved one.

    Args:
        optimizer_class: Such as ``torch.optim.AdamW``; the known ones are listed in
            :mod:`gamma_nlp.decay.known_optimizers`.
        model: The model to train.
        weight_decay: The coefficient that the policy multiplies.
        lr: Learning rate, passed on.
        policy: A preset's name, a file, or a :class:`DecayPolicy`.
        inputs: Example inputs for :func:`categorize`, where it cannot make them itself.
        table: The model's gain table, if you have it already.
        native_decay: ``coupled`` or ``decoupled``, for an optimizer class that is not listed.
        rates: The planned learning rate of every step. It tells where rounding would cancel decay,
            where a ramp ends, and when the last deferred decay is due. Without it ``lr`` is taken
            for the rate of every step and for the peak.
        **kwargs: Everything else the class takes (``betas``, ``fused``, ...).

    Raises:
        GammaError: An optimizer that is unknown or takes no decay per group; ``weight_decay=0``
            where the policy would decay a gain; a pattern that matches no parameter.

    Example:
        AdamW itself can decay as the preset ``guidelines`` asks:

        >>> import torch
        >>> from torch import nn
        >>> from gamma_nlp import DecayPolicy, make_optimizer
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> x = torch.randn(3, 4)
        >>> optimizer = make_optimizer(
        ...     torch.optim.AdamW, model, weight_decay=0.1, lr=1e-3, inputs=x
        ... )
        >>> for group in optimizer.param_groups:
        ...     print(group["weight_decay"], *group["param_names"])
        0.1 0.weight 2.weight
        0.0 0.bias 1.weight 1.bias 2.bias

        A gain of your own that is stored as 1 + weight is decayed toward gain 0 by the hook:

        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.norm = nn.RMSNorm(4, elementwise_affine=False)
        ...         self.gain, self.linear = nn.Parameter(torch.zeros(4)), nn.Linear(4, 4)
        ...     def forward(self, x):
        ...         return x + self.linear(self.norm(x) * (1 + self.gain))
        >>> model = Block()
        >>> optimizer = make_optimizer(
        ...     torch.optim.AdamW, model, weight_decay=0.1, lr=1e-3, inputs=x
        ... )
        >>> [group.get("gamma_center") for group in optimizer.param_groups]
        [-1.0, None, None]

        A policy of your own, here half strength for gains inside branches; the decay of SGD stays
        L2 in the gradient, as the optimizer's own is:

        >>> policy = DecayPolicy(branch_inner=0.5)
        >>> optimizer = make_optimizer(
        ...     torch.optim.SGD, model, weight_decay=0.1, lr=0.1, policy=policy, inputs=x
        ... )
        >>> model(x).square().sum().backward()
        >>> optimizer.step()
    """
    native = native_mode(optimizer_class, kwargs, native_decay)
    groups, labels = decay_groups(
        model,
        native=native,
        weight_decay=weight_decay,
        policy=policy,
        inputs=inputs,
        table=table,
        lr=lr,
        rates=rates,
    )
    if needs_hook(groups):
        check_hookable(optimizer_class, lr, kwargs)
    made = optimizer_class(groups, lr=lr, **kwargs)  # type: ignore[call-arg]
    return attach(made, labels, model)


def decay_groups(
    model: nn.Module,
    *,
    native: Native,
    weight_decay: float,
    policy: PolicyLike = "guidelines",
    inputs: Any = None,
    table: GainTable | None = None,
    lr: float | torch.Tensor | None = None,
    rates: Sequence[float] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return groups for an optimizer with ``native`` decay, and each parameter's label for logs.

    For callers that make the optimizer themselves: they pass the labels on to :func:`attach`.
    """
    table = table_for(model, inputs, table)
    policy = DecayPolicy.load(policy)
    decays = decays_for(model, weight_decay=weight_decay, policy=policy, table=table)
    say_without_effect(policy, table, trained_in(table, model))
    say_other_mode(policy, native)
    labels = {name: str(role) for name, role in table.roles.items()}
    labels |= {gain.name: _label(gain) for gain in table}
    plain = plain_names(labels)
    named = trainable(model)
    groups = planned_groups(named, decays, native=native, lr=lr, rates=rates)
    return groups, {plain[name]: label for name, label in labels.items()}


def say_other_mode(policy: DecayPolicy, native: Native) -> None:
    """Log that a policy asks for a kind of decay that is not the optimizer's own."""
    if policy.mode not in ("native", native):
        logger.info(
            "policy %r asks for %s decay, and the optimizer's own is %s: a step hook decays every "
            "parameter, and the optimizer none; mode 'native' keeps the optimizer's",
            policy.name,
            policy.mode,
            native,
        )


def planned_groups(
    named: Mapping[str, nn.Parameter],
    decays: Mapping[str, Decay],
    *,
    native: Native,
    lr: float | torch.Tensor | None,
    rates: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Return the groups of :func:`merged_groups`, with decay deferred where rounding cancels it."""
    planned = list(rates) if rates else [] if lr is None else [float(lr)]
    decays = with_deferral(named, decays, native=native, rates=planned)
    peak, steps = max(planned, default=0.0), len(rates) if rates else None
    return merged_groups(named, decays, native=native, peak=peak, steps=steps)


def needs_hook(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the optimizer needs the step hook for these groups."""
    return any("gamma_part" in group or "gamma_schedule" in group for group in groups)


def attach(
    optimizer: Optimizer,
    labels: Mapping[str, str] | None = None,
    model: nn.Module | None = None,
) -> Optimizer:
    """Give an optimizer made from :func:`decay_groups` its hooks, and return it.

    The hooks decay before each step where a group asks for it, load saved states by parameter
    name with the current decay, and follow the optimizer through deep copies and pickling. With
    ``model``, parameters of it that are unfrozen, added or replaced later, and so do not train,
    are warned of; copies of the optimizer do not watch.
    """
    _add_hooks(optimizer, dict(labels or {}))
    if model is not None:
        watch(optimizer, model)
    return optimizer


def is_attached(optimizer: Optimizer) -> bool:
    """Return whether an optimizer went through :func:`attach`, or is a copy of one that did."""
    return "__reduce_ex__" in vars(optimizer)


def check_hookable(optimizer_class: type[Optimizer], lr: Any, kwargs: Mapping[str, Any]) -> None:
    """Refuse an optimizer whose steps the hook cannot follow.

    Raises:
        GammaError: It makes its own learning rate, has none, or hides skipped steps.
    """
    name = optimizer_class.__qualname__
    if optimizer_class.__module__ == "transformers.optimization" and (
        lr is None or kwargs.get("relative_step", True) or kwargs.get("scale_parameter", True)
    ):
        raise GammaError(
            f"{name} makes its own learning rate, which the decay this policy needs (a step "
            "hook) cannot see; pass lr, relative_step=False and scale_parameter=False"
        )
    if lr is None:
        raise GammaError(f"{name}: this policy needs the step hook, which needs an lr")
    if "grad_scaler" in inspect.signature(optimizer_class.step).parameters and kwargs.get(
        "capturable"
    ):
        raise GammaError(
            f"{name} with capturable=True hides overflowing steps from the step hook that this "
            "policy needs; leave capturable out"
        )


def _add_hooks(optimizer: Optimizer, labels: dict[str, str]) -> None:
    if needs_hook(optimizer.param_groups):
        StepHook().add_to(optimizer)
    loading = _Loading(labels)
    if type(optimizer).load_state_dict is Optimizer.load_state_dict:
        optimizer.register_load_state_dict_pre_hook(loading.before)
        optimizer.register_load_state_dict_post_hook(loading.after)
    else:  # bitsandbytes has its own load_state_dict, which runs no hooks
        optimizer.__dict__["load_state_dict"] = partial(loading.run, optimizer)
    # Copied and pickled optimizers lose their hooks, and would then silently not decay.
    optimizer.__dict__["__reduce_ex__"] = partial(_reduce, optimizer, labels)


def _reduce(optimizer: Optimizer, labels: dict[str, str], protocol: Any) -> tuple[Any, ...]:
    return _revive, (type(optimizer), optimizer.__getstate__(), labels)


def _revive(
    optimizer_class: type[Optimizer], state: dict[str, Any], labels: dict[str, str]
) -> Optimizer:
    optimizer = optimizer_class.__new__(optimizer_class)
    optimizer.__setstate__(state)
    _add_hooks(optimizer, labels)
    return optimizer


class _Loading:
    """Loads a saved state by parameter name, under the decay that the optimizer has now."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.present: list[dict[str, Any]] = []
        self.loaded: dict[str, dict[str, Any]] = {}

    def before(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        fitted, self.loaded = fit_state_dict(optimizer, state_dict)
        self.present = [
            {key: group[key] for key in (*DECAY_KEYS, "param_names") if key in group}
            for group in optimizer.param_groups
        ]
        return fitted

    def after(self, optimizer: Optimizer) -> None:
        for group, present in zip(optimizer.param_groups, self.present, strict=True):
            for key in DECAY_KEYS:
                group.pop(key, None)
            group.update(present)
        self.report(optimizer)

    def report(self, optimizer: Optimizer) -> None:
        changed: dict[str, list[str]] = {}
        for group in optimizer.param_groups:
            now = _decay_text(group)
            for name in group["param_names"]:
                before = _decay_text(self.loaded[name])
                if before != now:
                    change = f"{self.labels.get(name, 'parameter')}: {before} -> {now}"
                    changed.setdefault(change, []).append(name)
        for change, names in changed.items():
            logger.info("decay changed on load, %s (%d: %s)", change, len(names), listed(names))
            logger.debug("%s: %s", change, ", ".join(names))

    def run(
        self, optimizer: Optimizer, state_dict: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        fitted = self.before(optimizer, dict(state_dict))
        type(optimizer).load_state_dict(optimizer, fitted, *args, **kwargs)
        self.after(optimizer)


def _decay_text(group: Mapping[str, Any]) -> str:
    text = f"{float(group.get('gamma_base', group.get('weight_decay', 0.0))):g}"
    if "gamma_part" in group:
        text += f" {group['gamma_mode']}" * (group["gamma_part"] != "center")
        text += " deferred" * (group["gamma_part"] == "deferred")
        center = group["gamma_center"]
        text += f" toward {center if center == 'start' else f'{center:g}'}" if center else ""
    return text + (f" by {group['gamma_schedule']}" if "gamma_schedule" in group else "")


def _label(gain: Gain) -> str:
    return "unused" if gain.category is None else str(gain.category)
