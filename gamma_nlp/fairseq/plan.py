"""What ``gamma_adam`` decays, decided from a trainer before it builds its optimizer.

The trainer still knows the model, the criterion, and the order in which it hands their parameters
to the optimizer, which gives the bare tensors their names; and how long the run will be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gamma_nlp.decay.assign import Decay, assign
from gamma_nlp.decay.effect import decayed_gains, say_without_effect
from gamma_nlp.decay.policies.file import decayed_categories
from gamma_nlp.decay.policies.keys import CATEGORY_KEYS, NORMALIZED
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.schedule import RAMPS
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.gains import roles
from gamma_nlp.gains.peer_rules import spared_by
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import GainTable

OPTIONS = {key: f"decay_{key}" for key in CATEGORY_KEYS}
"""The option of ``gamma_adam`` that sets each category's coefficient."""


@dataclass(frozen=True, kw_only=True)
class TrainerPlan:
    """The decay of every parameter that a trainer trains, by name, in the trainer's order.

    Attributes:
        trainer: Of fairseq.
        table: The gains of its model.
        policy: What ``--decay-policy`` names.
        weight_decay: What ``--weight-decay`` says.
        settings: The decay of each parameter.
        parameters: Those that are trained.
        rates: The learning rate of every update; ``None`` where it is unknown.
        peak: The largest learning rate.
    """

    trainer: Any
    table: GainTable
    policy: DecayPolicy
    weight_decay: float
    settings: Mapping[str, Decay]
    parameters: Mapping[str, nn.Parameter]
    rates: list[float] | None
    peak: float


_ACTIVE: list[TrainerPlan] = []


@contextmanager
def active(plan: TrainerPlan) -> Iterator[None]:
    """Let an optimizer that is built inside the block find ``plan``."""
    _ACTIVE.append(plan)
    try:
        yield
    finally:
        _ACTIVE.pop()


def find_plan() -> TrainerPlan:
    """Return the plan of the trainer that is building its optimizer.

    Raises:
        GammaError: No trainer is: the optimizer is part of another one.
    """
    if not _ACTIVE:
        raise GammaError(
            "gamma_adam cannot be part of another optimizer (composite), which hides the "
            "parameters' names; use --optimizer gamma_adam"
        )
    return _ACTIVE[-1]


def make_plan(trainer: Any) -> TrainerPlan:
    """Place the gains of a trainer's model and decide the decay of every trained parameter.

    Raises:
        GammaError: The run shards its parameters, a gain cannot be placed, the policy is bad, the
            user named a category that the model lacks, or a ramp has no end.
    """
    from gamma_nlp.fairseq import schedule

    options, shared = trainer.cfg.optimizer, trainer.cfg.distributed_training
    if trainer.is_fsdp or shared.zero_sharding != "none":
        raise GammaError(
            "gamma_adam needs whole parameters with their names, which --ddp-backend "
            "fully_sharded and --zero-sharding hide; use --ddp-backend legacy_ddp or pytorch_ddp"
        )
    policy = load_policy(options.decay_policy)
    typed = {key: getattr(options, OPTIONS[key]) for key in CATEGORY_KEYS}
    coefficients = {key: value for key, value in typed.items() if value is not None}
    _check_number("weight_decay", options.weight_decay)
    for key, value in coefficients.items():
        _check_number(OPTIONS[key], value)
    table = _with_criterion(place_gains(trainer, policy), trainer)
    _check_named(table, coefficients, options.decay_policy)
    parameters = {n: p for n, p in named_parameters(trainer).items() if p.requires_grad}
    decay = float(options.weight_decay)
    spared = _spared(policy, trainer)
    rates = schedule.rates_of_fairseq(trainer)
    settings = _settings(table, policy, decay, coefficients, parameters.keys(), spared)
    if rates is None:
        updates = schedule.updates_of_fairseq(trainer)
        settings = _with_ends(settings, parameters.keys(), updates, options.decay_policy)
    return TrainerPlan(
        trainer=trainer,
        table=table,
        policy=policy,
        weight_decay=decay,
        settings=settings,
        parameters=parameters,
        rates=rates,
        peak=max(rates) if rates else schedule.peak_of_fairseq(trainer),
    )


def load_policy(source: str) -> DecayPolicy:
    """Return the policy that ``--decay-policy`` names.

    Raises:
        GammaError: As :meth:`DecayPolicy.load`.
    """
    return DecayPolicy.load(_locate(source))


def _locate(source: str) -> str:
    """Return a policy file's path from where the user typed it; hydra runs in another folder."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import to_absolute_path

    if Path(source).suffix and HydraConfig.initialized() and not Path(source).exists():
        return str(to_absolute_path(source))
    return source


def named_parameters(trainer: Any) -> dict[str, nn.Parameter]:
    """Return the parameters of model and criterion, each once, in fairseq's order."""
    named = dict(trainer._model.named_parameters())
    seen = {id(parameter) for parameter in named.values()}
    for name, parameter in trainer._criterion.named_parameters():
        if id(parameter) not in seen:
            named[f"criterion.{name}"] = parameter
    return named


def place_gains(trainer: Any, policy: DecayPolicy) -> GainTable:
    """Return the gain table of a trainer's model, by name table or else by one forward pass.

    A policy that asks which weights a norm follows needs the forward pass.

    Raises:
        GammaError: No name table knows the model, and the graph cannot place its gains.
    """
    trainer.model  # noqa: B018  wraps the model and moves it to its device
    if NORMALIZED in policy.schedules:
        return categorize(trainer._model, _example(trainer), method="graph")
    try:
        return categorize(trainer._model, method="table")
    except GammaError:
        return categorize(trainer._model, _example(trainer), method="graph")


def _example(trainer: Any) -> Any:
    """Return the model's input for one sentence of a loaded dataset."""
    from fairseq.data import data_utils

    loaded = [dataset for dataset in trainer.task.datasets.values() if len(dataset)]
    if not loaded:
        raise GammaError(
            f"{type(trainer._model).__name__} has to run once, because no name table knows it or "
            f"the policy has schedules[{NORMALIZED!r}], and no dataset is loaded to run it on; "
            "drop --disable-validation and name a --valid-subset"
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


def _spared(policy: DecayPolicy, trainer: Any) -> frozenset[str] | None:
    """Return what a policy's rule spares of model and criterion, by the names of the table."""
    if policy.rule == "position":
        return None
    own = spared_by(policy.rule, trainer._model)
    criterion = spared_by(policy.rule, trainer._criterion)
    return own | {f"criterion.{name}" for name in criterion}


def _check_number(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise GammaError(f"{dashed(name)} must be a number >= 0, not {value}")


def dashed(name: str) -> str:
    """Return the option of a setting: ``--weight-decay`` for ``weight_decay``."""
    return "--" + name.replace("_", "-")


def _check_named(table: GainTable, coefficients: Mapping[str, float], source: str) -> None:
    """Raise if the user named a category without gains; a policy file may set it to 0."""
    found = {str(gain.category) for gain in table}
    named = {key: dashed(OPTIONS[key]) for key in coefficients}
    for key in decayed_categories(_locate(source)):
        named.setdefault(key, f"--decay-policy {source}")
    for key, option in named.items():
        if key not in found:
            raise GammaError(
                f"{option}: no gain of {table.model} is {key}; its gains are "
                f"{', '.join(sorted(found)) or 'none'}. Leave {key} out"
            )


def _settings(
    table: GainTable,
    policy: DecayPolicy,
    weight_decay: float,
    coefficients: Mapping[str, float],
    trained: Collection[str],
    spared: Collection[str] | None,
) -> dict[str, Decay]:
    if not any(coefficients.values()):
        if weight_decay == 0 and (stopped := decayed_gains(policy, table, trained, spared)):
            raise GammaError(
                f"--decay-policy {policy.name} decays gains ({listed(stopped)}), but "
                "--weight-decay is 0 (fairseq's default), so nothing would decay; give "
                "--weight-decay, for example 1e-4, or --decay-policy none"
            )
        say_without_effect(policy, table, trained, spared)
    settings = assign(table, policy, weight_decay, trained=(), spared=spared)
    for gain in table:
        if (coefficient := coefficients.get(str(gain.category))) is not None:
            setting = settings[gain.name]
            settings[gain.name] = dataclasses.replace(setting, coefficient=coefficient)
    return settings


def _with_ends(
    settings: Mapping[str, Decay], trained: Collection[str], updates: int | None, source: str
) -> dict[str, Decay]:
    """Return the decays with the length of their ramps, where no learning rates tell it.

    Raises:
        GammaError: Nothing tells it.
    """
    result = dict(settings)
    for name in trained:
        decay = settings[name]
        ramp = decay.schedule
        if ramp.kind not in RAMPS or ramp.steps or not decay.coefficient:
            continue
        if updates is None:
            raise GammaError(
                f"--decay-policy {source}: the {ramp.kind} schedule of {name} ends with the run, "
                "and no option says when; add --max-update N, or write in the policy file "
                f"{{kind: {ramp.kind}, end: {ramp.end:g}, steps: N}}"
            )
        ramp = dataclasses.replace(ramp, steps=updates)
        result[name] = dataclasses.replace(decay, schedule=ramp)
    return result
