"""torchtitan 0.3.0 (3 September 2026): regular expressions, the first that matches decides.

Read in the wheel: ``OptimizersContainer._build_param_groups`` of
torchtitan/components/optimizer/optimizer.py, which searches each name, with the parts that
activation checkpointing adds, and raises where a pattern gets no parameter or a parameter no
pattern; the names from ``state_dict_adapter.py`` of torchtitan/models/llama3 and qwen3. In
torchtitan/experiments/transformers_modeling_backend a model of transformers is ``self.model``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module

from gamma_nlp.errors import GammaError
from gamma_nlp.export.engine import Engine, Layout, Parameter, Rules, skeleton, wrapped_block
from gamma_nlp.export.pieces import REGEX

REST = ".*"
"""The pattern of what no other matches: torchtitan wants one for every parameter."""

_LLAMA = {
    "model.embed_tokens.weight": ("tok_embeddings.weight",),
    "model.layers.{}.self_attn.q_proj.weight": ("layers.{}.attention.qkv_linear.wq.weight",),
    "model.layers.{}.self_attn.k_proj.weight": ("layers.{}.attention.qkv_linear.wk.weight",),
    "model.layers.{}.self_attn.v_proj.weight": ("layers.{}.attention.qkv_linear.wv.weight",),
    "model.layers.{}.self_attn.o_proj.weight": ("layers.{}.attention.wo.weight",),
    "model.layers.{}.mlp.gate_proj.weight": ("layers.{}.feed_forward.w1.weight",),
    "model.layers.{}.mlp.up_proj.weight": ("layers.{}.feed_forward.w3.weight",),
    "model.layers.{}.mlp.down_proj.weight": ("layers.{}.feed_forward.w2.weight",),
    "model.layers.{}.input_layernorm.weight": ("layers.{}.attention_norm.weight",),
    "model.layers.{}.post_attention_layernorm.weight": ("layers.{}.ffn_norm.weight",),
    "model.norm.weight": ("norm.weight",),
    "lm_head.weight": ("lm_head.weight",),
}
_QWEN3 = {
    **_LLAMA,
    "model.layers.{}.self_attn.q_norm.weight": ("layers.{}.attention.q_norm.weight",),
    "model.layers.{}.self_attn.k_norm.weight": ("layers.{}.attention.k_norm.weight",),
}
_EXPERTS = "layers.{}.moe.routed_experts.inner_experts"
_QWEN3_MOE = {
    **_QWEN3,
    "model.layers.{}.mlp.gate.weight": ("layers.{}.moe.router.gate.weight",),
    "model.layers.{}.mlp.experts.gate_up_proj": (f"{_EXPERTS}.w1_EFD", f"{_EXPERTS}.w3_EFD"),
    "model.layers.{}.mlp.experts.down_proj": (f"{_EXPERTS}.w2_EDF",),
}


def _inside(name: str) -> str:
    return f"model.{name}"


def _inside_wrapped(name: str) -> str:
    return wrapped_block(_inside(name))


def _configs(rules: Rules) -> list[tuple[str, float]]:
    """Return patterns and weight decays in their order, the rest last."""
    found = [(rule.pattern, rules.number(rule.multiplier)) for rule in rules.rules]
    return [*found, (REST, rules.base)] if rules.others else found


def emulated(rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Return what its groups would give each parameter."""
    found: dict[str, float] = {}
    for pattern, weight_decay in _configs(rules):
        names = [p.name for p in parameters if p.name not in found and re.search(pattern, p.name)]
        if not names:
            raise GammaError(f"torchtitan: pattern {pattern!r} matches no parameter")
        found |= dict.fromkeys(names, weight_decay)
    return found


def applied(rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Return the same by its own code."""
    theirs = import_module("torchtitan.components.optimizer")
    configs = [
        theirs.ParamGroupConfig(
            pattern=pattern,
            optimizer_name="AdamW",
            optimizer_kwargs={"weight_decay": weight_decay},
        )
        for pattern, weight_decay in _configs(rules)
    ]
    model = skeleton(parameters)
    groups, _ = theirs.OptimizersContainer._build_param_groups(model, configs, {})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: g["weight_decay"] for g in groups["AdamW"] for p in g["params"]}


def write(rules: Rules) -> list[str]:
    """Return the ``optimizer`` of a ``Trainer.Config``."""
    name = "Adam" if rules.coupled else "AdamW"
    lines = [
        "from torchtitan.components.optimizer import OptimizersContainer, ParamGroupConfig",
        "",
        'ADAM = {"lr": 8e-4, "betas": (0.9, 0.95), "eps": 1e-8}  # as in default_adamw; put yours',
        "",
        "optimizer = OptimizersContainer.Config(",
        "    param_groups=[",
    ]
    for pattern, weight_decay in _configs(rules):
        lines += [
            "        ParamGroupConfig(",
            f'            pattern=r"{pattern}",',
            f'            optimizer_name="{name}",',
            f'            optimizer_kwargs={{**ADAM, "weight_decay": {weight_decay!r}}},',
            "        ),",
        ]
    return [*lines, "    ],", ")"]


ENGINE = Engine(
    key="torchtitan",
    title="torchtitan 0.3.0",
    syntax=REGEX,
    ordered=True,
    layouts={
        "llama": Layout(names=_LLAMA),
        "qwen3": Layout(names=_QWEN3),
        "qwen3_moe": Layout(names=_QWEN3_MOE),
    },
    forms=(str, wrapped_block),
    model_forms=(_inside, _inside_wrapped),
    model_names="its transformers backend",
    emulated=emulated,
    applied=applied,
    modules=("torchtitan.components.optimizer",),
    write=write,
)
