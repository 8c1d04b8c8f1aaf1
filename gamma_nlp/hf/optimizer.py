"""Combine a Trainer's choice of optimizer with a decay policy, or refuse the choice by name.

The Trainer still chooses class, arguments, learning rates per parameter and device meshes; the
policy decides the weight decay of each parameter, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gamma_nlp.decay.attached import is_attached
from gamma_nlp.errors import GammaError
from gamma_nlp.wrappers import mesh_of, plain_names, unwrap_optimizer

Group = dict[str, Any]

_REPLACES_GROUPS = "it chooses its own parameter groups, so no category could have its own decay"
_REFUSED = {
    "galore": _REPLACES_GROUPS,
    "apollo": _REPLACES_GROUPS,
    "lomo": "it updates parameters during the backward pass and takes no parameter groups",
    "adalomo": "it updates parameters during the backward pass and takes no parameter groups",
}
_INSTEAD = "use for example optim='adamw_torch_fused', or the stock Trainer"


def refuse_name(optim: str) -> None:
    """Refuse a value of ``TrainingArguments.optim`` before anything is built for it.

    Layer-wise variants add hooks to the model as soon as the Trainer looks them up.
    """
    for family, why in _REFUSED.items():
        if optim.split("_")[0] == family:
            raise GammaError(f"optim={optim!r} cannot take a decay policy: {why}; {_INSTEAD}")
    if optim.endswith("layerwise"):
        raise GammaError(
            f"optim={optim!r} cannot take a decay policy: it is one optimizer per parameter; "
            f"{_INSTEAD}"
        )


def refuse_deepspeed(trainer: Any) -> None:
    """Refuse a setting under which DeepSpeed makes the optimizer itself."""
    if trainer.is_deepspeed_enabled and "optimizer" in _deepspeed_config(trainer):
        raise GammaError(
            "the DeepSpeed config has an 'optimizer' section, so DeepSpeed makes the optimizer "
            'and a decay policy could not reach it; remove "optimizer": {...} from it (the '
            "Trainer's optim= then decides)"
        )


def refuse_hook(trainer: Any, policy: str, optimizer: str) -> None:
    """Refuse the step hook where DeepSpeed steps another optimizer in the place of ours."""
    if not trainer.is_deepspeed_enabled:
        return
    offload = _deepspeed_config(trainer).get("zero_optimization", {}).get("offload_optimizer", {})
    if (offload or {}).get("device", "none") != "none":
        raise GammaError(
            f"policy {policy!r} needs a step hook on {optimizer} for this model, and with "
            f"offload_optimizer accelerate puts DeepSpeed's own optimizer in its place; write "
            '"offload_optimizer": {"device": "none"} in the DeepSpeed config, or use FSDP2'
        )


def _deepspeed_config(trainer: Any) -> Mapping[str, Any]:
    config: Mapping[str, Any] = trainer.accelerator.state.deepspeed_plugin.hf_ds_config.config
    return config


def split_choice(trainer: Any, model: nn.Module) -> tuple[type[Optimizer], dict[str, Any], Any]:
    """Return the Trainer's optimizer class, its arguments, and groups that come with it, if any.

    sentence-transformers brings groups of its own (learning rates, weights of the loss). So do
    the low-rank optimizers, but those are refused.

    Raises:
        GammaError: The choice takes no parameter groups, or makes its own.
    """
    if trainer.optimizer_cls_and_kwargs is not None:
        optimizer_class, kwargs = trainer.optimizer_cls_and_kwargs
        setting = "optimizer_cls_and_kwargs"
    else:
        refuse_name(optim_name(trainer.args))
        optimizer_class, kwargs = trainer.get_optimizer_cls_and_kwargs(trainer.args, model)
        setting = f"optim={optim_name(trainer.args)!r}"
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, Optimizer)):
        raise GammaError(
            f"{setting}: {optimizer_class!r} is not a class of torch.optim.Optimizer but builds "
            f"optimizers with groups of its own, so a decay policy could not reach it; {_INSTEAD}"
        )
    kwargs = dict(kwargs)
    own = [kwargs.pop(key) for key in ("params", "model", "optimizer_dict") if key in kwargs]
    groups = own[-1] if own else None
    if groups is not None:
        groups = _plain_groups(groups, f"{setting} ({optimizer_class.__name__})")
    return optimizer_class, kwargs, groups


def optim_name(args: Any) -> str:
    """Return the value of ``args.optim`` as the user typed it."""
    return str(getattr(args.optim, "value", args.optim))


def _plain_groups(own: Any, setting: str) -> list[Group]:
    if not isinstance(own, (nn.Module, Mapping, torch.Tensor, str)):
        groups = list(own)
        if groups and all(isinstance(one, torch.Tensor) for one in groups):
            groups = [{"params": groups}]
        if all(isinstance(one, Mapping) and "params" in one for one in groups):
            groups = [{**one, "params": _tensors(one["params"])} for one in groups]
            return [one for one in groups if one["params"]]
    raise GammaError(
        f"{setting} takes no parameter groups, so a decay policy could not reach it; {_INSTEAD}"
    )


def _tensors(params: Any) -> list[torch.Tensor]:
    return [params] if isinstance(params, torch.Tensor) else list(params)


def fit_groups(
    groups: Sequence[Group],
    trainer_groups: Sequence[Group] | None,
    model: nn.Module,
    rate: float | None = None,
) -> list[Group]:
    """Return the policy's groups with all settings of the Trainer's groups but weight decay.

    Args:
        groups: The policy's, with ``params`` and ``param_names``.
        trainer_groups: Groups that came with the Trainer's choice, or ``None``. Parameters that
            they lack are left out of training, as in the Trainer; parameters that are not in
            ``model`` keep the decay they came with.
        model: The model of ``groups``.
        rate: The learning rate that the groups were planned for.
    """
    fitted = [dict(group) for group in groups]
    if trainer_groups is not None:
        fitted = [_own_peak(group, rate) for group in _with_options(fitted, trainer_groups)]
        inside = {id(parameter) for parameter in model.parameters()}
        for group, names in zip(trainer_groups, group_names(trainer_groups, model), strict=True):
            rows = [
                (name, parameter)
                for name, parameter in zip(names, group["params"], strict=True)
                if id(parameter) not in inside and parameter.requires_grad
            ]
            if rows:
                own = {
                    "params": [parameter for _, parameter in rows],
                    "param_names": [name for name, _ in rows],
                    "weight_decay": float(group.get("weight_decay", 0.0)),
                }
                fitted.append({**_options(group), **own})
    return split_by(fitted, mesh_of)  # as the Trainer does


def _own_peak(group: Group, rate: float | None) -> Group:
    """Return a group whose schedule has the peak of its own learning rate."""
    if not rate or "gamma_peak" not in group or "lr" not in group:
        return group
    return {**group, "gamma_peak": group["gamma_peak"] * float(group["lr"]) / rate}


def split_by(groups: Sequence[Group], key: Callable[[torch.Tensor], Any]) -> list[Group]:
    """Split groups so that the hashable ``key`` is the same for all parameters of a group."""
    split: list[Group] = []
    for group in groups:
        buckets: dict[Any, Group] = {}
        names = group.get("param_names", [None] * len(group["params"]))
        for name, parameter in zip(names, group["params"], strict=True):
            bucket = buckets.setdefault(key(parameter), {**group, "params": [], "param_names": []})
            bucket["params"].append(parameter)
            bucket["param_names"].append(name)
        split += buckets.values() or [group]
    return split


def _with_options(groups: Sequence[Group], trainer_groups: Sequence[Group]) -> list[Group]:
    options: list[dict[str, Any]] = []
    origin: dict[int, int] = {}
    for source in trainer_groups:
        own = _options(source)
        if own not in options:
            options.append(own)
        for parameter in source["params"]:
            origin[id(parameter)] = options.index(own)
    split = split_by(groups, lambda parameter: origin.get(id(parameter), -1))
    chosen = []
    for group in split:
        index = origin.get(id(group["params"][0]), -1)
        if index >= 0:
            chosen.append({**options[index], **group})
    return chosen


def _options(group: Group) -> dict[str, Any]:
    decay = ("params", "param_names", "weight_decay")
    return {key: value for key, value in group.items() if key not in decay}


def stock_groups(
    trainer: Any, model: nn.Module, trainer_groups: Sequence[Group] | None
) -> list[Group]:
    """Return ``param_names`` and ``weight_decay`` of each group the stock Trainer would have made.

    Its checkpoints carry no names; they follow from its rule and its order.
    """
    if trainer_groups is None:
        decayed = set(trainer.get_decay_parameter_names(model))
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        trainer_groups = [
            {
                "params": [p for name, p in named if name in decayed],
                "weight_decay": trainer.args.weight_decay,
            },
            {"params": [p for name, p in named if name not in decayed], "weight_decay": 0.0},
        ]
    split = split_by(trainer_groups, mesh_of)
    names = group_names(split, model)
    return [
        {"param_names": own, "weight_decay": group.get("weight_decay")}
        for own, group in zip(names, split, strict=True)
    ]


def group_names(groups: Iterable[Group], model: nn.Module) -> list[list[str]]:
    """Return the plain names of each group's parameters; those outside ``model`` are numbered."""
    plain = plain_names(name for name, _ in model.named_parameters())
    names = {id(p): plain[name] for name, p in model.named_parameters()}
    outside = 0
    result = []
    for group in groups:
        own = []
        for parameter in group["params"]:
            if id(parameter) not in names:
                names[id(parameter)] = f"outside_model.{outside}"
                outside += 1
            own.append(names[id(parameter)])
        result.append(own)
    return result


def made_here(optimizer: Any) -> bool:
    """Return whether an optimizer came from :func:`gamma_nlp.make_optimizer`, wrapped or not."""
    optimizer = unwrap_optimizer(optimizer)
    return isinstance(optimizer, Optimizer) and is_attached(optimizer)
