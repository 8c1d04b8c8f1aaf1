"""Trainers whose weight decay follows a decay policy; everything else is the Trainer's.

The mixin hands the policy's groups to the optimizer that the Trainer chose. Those that it stands on
keep the gain table and tell what its decay will do, plan the learning rates, match optimizer states
by parameter name on resume, and keep a loss that ignores the item count from being multiplied.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import nn
from transformers import Seq2SeqTrainer, Trainer

from gamma_nlp.decay.assign import decays_for
from gamma_nlp.decay.attached import attach
from gamma_nlp.decay.decided import check_rate
from gamma_nlp.decay.group_keys import needs_hook
from gamma_nlp.decay.known_optimizers import native_mode
from gamma_nlp.decay.optimizer import check_hookable, decay_groups
from gamma_nlp.decay.policy import DecayPolicy, PolicyLike
from gamma_nlp.decay.samples import stand_in
from gamma_nlp.errors import GammaError
from gamma_nlp.hf import resume
from gamma_nlp.hf.accumulation import AccumulationMixin
from gamma_nlp.hf.checkpoints import CheckpointMixin
from gamma_nlp.hf.optimizer import (
    fit_groups,
    made_here,
    optim_name,
    refuse_deepspeed,
    refuse_hook,
    refuse_name,
    split_choice,
    stock_groups,
)
from gamma_nlp.hf.planned_rates import PlannedRatesMixin
from gamma_nlp.hf.table import Announcement, GainTableMixin
from gamma_nlp.names import renamed_arguments
from gamma_nlp.wrappers import sharded, unwrap_optimizer

logger = logging.getLogger("gamma_nlp")


class GammaTrainerMixin(GainTableMixin, PlannedRatesMixin, CheckpointMixin, AccumulationMixin):
    """Give any Trainer weight decay by category; put it first among the bases.

    ``class MyTrainer(GammaTrainerMixin, SFTTrainer): ...`` takes every argument of ``SFTTrainer``
    and those below. ``args.weight_decay`` is the coefficient that the policy multiplies.

    At the start of training the gain table, with coefficients and predicted doses, goes to the
    log (logger ``gamma_nlp``, level INFO) and to ``gain_table.json`` in the output folder.
    Training logs carry ``gain_norm/<category>``: the root mean square of that category's gains.

    Args:
        decay_policy: A preset's name, a policy file, or a :class:`DecayPolicy`.
        inputs: Example inputs for :func:`categorize`, for models that are not transformers'.

    Attributes:
        gain_table: The model's :class:`GainTable`; made again after ``model_init``.
        policy: The :class:`DecayPolicy`.

    Raises:
        GammaError: Before any training step: a gain that cannot be placed, a bad policy,
            ``weight_decay=0`` where the policy would decay a gain, or an optimizer that takes no
            decay per category.
    """

    optimizer_cls_and_kwargs: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if Trainer in order and order.index(Trainer) < order.index(GammaTrainerMixin):
            first = next(base for base in cls.__bases__ if issubclass(base, Trainer))
            raise GammaError(
                f"class {cls.__name__}: {first.__name__} comes before GammaTrainerMixin, so the "
                f"decay policy would have no effect; put the mixin first: class {cls.__name__}"
                f"(GammaTrainerMixin, {first.__name__})"
            )

    @renamed_arguments(example_inputs="inputs")
    def __init__(
        self,
        *args: Any,
        decay_policy: PolicyLike = "guidelines",
        inputs: Any = None,
        **kwargs: Any,
    ) -> None:
        # Before the Trainer's own __init__, where some trainers make their optimizer.
        self.policy = DecayPolicy.load(decay_policy)
        self._inputs = inputs
        self._native_decay: str | None = None
        super().__init__(*args, **kwargs)
        check_rate(self.args.learning_rate, "learning_rate")
        refuse_deepspeed(self)
        if self.lr_scheduler is not None:
            _check_scheduler(self.lr_scheduler, self.optimizer)
        if self.optimizer is not None:
            _check_given(self.optimizer)
        elif self.optimizer_cls_and_kwargs is None:
            refuse_name(optim_name(self.args))
        table = self._table()
        if self.train_dataset is not None and self.model_init is None and self.optimizer is None:
            decay = self.args.weight_decay
            decays_for(self.model, weight_decay=decay, policy=self.policy, table=table)
        self.add_callback(Announcement(self))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer that ``args.optim`` names, with the policy's groups.

        Raises:
            GammaError: The optimizer takes no decay per category.
        """
        if "policy" not in vars(self):
            raise GammaError(
                f"{type(self).__name__}.__init__ does not call GammaTrainerMixin.__init__, so "
                "there is no decay policy; call super().__init__(*args, **kwargs) in it"
            )
        if self.optimizer is None:
            self._make_optimizer(model)
        return self.optimizer

    def _make_optimizer(self, wrapped: nn.Module | None) -> None:
        model = self.model if wrapped is None else wrapped
        if any(name.endswith("_flat_param") for name, _ in model.named_parameters()):
            raise GammaError(
                "FSDP joined all parameters into flat ones without names; set "
                "fsdp_config={'use_orig_params': True}, or use FSDP2"
            )
        table = self._table() if wrapped is None or self.gain_table is None else self.gain_table
        chosen, kwargs, trainer_groups = split_choice(self, model)
        self._native_decay = kwargs.pop("native_decay", None)
        try:
            native = native_mode(chosen, kwargs, self._native_decay)
        except GammaError as error:
            name = optim_name(self.args)
            raise GammaError(
                f"{error} (as an argument in optimizer_cls_and_kwargs; optim={name!r})"
            ) from None
        lr = kwargs.get("lr", self.args.learning_rate)
        groups, decided = decay_groups(
            model,
            native=native,
            weight_decay=self.args.weight_decay,
            policy=self.policy,
            table=table,
            lr=lr,
            rates=self._planned_rates(lr),
            earlier=resume.earlier_groups(self._resumed),
            copied=self._equal_everywhere(model),
            # DeepSpeed trains copies in float32, and casts them to the parameters.
            dtype=torch.float32 if self.is_deepspeed_enabled else None,
        )
        self._resumed = None
        groups = fit_groups(groups, trainer_groups, model, lr)
        if needs_hook(groups):
            refuse_hook(self, self.policy.name, chosen.__name__)
            check_hookable(chosen, lr, kwargs)
        self._call_stock(wrapped, chosen, {**kwargs, "params": groups})
        made = self.optimizer
        if not isinstance(made, torch.optim.Optimizer) or _ids(made.param_groups) != _ids(groups):
            raise GammaError(
                f"create_optimizer of a base class of {type(self).__name__} made parameter groups "
                "of its own, so the decay policy would have no effect; override create_optimizer "
                "in front of the mixin, or leave the mixin out"
            )
        attach(made, model=model, decided=decided)
        self._values = _values(made) if self.is_deepspeed_enabled else None
        self._decays = resume.decays(made)
        self._stock = stock_groups(self, model, trainer_groups)
        for group in self._stock:
            if group["weight_decay"] is None:  # groups that came with the Trainer's choice
                group["weight_decay"] = made.defaults.get("weight_decay", 0.0)

    def _equal_everywhere(self, model: nn.Module) -> bool:
        """Return whether all processes have the same parameters, and so may decide from them."""
        parameters = [p for p in model.parameters() if sharded(p) is None]
        if self.args.world_size == 1 or not parameters:
            return False
        unknown = torch.full((), math.nan, dtype=torch.float64)  # equals nothing
        sums = [unknown if p.is_meta else p.detach().sum(dtype=torch.float64) for p in parameters]
        own = torch.stack([one.to(self.args.device) for one in sums])
        everywhere = self.accelerator.gather(own.unsqueeze(0))
        return bool((everywhere == everywhere[0]).all())

    def _call_stock(self, wrapped: nn.Module | None, chosen: Any, kwargs: dict[str, Any]) -> None:
        # The Trainer accepts groups passed as "params", so its own special cases still apply.
        before = self.optimizer_cls_and_kwargs
        self.optimizer_cls_and_kwargs = (chosen, kwargs)
        try:
            super().create_optimizer(*(() if wrapped is None else (wrapped,)))
        finally:
            self.optimizer_cls_and_kwargs = before

    def _wrap_model(self, model: nn.Module, training: bool = True, *args: Any, **kw: Any) -> Any:
        # evaluate() before train() marks the bare model as prepared. accelerate then skips data
        # parallel in training, and every process would silently train a model of its own.
        alone = self.args.world_size == 1 or self.is_deepspeed_enabled or self.is_fsdp_enabled
        if training and not alone and vars(model).get("_is_accelerate_prepared"):
            model = self.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
            vars(model)["_is_accelerate_prepared"] = False
        return super()._wrap_model(model, training, *args, **kw)


class GammaTrainer(GammaTrainerMixin, Trainer):
    """``transformers.Trainer`` with a decay policy; see :class:`GammaTrainerMixin`.

    ``GammaTrainer(model=model, args=args, train_dataset=data, decay_policy="guidelines")``
    """


class GammaSeq2SeqTrainer(GammaTrainerMixin, Seq2SeqTrainer):
    """``transformers.Seq2SeqTrainer`` with a decay policy; see :class:`GammaTrainerMixin`."""


def _values(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return a few values of each parameter, before DeepSpeed puts flat partitions in its place."""
    return {
        name: stand_in(p, torch.float32)
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }


def _check_given(optimizer: Any) -> None:
    if not made_here(optimizer):
        raise GammaError(
            f"optimizers=: this {type(optimizer).__name__} has its own parameter groups, so "
            "decay_policy would have no effect; make it with gamma_nlp.make_optimizer(...), or "
            "leave optimizers out and set optim= or optimizer_cls_and_kwargs="
        )
    logger.warning(
        "the optimizer from optimizers= keeps the decay it was made with; decay_policy and "
        "args.weight_decay are not used"
    )


def _check_scheduler(scheduler: Any, optimizer: Any) -> None:
    own = getattr(scheduler, "optimizer", None)
    if own is not None and unwrap_optimizer(own) is not unwrap_optimizer(optimizer):
        raise GammaError(
            f"optimizers=: the {type(scheduler).__name__} sets the learning rates of another "
            "optimizer, so this run's would stay as they are; make it from the optimizer that you "
            "pass beside it, or leave it out and set lr_scheduler_type="
        )


def _ids(groups: list[dict[str, Any]]) -> list[list[int]]:
    return [[id(parameter) for parameter in group["params"]] for group in groups]
