"""Parameters that are added to an optimizer later get the decay of its policy."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.decay.decided import Decided, planned_groups
from gamma_nlp.decay.step_hook import hook_if_needed
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.wrappers import plain_names


class AddParamGroup:
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
        hook_if_needed(optimizer)

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
