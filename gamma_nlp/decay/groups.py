"""Merge parameters of equal decay into the fewest parameter groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from gamma_nlp.decay.assign import Decay, decays_for, spared_in, table_for, trained_in
from gamma_nlp.decay.effect import say_without_effect
from gamma_nlp.decay.group_keys import decay_keys
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.policy import DecayPolicy, PolicyLike
from gamma_nlp.decay.schedule import LR
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.gains.table import GainTable
from gamma_nlp.names import renamed_arguments
from gamma_nlp.wrappers import mesh_of, plain_names


@renamed_arguments(example_inputs="inputs")
def param_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    policy: PolicyLike = "guidelines",
    inputs: Any = None,
    table: GainTable | None = None,
) -> list[dict[str, Any]]:
    """Return parameter groups for any optimizer, whose own kind of weight decay they use.

    Every trainable parameter is in exactly one group, tied ones once; frozen ones are in none.
    Parameters with equal decay share a group, so there are as few groups as possible.

    Args:
        model: The model to train.
        weight_decay: The coefficient that the policy multiplies.
        policy: A preset's name, a file, or a :class:`DecayPolicy`.
        inputs: Example inputs for :func:`categorize`, where it cannot make them itself.
        table: The model's gain table, if you have it already.

    Returns:
        Dicts with ``params``, ``param_names`` (same order) and ``weight_decay``.

    Raises:
        GammaError: The policy asks for what plain groups cannot express (a kind of decay that is
            not the optimizer's, a target other than parameter 0, such as that of a gain stored as
            1 + weight, or a schedule): use :func:`make_optimizer`.

    Example:
        The gain of this norm comes before the output, so ``guidelines`` spares it:

        >>> import torch
        >>> from torch import nn
        >>> from gamma_nlp import DecayPolicy, param_groups
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> x = torch.randn(3, 4)
        >>> for group in param_groups(model, weight_decay=0.1, inputs=x):
        ...     print(group["weight_decay"], *group["param_names"])
        0.1 0.weight 2.weight
        0.0 0.bias 1.weight 1.bias 2.bias

        In a residual network of your own, the gain of a pre-norm branch decays:

        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 4)
        ...     def forward(self, x):
        ...         return x + self.linear(self.norm(x))
        >>> model = nn.Sequential(Block(), nn.LayerNorm(4))
        >>> for group in param_groups(model, weight_decay=0.1, inputs=x):
        ...     print(group["weight_decay"], *group["param_names"])
        0.1 0.norm.weight 0.linear.weight
        0.0 0.norm.bias 0.linear.bias 1.weight 1.bias

        A policy of your own sets a number per category, kind or name:

        >>> policy = DecayPolicy(branch_inner=0.5, patterns={"1.*": 0.25})
        >>> groups = param_groups(model, weight_decay=0.1, policy=policy, inputs=x)
        >>> [group["weight_decay"] for group in groups]
        [0.05, 0.0, 0.1, 0.025]
        >>> optimizer = torch.optim.AdamW(groups, lr=1e-3)
    """
    policy = DecayPolicy.load(policy)
    table = table_for(model, inputs, table, policy)
    decays = decays_for(model, weight_decay=weight_decay, policy=policy, table=table)
    named = trainable(model)
    decayed = {name: decays[name] for name in named if decays[name].coefficient > 0}
    _need_plain([n for n, d in decayed.items() if d.mode == "coupled"], "mode 'coupled'")
    _need_plain([n for n, d in decayed.items() if d.schedule != LR], "a schedule")
    _need_plain([n for n, d in decayed.items() if d.center == "start"], "the target 'start'")
    _need_plain(
        [n for n, d in decayed.items() if d.center],
        "decay toward anything but parameter 0, as for a gain that is 1 + weight",
    )
    spared = spared_in(policy, table, model)
    say_without_effect(policy, table, trained_in(table, model), spared)
    return merged_groups(named, decays, native="decoupled")


def _need_plain(names: Sequence[str], what: str) -> None:
    if names:
        raise GammaError(
            f"{listed(names)}: plain parameter groups cannot express {what}; use "
            "gamma_nlp.make_optimizer(optimizer_class, model, ...)"
        )


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters by name, each once, in the model's order.

    Raises:
        GammaError: There is none.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise GammaError("the model has no trainable parameter; set requires_grad on some")
    return named


def merged_groups(
    named: Mapping[str, nn.Parameter],
    decays: Mapping[str, Decay],
    *,
    native: Native,
    peak: float = 0.0,
    steps: int | None = None,
) -> list[dict[str, Any]]:
    """Return the fewest groups for an optimizer whose own decay is ``native``.

    ``weight_decay`` is the coefficient of every group. Where the optimizer cannot do all of it,
    the group has keys for the step hook, see :mod:`.step_hook`. Small tensors stand together at
    the end of a group: between large ones they break up the calls of multi-tensor kernels. Each
    device mesh has groups of its own.

    Args:
        named: The parameters.
        decays: The decay of each.
        native: The optimizer's own kind.
        peak: The largest learning rate of the run, for schedules.
        steps: Optimizer steps of the run, if they are known.

    Raises:
        GammaError: A ramp without steps, or a constant schedule in the gradient.
    """
    alike: dict[tuple[Any, ...], dict[Any, dict[str, Any]]] = {}
    plain = plain_names(decays)
    order = {plain[name]: number for number, name in enumerate(named)}
    for name in sorted(named, key=lambda name: named[name].numel() < SMALL):
        keys = decay_keys(name, decays[name], native=native, peak=peak, steps=steps)
        # Fused and multi-tensor kernels cannot span device meshes, nor take DTensors and others.
        own = alike.setdefault(tuple(keys.items()), {})
        group = own.setdefault(mesh_of(named[name]), {"params": [], "param_names": [], **keys})
        group["params"].append(named[name])
        group["param_names"].append(plain[name])

    def first(group: Mapping[str, Any]) -> int:
        return min(order[name] for name in group["param_names"])

    found = [sorted(own.values(), key=first) for own in alike.values()]
    result = [group for own in sorted(found, key=lambda own: first(own[0])) for group in own]
    ids = [id(parameter) for group in result for parameter in group["params"]]
    assert len(ids) == len(set(ids)) == len(named), "a parameter must be in exactly one group"
    return result


SMALL = 65_536
"""Tensors with fewer elements fill less than one block of a multi-tensor kernel."""
