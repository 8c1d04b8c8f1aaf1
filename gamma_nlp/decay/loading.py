"""Load a saved state by parameter name, under the decay that an optimizer has now."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from gamma_nlp.decay.decided import Decided
from gamma_nlp.decay.group_keys import DECAY_KEYS, still_deferred
from gamma_nlp.decay.saved_state import fit_state_dict
from gamma_nlp.decay.step_hook import hook_if_needed
from gamma_nlp.errors import listed

logger = logging.getLogger("gamma_nlp")


class Loading:
    """Loads a saved state by parameter name, under the decay that the optimizer has now."""

    def __init__(self, labels: dict[str, str], decided: Decided | None) -> None:
        self.labels = labels
        self.decided = decided
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
            if self.decided is not None:
                names = group["param_names"]
                saved = [self.loaded[name] for name in names]
                known = self.decided.decays
                if all(known[name].rounding == "defer" for name in names if name in known):
                    group.update(still_deferred(group, saved, self.decided.native))
        hook_if_needed(optimizer)
        self.report(optimizer)

    def report(self, optimizer: Optimizer) -> None:
        changed: dict[str, list[str]] = {}
        for group in optimizer.param_groups:
            now = _decay_text(group)
            for name in group["param_names"]:
                before = _decay_text(self.loaded[name])
                known = "weight_decay" in self.loaded[name]
                if known and before != now:
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
    former = group.get("gamma_decay", group.get("weight_decay", 0.0))
    text = f"{float(group.get('gamma_base', former)):g}"
    if "gamma_part" in group:
        text += f" {group['gamma_mode']}" * (group["gamma_part"] != "center")
        text += " deferred" * (group["gamma_part"] == "deferred")
        center = group["gamma_center"]
        text += f" toward {center if center == 'start' else f'{center:g}'}" if center else ""
    return text + (f" by {group['gamma_schedule']}" if "gamma_schedule" in group else "")
