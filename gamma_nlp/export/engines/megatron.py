"""Megatron-Core 0.16.1: shell patterns in ``ParamKey``, all that match must agree; multipliers.

Read in the wheel: ``ParamKey.matches`` of megatron/core/optimizer/optimizer_config.py,
``combine_param_group_overrides`` of optimizer_param_scheduler.py, whose scheduler multiplies by
``wd_mult``, and ``_get_param_groups`` of optimizer/__init__.py: overrides of ``None`` stand for
"no vector and no bias decays", ours replace that. Names from models/gpt/gpt_layer_specs.py: with
Transformer Engine the norm before a linear layer is part of it, with the local code it is not, so
patterns hold for both. A run's models are wrapped, which adds ``module.`` once or twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from importlib import import_module

from gamma_nlp.errors import GammaError
from gamma_nlp.export.engine import Engine, Layout, Parameter, Rules, plain, skeleton
from gamma_nlp.export.pieces import GLOB

_LAYER = "decoder.layers.{}"


def _norms(kind: str, attention: str, mlp: str, final: str) -> dict[str, tuple[str, ...]]:
    return {
        f"{attention}.{kind}": (
            f"{_LAYER}.input_layernorm.{kind}",
            f"{_LAYER}.self_attention.linear_qkv.layer_norm_{kind}",
        ),
        f"{mlp}.{kind}": (
            f"{_LAYER}.pre_mlp_layernorm.{kind}",
            f"{_LAYER}.mlp.linear_fc1.layer_norm_{kind}",
        ),
        f"{final}.{kind}": (f"decoder.final_layernorm.{kind}",),
    }


_LLAMA = {
    "model.embed_tokens.weight": ("embedding.word_embeddings.weight",),
    **_norms(
        "weight",
        "model.layers.{}.input_layernorm",
        "model.layers.{}.post_attention_layernorm",
        "model.norm",
    ),
    **{
        f"model.layers.{{}}.self_attn.{part}_proj.{kind}": (
            f"{_LAYER}.self_attention.linear_qkv.{kind}",
        )
        for part in "qkv"
        for kind in ("weight", "bias")
    },
    "model.layers.{}.self_attn.o_proj.weight": (f"{_LAYER}.self_attention.linear_proj.weight",),
    "model.layers.{}.mlp.gate_proj.weight": (f"{_LAYER}.mlp.linear_fc1.weight",),
    "model.layers.{}.mlp.up_proj.weight": (f"{_LAYER}.mlp.linear_fc1.weight",),
    "model.layers.{}.mlp.down_proj.weight": (f"{_LAYER}.mlp.linear_fc2.weight",),
    "lm_head.weight": ("output_layer.weight",),
}
_QWEN3 = {
    **_LLAMA,
    "model.layers.{}.self_attn.q_norm.weight": (f"{_LAYER}.self_attention.q_layernorm.weight",),
    "model.layers.{}.self_attn.k_norm.weight": (f"{_LAYER}.self_attention.k_layernorm.weight",),
}
_BLOCK = "transformer.h.{}"
_GPT2 = {
    "transformer.wte.weight": ("embedding.word_embeddings.weight",),
    "transformer.wpe.weight": ("embedding.position_embeddings.weight",),
    **_norms("weight", f"{_BLOCK}.ln_1", f"{_BLOCK}.ln_2", "transformer.ln_f"),
    **_norms("bias", f"{_BLOCK}.ln_1", f"{_BLOCK}.ln_2", "transformer.ln_f"),
    **{
        f"{_BLOCK}.{theirs}.{kind}": (f"{_LAYER}.{ours}.{kind}",)
        for theirs, ours in {
            "attn.c_attn": "self_attention.linear_qkv",
            "attn.c_proj": "self_attention.linear_proj",
            "mlp.c_fc": "mlp.linear_fc1",
            "mlp.c_proj": "mlp.linear_fc2",
        }.items()
        for kind in ("weight", "bias")
    },
}


def _once(name: str) -> str:
    return f"module.{name}"


def _twice(name: str) -> str:
    return f"module.module.{name}"


def _multiplier(rules: Rules, multiplier: float) -> float:
    return plain(multiplier / (rules.default or 1.0))


def emulated(rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Return what its groups would give each parameter once its scheduler has set them."""
    found: dict[str, float] = {}
    for name, _ in parameters:
        wanted = {r.multiplier for r in rules.rules if fnmatch(name, r.pattern)}
        if len(wanted) > 1:
            raise GammaError(f"Megatron: conflicting overrides of wd_mult for {name!r}")
        multiplier = _multiplier(rules, wanted.pop()) if wanted else 1.0
        found[name] = rules.base * multiplier
    return found


def applied(rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Return the same by its own code."""
    keys = import_module("megatron.core.optimizer.optimizer_config")
    combine = import_module("megatron.core.optimizer_param_scheduler").combine_param_group_overrides
    overrides = {
        keys.ParamKey(name=tuple(patterns)): {"wd_mult": _multiplier(rules, multiplier)}
        for multiplier, patterns in rules.by_value().items()
    }
    found = {}
    for name, parameter in skeleton(parameters).named_parameters():
        matching = [value for key, value in overrides.items() if key.matches(parameter, name)]
        found[name] = rules.base * combine(matching).get("wd_mult", 1.0)
    return found


def write(rules: Rules) -> list[str]:
    """Return the overrides, and the call that takes them."""
    lines = [
        "from megatron.core.optimizer import ParamKey, get_megatron_optimizer",
        "",
        f"# --weight-decay {rules.base!r}" + _kind(rules),
    ]
    if any(rule.numbered for rule in rules.rules):
        lines.append("# layers by number: not under pipeline parallelism, whose ranks count from 0")
    if not rules.rules:
        lines.append("config_overrides = {}  # not None, which would spare vectors and biases")
    else:
        lines.append("config_overrides = {")
        for multiplier, patterns in rules.by_value().items():
            names = "".join(f'"{pattern}", ' for pattern in patterns).rstrip()
            value = f'{{"wd_mult": {_multiplier(rules, multiplier)!r}}}'
            lines.append(f"    ParamKey(name=({names})): {value},")
        lines.append("}")
    call = "get_megatron_optimizer(config, model, config_overrides=config_overrides)"
    return [*lines, f"optimizer = {call}"]


def _kind(rules: Rules) -> str:
    return ", and decoupled_weight_decay=False in the OptimizerConfig" if rules.coupled else ""


ENGINE = Engine(
    key="megatron",
    title="Megatron-Core 0.16.1",
    syntax=GLOB,
    numbers="relative",
    layouts={
        "llama": Layout(names=_LLAMA),
        "mistral": Layout(names=_LLAMA),
        "qwen2": Layout(names=_LLAMA),
        "qwen3": Layout(names=_QWEN3),
        "gpt2": Layout(names=_GPT2),
    },
    forms=(str, _once, _twice),
    model_forms=(str, _once, _twice),
    model_names="code of yours that gives it a model of transformers",
    emulated=emulated,
    applied=applied,
    modules=("megatron.core.optimizer.optimizer_config", "megatron.core.optimizer_param_scheduler"),
    write=write,
)
