"""NeMo Automodel 0.7.0: regular expressions, the first that matches decides; multipliers.

Read in the wheel: ``_build_param_groups`` of nemo_automodel/components/optim/optimizer.py, which
searches each name without the parts that activation checkpointing adds, and skips a pattern that
matches nothing with a warning; ``OptimizerParamScheduler`` of scheduler.py there, which alone
multiplies by ``wd_mult``. Its models are transformers', or have their names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module

from gamma_nlp.errors import GammaError
from gamma_nlp.export.engine import Engine, Parameter, Rules, plain, skeleton
from gamma_nlp.export.pieces import REGEX


def _overrides(rules: Rules) -> list[tuple[str, float]]:
    """Return patterns and multipliers of the weight decay of the rest."""
    base = rules.default or 1.0
    return [(rule.pattern, plain(rule.multiplier / base)) for rule in rules.rules]


def emulated(rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Return what its groups would give each parameter once its scheduler has set them."""
    found: dict[str, float] = {}
    for name, _ in parameters:
        plain_name = name.replace("_checkpoint_wrapped_module.", "")
        multiplier = next((m for p, m in _overrides(rules) if re.search(p, plain_name)), 1.0)
        found[name] = rules.base * multiplier
    if missed := [
        r.pattern for r in rules.rules if not any(re.search(r.pattern, n) for n in found)
    ]:
        raise GammaError(f"NeMo Automodel: pattern {missed[0]!r} matches no parameter")
    return found


def applied(rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Return the same by its own code."""
    theirs = import_module("nemo_automodel.components.optim.optimizer")
    overrides = [theirs.ParamGroupOverride(pattern=p, wd_mult=m) for p, m in _overrides(rules)]
    model = skeleton(parameters)
    groups = theirs._build_param_groups(list(model.named_parameters()), overrides)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: rules.base * g.get("wd_mult", 1.0) for g in groups for p in g["params"]}


def write(rules: Rules) -> list[str]:
    """Return the ``optimizer`` section of a recipe."""
    lines = [
        "optimizer:",
        f"  _target_: torch.optim.{'Adam' if rules.coupled else 'AdamW'}",
        "  lr: 1.0e-4  # put yours",
        f"  weight_decay: {rules.base!r}",
    ]
    if rules.rules:
        lines.append("  param_group_overrides:  # need an lr_scheduler section, which applies them")
    for pattern, multiplier in _overrides(rules):
        lines += [f"    - pattern: '{pattern}'", f"      wd_mult: {multiplier!r}"]
    return lines


ENGINE = Engine(
    key="nemo_automodel",
    title="NeMo Automodel 0.7.0",
    syntax=REGEX,
    ordered=True,
    numbers="relative",
    emulated=emulated,
    applied=applied,
    modules=("nemo_automodel.components.optim.optimizer",),
    write=write,
)
