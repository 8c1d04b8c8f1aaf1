"""What ``gamma_adam`` will decay: made from a fairseq trainer before it builds its optimizer.

fairseq hands bare tensors to its optimizers. The trainer still knows the model, the criterion and
the order in which it passes their parameters on, so the names are taken there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gamma_nlp.decay.groups import Decay, assign
from gamma_nlp.decay.policy import CATEGORY_KEYS, DecayPolicy, decayed_categories
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.gains import roles
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import GainTable

OWN = {key: f"decay_{key}" for key in CATEGORY_KEYS}
"""The option of ``gamma_adam`` that sets the coefficient of each category."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decay of every parameter that a trainer trains, by name, in the trainer's order."""

    trainer: Any
    table: GainTable
    policy: DecayPolicy
    weight_decay: float
    settings: Mapping[str, Decay]
    parameters: Mapping[str, nn.Parameter]


_PRESENT: list[Plan] = []


@contextmanager
def present(plan: Plan) -> Iterator[None]:
    """Make ``plan`` what an optimizer finds that is built within the block."""
    _PRESENT.append(plan)
    try:
        yield
    finally:
        _PRESENT.pop()


def find_plan() -> Plan:
    """The plan of the trainer that is building its optimizer.

    Raises:
        GammaError: None is: the optimizer is part of another one.
    """
    if not _PRESENT:
        raise GammaError(
            "gamma_adam must be the optimizer of a run, not a part of another one (composite), "
            "since only then it learns the parameters' names: --optimizer gamma_adam"
        )
    return _PRESENT[-1]


def make_plan(trainer: Any) -> Plan:
    """Place the gains of a trainer's model and decide the decay of every trained parameter.

    Raises:
        GammaError: Sharding that hides parameters, a gain that cannot be placed, a bad policy,
            a category that the user named and the model lacks.
    """
    options, shared = trainer.cfg.optimizer, trainer.cfg.distributed_training
    if trainer.is_fsdp or shared.zero_sharding != "none":
        raise GammaError(
            "gamma_adam needs whole parameters with their names, which --ddp-backend "
            "fully_sharded and --zero-sharding hide; use --ddp-backend legacy_ddp or pytorch_ddp"
        )
    policy = load_policy(options.decay_policy)
    own = {key: getattr(options, OWN[key]) for key in CATEGORY_KEYS}
    own = {key: value for key, value in own.items() if value is not None}
    _check_numbers({"weight_decay": options.weight_decay, **{OWN[k]: v for k, v in own.items()}})
    table = _with_criterion(place_gains(trainer), trainer)
    _check_named(table, own, options.decay_policy)
    settings = _settings(table, policy, float(options.weight_decay), own)
    return Plan(
        trainer=trainer,
        table=table,
        policy=policy,
        weight_decay=float(options.weight_decay),
        settings=settings,
        parameters={n: p for n, p in named_parameters(trainer).items() if p.requires_grad},
    )


def load_policy(source: str) -> DecayPolicy:
    """The policy that ``--decay-policy`` names; hydra, which changes the folder, is seen through.

    Raises:
        GammaError: As :meth:`DecayPolicy.load`.
    """
    return DecayPolicy.load(_where(source))


def _where(source: str) -> str:
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import to_absolute_path

    if Path(source).suffix and HydraConfig.initialized() and not Path(source).exists():
        return str(to_absolute_path(source))
    return source


def named_parameters(trainer: Any) -> dict[str, nn.Parameter]:
    """The parameters of model and criterion, each once, in the order that fairseq uses."""
    named = dict(trainer._model.named_parameters())
    seen = {id(parameter) for parameter in named.values()}
    for name, parameter in trainer._criterion.named_parameters():
        if id(parameter) not in seen:
            named[f"criterion.{name}"] = parameter
    return named


def place_gains(trainer: Any) -> GainTable:
    """The gain table of a trainer's model: from the name table, else from one forward pass.

    Raises:
        GammaError: There is no table, and the graph cannot place a gain or run the model.
    """
    trainer.model  # noqa: B018  wraps the model and moves it to its device
    try:
        return categorize(trainer._model, method="table")
    except GammaError:
        return categorize(trainer._model, _example(trainer), method="graph")


def _example(trainer: Any) -> Any:
    """What the model gets in training, for the first sentence of a data set that is loaded."""
    from fairseq.data import data_utils

    loaded = [one for one in trainer.task.datasets.values() if len(one)]
    if not loaded:
        raise GammaError(
            f"no name table knows {type(trainer._model).__name__}, and no data set is loaded to "
            "run it once; leave out --disable-validation and name a --valid-subset"
        )
    with data_utils.numpy_seed(0), torch.random.fork_rng(devices=[]):
        batch, _ = trainer._prepare_sample(loaded[0].collater([loaded[0][0]]))
    return batch["net_input"]


def _with_criterion(table: GainTable, trainer: Any) -> GainTable:
    known = {gain.name for gain in table} | set(table.roles)
    extra = {
        f"criterion.{name}": role
        for name, role in roles.static_roles(trainer._criterion).items()
        if f"criterion.{name}" in named_parameters(trainer).keys() - known
    }
    return dataclasses.replace(table, roles={**table.roles, **extra})


def _check_numbers(given: Mapping[str, float]) -> None:
    for name, value in given.items():
        if not 0 <= value < float("inf"):
            raise GammaError(f"--{name.replace('_', '-')} must be a number >= 0, not {value}")


def _check_named(table: GainTable, own: Mapping[str, float], source: str) -> None:
    """Refuse a category that was named where it is empty; a file may name it with 0."""
    found = {str(gain.category) for gain in table}
    asked = {key: "--" + OWN[key].replace("_", "-") for key in own}
    for key in decayed_categories(_where(source)):
        asked.setdefault(key, f"--decay-policy {source}")
    for key, option in asked.items():
        if key not in found:
            raise GammaError(
                f"{option}: no gain of {table.model} is {key}; its gains are "
                f"{', '.join(sorted(found)) or 'none'}. Leave {key} out"
            )


def _settings(
    table: GainTable, policy: DecayPolicy, weight_decay: float, own: Mapping[str, float]
) -> dict[str, Decay]:
    if weight_decay == 0 and policy.decays_gains:
        if not any(own.values()):
            raise GammaError(
                f"--decay-policy {policy.name} decays gains, but --weight-decay is 0 (fairseq's "
                "default), so nothing would decay; give --weight-decay, for example 1e-4, or "
                "--decay-policy none"
            )
        none: dict[str, Any] = {"kinds": {}, **dict.fromkeys(CATEGORY_KEYS, 0.0)}
        policy = dataclasses.replace(policy, **none)
    settings = assign(table, policy, weight_decay)
    for gain in table:
        if str(gain.category) in own:
            setting = settings[gain.name]
            coefficient = own[str(gain.category)]
            settings[gain.name] = dataclasses.replace(setting, coefficient=coefficient)
    return settings


def match(params: list[torch.Tensor], plan: Plan) -> tuple[dict[str, nn.Parameter], bool]:
    """Name the tensors that fairseq hands to an optimizer.

    They are the model's own parameters, float32 copies of them in the same order, or one flat
    tensor that holds them all: that one is cut into a view for each.

    Returns:
        The tensor to optimise for each name, and whether they are views of a flat one.

    Raises:
        GammaError: They are none of these.
    """
    own = plan.parameters
    if [id(p) for p in params] == [id(p) for p in own.values()]:
        return dict(own), False
    if [p.shape for p in params] == [p.shape for p in own.values()]:
        return dict(zip(own, params, strict=True)), False  # type: ignore[arg-type]
    if len(params) == 1 and params[0].dim() == 1:
        return _views(params[0], own), True
    raise GammaError(
        f"fairseq handed over {len(params)} tensors for the {len(own)} trained parameters "
        f"({listed(own)}), so decay cannot follow their names; {UNFLATTEN}"
    )


UNFLATTEN = "with --fp16 add --fp16-no-flatten-grads, or use --memory-efficient-fp16 or --amp"


def _views(flat: torch.Tensor, own: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    total = sum(p.numel() for p in own.values())
    if flat.numel() != total or flat.grad is None or not flat.is_contiguous():
        raise GammaError(
            f"the flat tensor of --fp16 has {flat.numel()} elements for {total} of the model, or "
            f"no gradient of its own: it cannot be cut into parameters; {UNFLATTEN}"
        )
    views, start = {}, 0
    for name, parameter in own.items():
        end = start + parameter.numel()
        view = nn.Parameter(flat.detach()[start:end].view(parameter.shape))
        view.grad = flat.grad[start:end].view(parameter.shape)
        views[name], start = view, end
    return views
