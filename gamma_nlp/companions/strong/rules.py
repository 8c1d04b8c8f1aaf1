"""Say when strong regularisation acts: the settings, and the decision at a step.

g is the step that the optimizer took for the loss, r the step that the penalty would take beside
it: both are lengths in w, and can be compared under any optimizer. With R = l1 |w|_1 +
l2 |w|**2 / 2, r is lr (l1 sign(w) + l2 w), or what R takes in another metric. With L1, both are
taken over the weights that are not 0 [R]: L1 has no gradient at the others, and in a network that
is nearly all zeros the loss there would drown the penalty, so that the two would seem coherent just
when the network collapses. Nothing here waits for the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gamma_nlp.companions.arguments import is_number, whole_number
from gamma_nlp.errors import GammaError, listed

Rule = Literal["always", "delayed", "direction", "magnitude"]
Scope = Literal["global", "tensor"]
Metric = Literal["euclidean", "preconditioner"]


@dataclass(frozen=True, kw_only=True)
class StrongSettings:
    """How strongly to regularise and when; :class:`.regularizer.StrongRegularizer` explains each.

    Raises:
        GammaError: A value is out of range.
    """

    l1: float = 0.0
    l2: float = 0.0
    rule: Rule = "direction"
    delay_steps: int = 0
    threshold: float = 0.3
    ratio: float = 3.0
    scope: Scope = "global"
    every: int = 1
    metric: Metric = "euclidean"

    def __post_init__(self) -> None:
        for name in ("l1", "l2", "ratio"):
            value = getattr(self, name)
            if not (is_number(value) and 0 <= value < math.inf):
                raise GammaError(f"{name} must be a number >= 0, got {value!r}")
        if not self.l1 and not self.l2:
            raise GammaError("l1 and l2 are both 0, so nothing would happen; set one of them")
        for name, kind in (("rule", Rule), ("scope", Scope), ("metric", Metric)):
            if getattr(self, name) not in get_args(kind):
                options = listed(get_args(kind))
                raise GammaError(f"{name} must be one of {options}; got {getattr(self, name)!r}")
        if not (is_number(self.threshold) and -1 <= self.threshold <= 1):
            raise GammaError(f"threshold must be a cosine from -1 to 1, got {self.threshold!r}")
        whole_number(self.delay_steps, "delay_steps", least=0)
        whole_number(self.every, "every")
        if self.rule == "delayed" and not self.delay_steps:
            raise GammaError(
                "rule 'delayed' needs delay_steps, the optimizer steps without regularisation"
            )


def decide(
    found: Tensor, settings: StrongSettings, started: bool | Tensor
) -> tuple[Tensor, Tensor]:
    """Return which tensors to shrink, and how coherent the loss's step stays with the penalty's.

    Args:
        found: |g|**2, <g, r> and |r|**2 of each tensor, g and r in the same units.
        settings: The rule and its numbers.
        started: Whether ``settings.delay_steps`` are over.

    Returns:
        Bool of shape [tensors]; cos(g, g + r) of shape [tensors + 1], the last one that of all
        tensors as one vector. It is 0 where g is 0, since then only the penalty acts.
    """
    loss_square, dot, penalty_square = torch.cat([found, found.sum(0, keepdim=True)]).unbind(1)
    both_square = (loss_square + 2 * dot + penalty_square).clamp(min=0)
    coherence = (
        ((loss_square + dot) / (loss_square * both_square).sqrt())
        .nan_to_num(0.0, 0.0, 0.0)
        .clamp(-1, 1)
    )
    if settings.rule == "direction":
        act = coherence >= settings.threshold
    elif settings.rule == "magnitude":
        act = penalty_square <= settings.ratio**2 * loss_square
    else:
        act = torch.ones_like(coherence, dtype=torch.bool)
    act = act & started
    return (act[:-1] if settings.scope == "tensor" else act[-1:].expand(len(found))), coherence
