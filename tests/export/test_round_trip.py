"""What is exported, applied back by an engine's rules, gives every parameter what was decided.

The export compares by itself, with the emulations that ``test_engines.py`` compares with the
engines' own code. Here the printed text is read back, as the engine would, and compared once more.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml
from torch import nn

import gamma_nlp
from gamma_nlp.decay.assign import decays_for
from gamma_nlp.export import Export, export
from gamma_nlp.export.engine import Parameter
from gamma_nlp.export.engines.timm import is_spared
from gamma_nlp.export.exported import ENGINES
from tests.support.families import FAMILIES

FEW = ("llama", "bart", "bert", "gpt2", "t5")


class Call:
    """A class or function of an engine, which keeps what it is called with."""

    def __init__(self, **kept: Any) -> None:
        self.__dict__.update(kept)

    def __hash__(self) -> int:
        return id(self)


def read_python(done: Export) -> dict[str, Any]:
    """Run a snippet with stand-ins for the engine's names."""
    lines = [line for line in done.text.splitlines() if not line.startswith("from ")]
    stand_ins = ("ParamGroupConfig", "AdamWConfig", "OptimGroupOverride", "ParamKey")
    space: dict[str, Any] = dict.fromkeys(stand_ins, Call)
    space["OptimizersContainer"] = Call(Config=Call)
    space["get_megatron_optimizer"] = lambda *args, **kept: kept
    space |= {
        "config": None,
        "model": None,
        "param_groups_weight_decay": lambda model, **kept: kept,
    }
    space["create_optimizer_v2"] = lambda model, *, param_group_fn, **kept: param_group_fn(model)
    exec("\n".join(lines), space)
    return space


def titan(done: Export, names: list[str]) -> dict[str, float]:
    groups = read_python(done)["optimizer"].param_groups
    return {
        name: next(g.optimizer_kwargs["weight_decay"] for g in groups if re.search(g.pattern, name))
        for name in names
    }


def nemo(done: Export, names: list[str]) -> dict[str, float]:
    section = yaml.safe_load(done.text)["optimizer"]
    rules = section.get("param_group_overrides", [])
    return {
        name: section["weight_decay"]
        * next((rule["wd_mult"] for rule in rules if re.search(rule["pattern"], name)), 1.0)
        for name in names
    }


def olmo(done: Export, names: list[str]) -> dict[str, float]:
    optim = read_python(done)["optim"]
    found = {}
    for name in names:
        given = [
            override.opts["weight_decay"]
            for override in getattr(optim, "group_overrides", [])
            for pattern in override.params
            if fnmatch(name, pattern)
        ]
        assert len(given) <= 1, f"{name} is in two groups"
        found[name] = given[0] if given else optim.weight_decay
    return found


def megatron(done: Export, names: list[str]) -> dict[str, float]:
    space = read_python(done)
    base = float(re.findall(r"^# --weight-decay (\S+?),?$", done.text, re.M)[0])
    found = {}
    for name in names:
        given = {
            value["wd_mult"]
            for key, value in space["config_overrides"].items()
            if any(fnmatch(name, pattern) for pattern in key.name)
        }
        assert len(given) <= 1, f"{name} has conflicting overrides"
        found[name] = base * (given.pop() if given else 1.0)
    return found


def timm(done: Export, names: list[str], model: nn.Module) -> dict[str, float]:
    kept = read_python(done)["optimizer"]
    ndims = {name: parameter.ndim for name, parameter in model.named_parameters()}
    return {
        name: 0.0
        if (kept["weight_decay_exclude_1d"] and is_spared(Parameter(name, ndims[name])))
        or any(fnmatch(name, pattern) for pattern in kept.get("no_weight_decay_list", []))
        else kept["weight_decay"]
        for name in names
    }


READ = {"torchtitan": titan, "nemo_automodel": nemo, "olmo_core": olmo, "megatron": megatron}
STORED = gamma_nlp.DecayPolicy(name="stored", target="stored")
"""The default policy, with what every engine can do with a gain stored as 1 + w."""


def check(key: str) -> None:
    """Every engine, under the model's names, and under its own where it has that model."""
    model = FAMILIES[key].build()
    table = gamma_nlp.categorize(model)
    decays = decays_for(model, weight_decay=0.1, policy=STORED, table=table)
    expected = {name: decay.coefficient for name, decay in decays.items()}
    for to, engine in ENGINES.items():
        given = {"to": to, "policy": STORED, "weight_decay": 0.1, "table": table}
        done = export(model, **given, names="model")
        names = list(expected)
        read = timm(done, names, model) if to == "timm" else READ[to](done, names)
        assert read == pytest.approx(expected, rel=1e-9), (key, to)
        whole = type(model).__name__.endswith(("ForCausalLM", "LMHeadModel"))  # engines' own
        if whole and model.config.model_type in engine.layouts:
            own = export(model, **given)
            assert READ[to](own, list(own.coefficients)) == pytest.approx(
                dict(own.coefficients), rel=1e-9
            )


@pytest.mark.parametrize("key", FEW)
def test_the_printed_text_says_what_was_decided(key: str) -> None:
    check(key)


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(set(FAMILIES) - set(FEW)))
def test_it_does_for_every_golden_model(key: str) -> None:
    check(key)
