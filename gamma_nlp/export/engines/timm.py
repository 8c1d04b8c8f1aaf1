"""timm 1.0.31 (3 November 2026): shell patterns of what does not decay; yes or no.

Read in the wheel: ``param_groups_weight_decay`` of timm/optim/_param_groups.py: with
``weight_decay_exclude_1d`` no vector, no scalar and no name that ends in ``.bias`` decays, with
``no_weight_decay_list`` nothing that a pattern matches. It takes any module, under its own names.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from importlib import import_module

from gamma_nlp.errors import GammaError
from gamma_nlp.export.engine import Engine, Parameter, Rules, skeleton
from gamma_nlp.export.pieces import GLOB


def is_spared(parameter: Parameter) -> bool:
    """Whether its rule for vectors and biases spares a parameter."""
    return parameter.ndim <= 1 or parameter.name.endswith(".bias")


def emulated(rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Return what its groups would give each parameter."""
    for rule in rules.rules:
        if not any(fnmatch(parameter.name, rule.pattern) for parameter in parameters):
            raise GammaError(f"timm: pattern {rule.pattern!r} matches no parameter")
    return {
        parameter.name: 0.0
        if (rules.spares_vectors and is_spared(parameter))
        or any(fnmatch(parameter.name, rule.pattern) for rule in rules.rules)
        else rules.base
        for parameter in parameters
    }


def applied(rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Return the same by its own code."""
    model = skeleton(parameters)
    groups = import_module("timm.optim").param_groups_weight_decay(
        model,
        weight_decay=rules.base,
        weight_decay_exclude_1d=rules.spares_vectors,
        no_weight_decay_list=[rule.pattern for rule in rules.rules],
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}


def write(rules: Rules) -> list[str]:
    """Return the groups, and the call that takes them."""
    lines = [
        "from timm.optim import create_optimizer_v2, param_groups_weight_decay",
        "",
        "",
        "def decay_groups(model):",
        "    return param_groups_weight_decay(",
        "        model,",
        f"        weight_decay={rules.base!r},",
        f"        weight_decay_exclude_1d={rules.spares_vectors},",
    ]
    if rules.rules:
        patterns = [f'            "{rule.pattern}",' for rule in rules.rules]
        lines += ["        no_weight_decay_list=[", *patterns, "        ],"]
    name = "adam" if rules.coupled else "adamw"
    call = f'create_optimizer_v2(model, opt="{name}", lr=1e-3, param_group_fn=decay_groups)'
    return [*lines, "    )", "", "", f"optimizer = {call}  # put your lr"]


ENGINE = Engine(
    key="timm",
    title="timm 1.0.31",
    syntax=GLOB,
    numbers="on_off",
    spares=is_spared,
    emulated=emulated,
    applied=applied,
    modules=("timm.optim",),
    write=write,
)
