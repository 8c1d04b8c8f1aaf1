"""Say which parameters a model trains for nothing: those that its optimizer does not hold.

An optimizer holds the parameters that were trainable when it was made. One that is unfrozen, added
or replaced later gets gradients and never moves, and no error says so.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gamma_nlp.errors import listed
from gamma_nlp.wrappers import plain_names

logger = logging.getLogger("gamma_nlp")

EVERY = 100
"""Steps between two looks at the whole model; frozen parameters are looked at in every step."""


_watched: weakref.WeakSet[Optimizer] = weakref.WeakSet()


def watch(optimizer: Optimizer, model: nn.Module) -> None:
    """Warn after a step of parameters of ``model`` that no watched optimizer holds."""
    _watched.add(optimizer)
    optimizer.register_step_post_hook(Watch(model))


class Watch:
    """The hook that :func:`watch` registers; it does not keep the model alive."""

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)
        named = dict(model.named_parameters())
        plain = plain_names(named)
        self._known = {plain[name] for name, p in named.items() if p.requires_grad}
        self._frozen = [weakref.ref(p) for p in named.values() if not p.requires_grad]
        self._told: set[str] = set()
        self._steps = 0

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        thawed = any((p := ref()) is not None and p.requires_grad for ref in self._frozen)
        if thawed or self._steps % EVERY == 0:
            self._look(optimizer)
        self._steps += 1

    def _look(self, optimizer: Optimizer) -> None:
        model = self._model()
        if model is None:
            return
        named = dict(model.named_parameters())
        plain = plain_names(named)
        held = {id(p) for own in _watched for group in own.param_groups for p in group["params"]}
        outside = {plain[n]: p for n, p in named.items() if p.requires_grad and id(p) not in held}
        outside = {name: p for name, p in outside.items() if name not in self._told}
        if new := [name for name in outside if name not in self._known]:
            logger.warning(
                "not trained, since the optimizer was made when they were frozen or not in the "
                "model: %s. Make it when every parameter is there and trainable, and freeze "
                "afterwards what should wait: an optimizer skips what has no gradient",
                listed(new),
            )
        before = _by_name(optimizer)
        replaced = [
            name
            for name, p in outside.items()
            if name in before and p.grad is not None and not _stands_in(before[name], p)
        ]
        if replaced:
            logger.warning(
                "not trained, since they were replaced after the optimizer was made, which still "
                "holds the tensors from before: %s. Make it after the model's last change",
                listed(replaced),
            )
        self._told |= {*new, *replaced}
        frozen = [ref for ref in self._frozen if (p := ref()) is not None and not p.requires_grad]
        self._frozen = frozen


def _stands_in(held: nn.Parameter, p: nn.Parameter) -> bool:
    """Return whether a tensor of the optimizer is a copy in float32 that gets p's gradient."""
    return held.grad is not None and held.dtype != p.dtype


def _by_name(optimizer: Optimizer) -> dict[str, nn.Parameter]:
    # Engines that swap a group for flat tensors leave its names behind.
    return {
        name: p
        for group in optimizer.param_groups
        if len(group["params"]) == len(group.get("param_names", ()))
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }
