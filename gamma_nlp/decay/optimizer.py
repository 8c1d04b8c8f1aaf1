"""Make any known optimizer with a decay policy: plain groups if they suffice, else a step hook."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gamma_nlp.decay.assign import decays_for, spared_in, table_for, trained_in
from gamma_nlp.decay.attached import attach
from gamma_nlp.decay.decided import Decided, check_rate, planned_groups, read_rates
from gamma_nlp.decay.effect import say_without_effect
from gamma_nlp.decay.group_keys import needs_hook
from gamma_nlp.decay.groups import trainable
from gamma_nlp.decay.known_optimizers import native_mode
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.policy import DecayPolicy, PolicyLike
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.names import renamed_arguments
from gamma_nlp.wrappers import is_copied, plain_names

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
    rates: Iterable[float] | None = None,
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
    groups, decided = decay_groups(
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
    return attach(made, model=model, decided=decided)


def decay_groups(
    model: nn.Module,
    *,
    native: Native,
    weight_decay: float,
    policy: PolicyLike = "guidelines",
    inputs: Any = None,
    table: GainTable | None = None,
    lr: float | torch.Tensor | None = None,
    rates: Iterable[float] | None = None,
    earlier: Mapping[str, Mapping[str, Any]] | None = None,
    copied: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[list[dict[str, Any]], Decided]:
    """Return groups for an optimizer with ``native`` decay, and what they were made from.

    For callers that make the optimizer themselves: they pass the second on to :func:`attach`.
    ``earlier``, ``copied`` and ``dtype`` are those of :func:`.decided.planned_groups`.
    """
    if lr is not None and not isinstance(lr, torch.Tensor):
        check_rate(lr)
    rates = read_rates(rates)
    policy = DecayPolicy.load(policy)
    table = table_for(model, inputs, table, policy)
    decays = decays_for(model, weight_decay=weight_decay, policy=policy, table=table)
    spared = spared_in(policy, table, model)
    say_without_effect(policy, table, trained_in(table, model), spared)
    say_other_mode(policy, native)
    labels = {name: str(role) for name, role in table.roles.items()}
    labels |= {gain.name: _label(gain) for gain in table}
    plain, own = plain_names(labels), plain_names(decays)
    groups = planned_groups(
        trainable(model),
        decays,
        native=native,
        lr=lr,
        rates=rates,
        earlier=earlier,
        copied=copied or is_copied(model),
        dtype=dtype,
    )
    return groups, Decided(
        policy=policy,
        weight_decay=weight_decay,
        native=native,
        labels={plain[name]: label for name, label in labels.items()},
        decays={own[name]: decay for name, decay in decays.items()},
        rates=rates,
    )


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


def _label(gain: Gain) -> str:
    return "unused" if gain.category is None else str(gain.category)
