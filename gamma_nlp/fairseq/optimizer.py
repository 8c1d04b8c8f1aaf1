"""``--optimizer gamma_adam``: fairseq's adam with decay by category.

fairseq hands bare tensors to an optimizer. So the trainer's plan is active while the optimizer is
built, and tells the constructor the name of each tensor.
"""

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import torch
from fairseq.logging import metrics
from fairseq.optim import register_optimizer
from fairseq.optim.adam import Adam, FairseqAdam, FairseqAdamConfig
from fairseq.trainer import Trainer

from gamma_nlp.decay.announce import GAIN_NORM, announce, gain_norms
from gamma_nlp.decay.optimizer import attach, planned_groups
from gamma_nlp.decay.plan import plan_decay
from gamma_nlp.decay.policy import PRESETS
from gamma_nlp.decay.saved_state import DECAY_KEYS
from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.fairseq.plan import UNFLATTEN, TrainerPlan, active, find_plan, make_plan, match
from gamma_nlp.fairseq.schedule import rates_of_fairseq
from gamma_nlp.gains.table import GainTable, dtype_name

logger = logging.getLogger("gamma_nlp")


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
            "file (.json, .yaml)"
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
        named, self._flat = match(self._tensors, self._plan)
        groups = planned_groups(named, self._plan.settings, native="decoupled", lr=float(cfg.lr[0]))
        super().__init__(cfg, groups)
        coupled = any(group.get("gamma_mode") == "coupled" for group in groups)
        if coupled and not isinstance(self._optimizer, Adam):
            raise GammaError(
                f"mode 'coupled' of policy {self._plan.policy.name!r} needs unscaled gradients, "
                "which fairseq's fused adam never sees; add --use-old-adam"
            )
        labels = {name: str(role) for name, role in self._plan.table.roles.items()}
        labels |= {gain.name: str(gain.category or "unused") for gain in self._plan.table}
        attach(self._optimizer, labels, self._plan.trainer._model)
        # fairseq would restore moments by position; load_state_dict restores them by name.
        self._optimizer.disable_mem_eff_fp16_loading_hack = True
        self._updates = 0
        self._norms: tuple[int, dict[str, float]] = (0, {})

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
        if decay := sorted({*DECAY_KEYS, "params", "param_names"} & overrides.keys()):
            raise GammaError(
                f"--optimizer-overrides: {', '.join(decay)} would erase the decay of the "
                "categories; set --weight-decay and --decay-policy, which win over the checkpoint"
            )
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
                    self._optimizer.state[p] = saved[name]

    def step(self, closure: Any = None, scale: float = 1.0, groups: Any = None) -> None:
        """Make one update; report the decay before the first."""
        if self._flat:
            self._check_views()
        if self._updates == 0:
            self._announce()
        self._updates += 1
        super().step(closure, scale, groups)
        self._log_norms()

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
        trainer = self._plan.trainer
        rates = rates_of_fairseq(trainer)
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


def _as_trained(plan: TrainerPlan, groups: Any) -> GainTable:
    """Return the gain table with the dtype that decay rounds to: that of the float32 copies."""
    dtypes = {
        name: dtype_name(p)
        for group in groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }
    gains = [replace(gain, dtype=dtypes.get(gain.name, gain.dtype)) for gain in plan.table]
    return replace(plan.table, gains=tuple(gains))


def _uses_gamma_adam(trainer: Any) -> bool:
    return getattr(trainer.cfg.optimizer, "_name", None) == "gamma_adam"


_stock_build = Trainer._build_optimizer


@functools.wraps(_stock_build)
def _build_optimizer(self: Any) -> None:
    if not _uses_gamma_adam(self):
        _stock_build(self)
        return
    _check_flat(self.cfg.common)
    with active(make_plan(self)):
        _stock_build(self)


def _check_flat(common: Any) -> None:
    """Raise if ``--fp16`` would put its flat tensor on a GPU and there is none."""
    other = (common.fp16_no_flatten_grads, common.memory_efficient_fp16, common.amp, common.bf16)
    if not common.fp16 or any(other):
        return
    try:
        torch.cuda.current_device()
    except (AssertionError, RuntimeError) as error:
        raise GammaError(
            f"--fp16 keeps its flat tensor on a GPU, and torch finds none ({one_line(error)}); "
            f"{UNFLATTEN}"
        ) from error


_stock_load = Trainer.load_checkpoint


@functools.wraps(_stock_load)
def _load_checkpoint(self: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return _stock_load(self, filename, *args, **kwargs)
    except AssertionError as error:
        changes = _changes(self) if _uses_gamma_adam(self) else []
        if not changes:
            raise
        raise GammaError(
            f"{filename}: {' and '.join(changes)}, so its moments cannot be used; continue with "
            "the optimizer, criterion and precision of that run, or add --reset-optimizer to keep "
            "only its weights: moments start over, and updates count from 0"
        ) from error


def _changes(trainer: Any) -> list[str]:
    """Return what differs between the run of the checkpoint just read and this one."""
    last = trainer._optim_history[-1] if trainer._optim_history else {}
    present = {"criterion": trainer.get_criterion(), "optimizer": trainer.optimizer}
    pairs = {what: (last.get(f"{what}_name"), type(one).__name__) for what, one in present.items()}
    return [
        f"its {what} was another ({before} vs {now})"
        for what, (before, now) in pairs.items()
        if before and before != now
    ]


Trainer._build_optimizer = _build_optimizer
Trainer.load_checkpoint = _load_checkpoint
