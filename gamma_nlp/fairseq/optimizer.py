"""``--optimizer gamma_adam``: fairseq's adam with decay by category.

fairseq hands bare tensors to an optimizer. So the trainer's plan is active while the optimizer is
built, and tells the constructor the name of each tensor.
"""

import functools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import torch
from fairseq.logging import metrics
from fairseq.optim import AMPOptimizer, register_optimizer
from fairseq.optim.adam import Adam, FairseqAdam, FairseqAdamConfig
from fairseq.optim.fused_adam import FusedAdamV1

from gamma_nlp.decay.announce import GAIN_NORM, announce, gain_norms
from gamma_nlp.decay.attached import attach
from gamma_nlp.decay.decided import Decided, planned_groups
from gamma_nlp.decay.group_keys import OWN_KEYS
from gamma_nlp.decay.optimizer import say_other_mode
from gamma_nlp.decay.plan import plan_decay
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.policy import PRESETS
from gamma_nlp.errors import GammaError
from gamma_nlp.fairseq.plan import TrainerPlan, find_plan
from gamma_nlp.fairseq.tensors import UNFLATTEN, match
from gamma_nlp.gains.table import GainTable, dtype_name

logger = logging.getLogger("gamma_nlp")

NATIVE: Native = "decoupled"
"""The kind of decay that fairseq's adam has by itself."""


def _coefficient(category: str) -> Any:
    text = f"decay coefficient of the {category} gains, instead of the policy's"
    return field(default=None, metadata={"help": text})


# fairseq turns these hints into options and knows `Optional[float]` only, not `float | None`.
@dataclass
class GammaAdamConfig(FairseqAdamConfig):
    """The options of ``gamma_adam``: those of ``adam``, a policy, and four coefficients."""

    decay_policy: str = field(
        default="guidelines",
        metadata={
            "help": f"which parameters --weight-decay acts on: {', '.join(PRESETS)}, or a policy "
            "file (.json, .yaml), which may also say toward what, how, and how it moves over the "
            "run (target, mode, schedule, rounding)"
        },
    )
    decay_branch_last: Optional[float] = _coefficient("branch_last")  # noqa: UP045
    decay_branch_inner: Optional[float] = _coefficient("branch_inner")  # noqa: UP045
    decay_shortcut: Optional[float] = _coefficient("shortcut")  # noqa: UP045
    decay_head: Optional[float] = _coefficient("head")  # noqa: UP045


@register_optimizer("gamma_adam", dataclass=GammaAdamConfig)
class GammaAdam(FairseqAdam):
    """fairseq's adam over the parameter groups of a decay policy."""

    def __init__(self, cfg: Any, params: Any) -> None:
        self._plan = find_plan()
        self._tensors = list(params)
        self._named, self._flat = match(self._tensors, self._plan.parameters)
        say_other_mode(self._plan.policy, NATIVE)
        self._make(cfg)
        self._updates = 0
        self._norms: tuple[int, dict[str, float]] = (0, {})

    def _make(self, cfg: Any, earlier: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Make fairseq's adam over the groups of the plan.

        Args:
            cfg: The options.
            earlier: The group of each parameter in an earlier part of the run.
        """
        plan = self._plan
        groups = planned_groups(
            self._named,
            plan.settings,
            native=NATIVE,
            lr=plan.peak,
            rates=plan.rates,
            earlier=earlier,
        )
        super().__init__(cfg, groups)
        self._coupled = any(group.get("gamma_mode") == "coupled" for group in groups)
        if self._coupled and not isinstance(self._optimizer, Adam):
            raise GammaError(
                f"mode 'coupled' of policy {plan.policy.name!r} needs unscaled gradients, "
                "which fairseq's fused adam never sees; add --use-old-adam"
            )
        if isinstance(self._optimizer, FusedAdamV1):
            _let_the_hook_decay(self.param_groups)
        attach(self._optimizer, model=plan.trainer._model, decided=_decided(plan))
        # fairseq would restore moments by position; load_state_dict restores them by name.
        self._optimizer.disable_mem_eff_fp16_loading_hack = True

    @property
    def params(self) -> Iterator[torch.Tensor]:
        """Return the tensors whose gradients fairseq scales and clips: the flat one, if any."""
        return iter(self._tensors) if self._flat else super().params

    def load_state_dict(
        self, state_dict: dict[str, Any], optimizer_overrides: dict[str, Any] | None = None
    ) -> None:
        """Load moments by parameter name and keep the decay of this run's options.

        Raises:
            GammaError: The state is not ``gamma_adam``'s, or an override would change the decay.
        """
        groups = state_dict["param_groups"]
        if not all("param_names" in group for group in groups):
            raise GammaError(
                "the checkpoint's optimizer was not gamma_adam, so its state has no parameter "
                "names; add --reset-optimizer to start with fresh moments"
            )
        overrides = dict(optimizer_overrides or {})
        if decay := sorted(OWN_KEYS & overrides.keys()):
            raise GammaError(
                f"--optimizer-overrides: {', '.join(decay)} would erase the decay of the "
                "categories; set --weight-decay and --decay-policy, which win over the checkpoint"
            )
        # The values that decide what is deferred have moved since: the run goes on as it was.
        self._make(self.cfg, {name: group for group in groups for name in group["param_names"]})
        super().load_state_dict(state_dict, overrides)
        saved = {
            name: state_dict["state"].get(key)
            for group in groups
            for name, key in zip(group["param_names"], group["params"], strict=True)
        }
        for group in self.param_groups:
            for name, p in zip(group["param_names"], group["params"], strict=True):
                # torch rounded the moments to the parameter's dtype; fairseq keeps them in float32.
                if p.dtype in (torch.float16, torch.bfloat16) and saved[name] is not None:
                    self._optimizer.state[p] = _on(p.device, saved[name])

    def step(self, closure: Any = None, scale: float = 1.0, groups: Any = None) -> None:
        """Make one update; report the decay before the first."""
        if self._flat:
            self._check_views()
        if self._updates == 0:
            self._announce()
        self._updates += 1
        with self._gradients_told():
            super().step(closure, scale, groups)
        self._log_norms()

    @contextmanager
    def _gradients_told(self) -> Iterator[None]:
        """Tell the step hook how small gradients are: fairseq's --amp unscales them twice.

        Adam steps by their ratio and does not mind; what coupled decay adds has to be as small.
        """
        wrapper = self._plan.trainer._optimizer
        scaler = wrapper.scaler if isinstance(wrapper, AMPOptimizer) else None
        if not self._coupled or scaler is None or not scaler.is_enabled():
            yield
            return
        self._optimizer.grad_scale = 1 / scaler.get_scale()
        try:
            yield
        finally:
            del self._optimizer.grad_scale

    def _check_views(self) -> None:
        """Raise if fairseq swapped the flat tensor: the groups would train one left unread."""
        flat = self._tensors[0]
        first = self.param_groups[0]["params"][0]
        for whole, view in ((flat, first), (flat.grad, first.grad)):
            if whole is None or view.untyped_storage()._cdata != whole.untyped_storage()._cdata:
                raise GammaError(
                    "the flat tensor of --fp16 was replaced after gamma_adam split it into "
                    f"parameters; {UNFLATTEN}"
                )

    def _announce(self) -> None:
        trainer, rates = self._plan.trainer, self._plan.rates
        by_group = None if rates is None else [rates] * len(self.param_groups)
        decay = plan_decay(self._optimizer, by_group)
        if not trainer.is_data_parallel_master:
            return
        announce(
            _as_trained(self._plan, self.param_groups),
            decay,
            policy=self._plan.policy,
            weight_decay=self._plan.weight_decay,
            optimizer="gamma_adam",
            steps=0 if rates is None else len(rates),
            autocast=False,
            folder=Path(trainer.cfg.checkpoint.save_dir),
            remedy="train with --fp16 or --amp instead of --memory-efficient-fp16",
        )

    def _log_norms(self) -> None:
        for category in sorted({str(gain.category) for gain in self._plan.table if gain.category}):
            norm = functools.partial(self._norm, category)
            metrics.log_derived(f"{GAIN_NORM}{category}", norm, priority=1500)

    def _norm(self, category: str, meters: Any) -> float:
        if self._norms[0] != self._updates:  # computed only for updates that are logged
            norms = gain_norms(self._plan.trainer._model, self._plan.table)
            self._norms = (self._updates, norms)
        return round(self._norms[1][category], 5)


def _decided(plan: TrainerPlan) -> Decided:
    labels = {name: str(role) for name, role in plan.table.roles.items()}
    labels |= {gain.name: str(gain.category or "unused") for gain in plan.table}
    return Decided(
        policy=plan.policy,
        weight_decay=plan.weight_decay,
        native=NATIVE,
        labels=labels,
        decays=plan.settings,
        rates=plan.rates,
    )


def _on(device: torch.device, state: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's state on a device; fairseq reads checkpoints to the CPU."""
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in state.items()}


def _let_the_hook_decay(groups: list[dict[str, Any]]) -> None:
    """Let the hook do all decay toward other centers than 0.

    apex's older fused kernel decays by the step size after bias correction, not by the learning
    rate. Moving the center of such decay needs to know it; toward 0 it stays as stock adam's.
    """
    for group in groups:
        if group.get("gamma_part") == "center":
            group["gamma_part"] = "all"


def _as_trained(plan: TrainerPlan, groups: Any) -> GainTable:
    """Return the gain table with the dtype that decay rounds to: that of the float32 copies."""
    dtypes = {
        name: dtype_name(p)
        for group in groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }
    gains = [replace(gain, dtype=dtypes.get(gain.name, gain.dtype)) for gain in plan.table]
    return replace(plan.table, gains=tuple(gains))
