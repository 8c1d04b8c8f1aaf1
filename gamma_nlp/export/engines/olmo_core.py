"""OLMo-core 3.0.0: shell patterns in ``OptimGroupOverride``; a parameter may be in one only.

Read in the wheel: ``OptimConfig.build_groups`` of olmo_core/optim/config.py, which puts a parameter
into every override that matches it, once per pattern, so that torch refuses what overlaps; an
override takes any number as ``weight_decay``; ``AdamConfig`` has none, so that decay in the
gradient cannot be set. Names from olmo_core/nn/hf/convert.py, by which Gemma 3's gains, stored as
w for a gain of 1 + w in transformers, are stored as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from importlib import import_module

from gamma_nlp.errors import GammaError
from gamma_nlp.export.engine import (
    Engine,
    Layout,
    Parameter,
    Rules,
    skeleton,
    wrapped_block,
    wrapped_part,
)
from gamma_nlp.export.pieces import GLOB

_COMMON = {
    "model.embed_tokens.weight": ("embeddings.weight",),
    "model.norm.weight": ("lm_head.norm.weight",),
    "lm_head.weight": ("lm_head.w_out.weight",),
    "model.layers.{}.self_attn.q_proj.weight": ("blocks.{}.attention.w_q.weight",),
    "model.layers.{}.self_attn.k_proj.weight": ("blocks.{}.attention.w_k.weight",),
    "model.layers.{}.self_attn.v_proj.weight": ("blocks.{}.attention.w_v.weight",),
    "model.layers.{}.self_attn.o_proj.weight": ("blocks.{}.attention.w_out.weight",),
    "model.layers.{}.mlp.gate_proj.weight": ("blocks.{}.feed_forward.w1.weight",),
    "model.layers.{}.mlp.down_proj.weight": ("blocks.{}.feed_forward.w2.weight",),
    "model.layers.{}.mlp.up_proj.weight": ("blocks.{}.feed_forward.w3.weight",),
}
_QK = {
    "model.layers.{}.self_attn.q_norm.weight": ("blocks.{}.attention.q_norm.weight",),
    "model.layers.{}.self_attn.k_norm.weight": ("blocks.{}.attention.k_norm.weight",),
}
_LLAMA = {
    **_COMMON,
    "model.layers.{}.input_layernorm.weight": ("blocks.{}.attention_norm.weight",),
    "model.layers.{}.post_attention_layernorm.weight": ("blocks.{}.feed_forward_norm.weight",),
}
_OLMO2 = {
    **_COMMON,
    **_QK,
    "model.layers.{}.post_attention_layernorm.weight": ("blocks.{}.attention_norm.weight",),
    "model.layers.{}.post_feedforward_layernorm.weight": ("blocks.{}.feed_forward_norm.weight",),
}
_GEMMA3 = {
    **_COMMON,
    **_QK,
    "model.layers.{}.input_layernorm.weight": ("blocks.{}.attention_norm.weight",),
    "model.layers.{}.post_attention_layernorm.weight": ("blocks.{}.post_attention_norm.weight",),
    "model.layers.{}.pre_feedforward_layernorm.weight": ("blocks.{}.feed_forward_norm.weight",),
    "model.layers.{}.post_feedforward_layernorm.weight": (
        "blocks.{}.post_feed_forward_norm.weight",
    ),
}


def emulated(rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Return what its groups would give each parameter."""
    found: dict[str, float] = {}
    for rule in rules.rules:
        names = [
            parameter.name for parameter in parameters if fnmatch(parameter.name, rule.pattern)
        ]
        if not names:
            raise GammaError(f"OLMo-core: pattern {rule.pattern!r} matches no parameter")
        if twice := [name for name in names if name in found]:
            raise GammaError(f"OLMo-core: {twice[0]!r} would be in more than one parameter group")
        found |= dict.fromkeys(names, rules.number(rule.multiplier))
    return {name: found.get(name, rules.base) for name, _ in parameters}


def applied(rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Return the same by its own code."""
    theirs = import_module("olmo_core.optim")
    overrides = [
        theirs.OptimGroupOverride(params=patterns, opts={"weight_decay": rules.number(multiplier)})
        for multiplier, patterns in rules.by_value().items()
    ]
    model = skeleton(parameters)
    optimizer = theirs.AdamWConfig(weight_decay=rules.base, group_overrides=overrides).build(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}


def write(rules: Rules) -> list[str]:
    """Return the ``optim`` of a train module's config."""
    lines = [
        "from olmo_core.optim import AdamWConfig, OptimGroupOverride",
        "",
        "optim = AdamWConfig(  # or SkipStepAdamWConfig",
        "    lr=4e-4,  # put yours",
        f"    weight_decay={rules.base!r},",
    ]
    if rules.rules:
        lines.append("    group_overrides=[")
    for multiplier, patterns in rules.by_value().items():
        lines += [
            "        OptimGroupOverride(",
            f"            params=[{', '.join(_quoted(pattern) for pattern in patterns)}],",
            f'            opts={{"weight_decay": {rules.number(multiplier)!r}}},',
            "        ),",
        ]
    return [*lines, "    ],", ")"] if rules.rules else [*lines, ")"]


def _quoted(text: str) -> str:
    return f'"{text}"'


ENGINE = Engine(
    key="olmo_core",
    title="OLMo-core 3.0.0",
    syntax=GLOB,
    disjoint=True,
    coupled=False,
    layouts={
        "llama": Layout(names=_LLAMA),
        "qwen3": Layout(names={**_LLAMA, **_QK}),
        "gemma3_text": Layout(names=_GEMMA3, offset=0.0),
        "olmo2": Layout(names=_OLMO2),
        "olmo3": Layout(names=_OLMO2),
    },
    forms=(str, wrapped_block, wrapped_part),
    model_names="code of yours that gives it a model of transformers",
    emulated=emulated,
    applied=applied,
    modules=("olmo_core.optim",),
    write=write,
)
