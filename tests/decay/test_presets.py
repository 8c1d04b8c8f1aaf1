"""Each preset decays what its source decays, by the source's own code or a table made from it."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import DecayPolicy, categorize, make_optimizer, param_groups
from gamma_nlp.decay.assign import assign
from gamma_nlp.decay.policies import presets
from gamma_nlp.decay.policy import PRESETS
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.peer_rules import spared_by
from gamma_nlp.gains.table import GainTable
from tests.support.optim_models import Toy, gain, toy_table
from tests.support.paths import ROOT
from tests.support.peers import SPARED_BY_TIMM, Vision, without_decay
from tests.support.tiny_models import tiny_bert, tiny_gpt2

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
}


def built(name: str, **changes: Any) -> nn.Module:
    """A small causal model of transformers."""
    import transformers

    config = getattr(transformers, f"{name}Config")(**{**SMALL, **changes})
    torch.manual_seed(0)
    return getattr(transformers, f"{name}ForCausalLM")(config)


def gemma() -> nn.Module:
    """A Gemma 3: sandwich norms, q/k norms, every gain stored as 1 + w."""
    import transformers

    torch.manual_seed(0)
    return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**SMALL))


def state_space() -> nn.Module:
    return built("Mamba", state_size=4, conv_kernel=2, expand=2, time_step_rank=2)


def zero_centred() -> nn.Module:
    """A Qwen3-Next: most gains are stored as 1 + w, those of the linear attention's norms as w."""
    linear = {"linear_num_key_heads": 1, "linear_num_value_heads": 2}
    heads = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 2}
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
    layers = ["linear_attention", "full_attention"]
    shared = {"shared_expert_intermediate_size": 8, "layer_types": layers}
    return built("Qwen3Next", **linear, **heads, **experts, **shared)


def decayed(groups: Iterable[Mapping[str, Any]]) -> set[str]:
    return {name for group in groups if group["weight_decay"] for name in group["param_names"]}


def adamw(model: nn.Module, policy: str) -> torch.optim.Optimizer:
    table = categorize(model)
    return make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.1, lr=1e-3, policy=policy, table=table
    )


# hugging_face: the stock Trainer's own groups


@pytest.mark.needs("transformers", "accelerate")
@pytest.mark.parametrize(
    "make",
    [
        tiny_bert,
        tiny_gpt2,
        lambda: built("Llama"),
        gemma,
        lambda: built("OPT", ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=16),
        state_space,
        zero_centred,
    ],
    ids=["bert", "gpt2", "llama", "gemma3", "opt", "mamba", "qwen3_next"],
)
def test_hugging_face_groups_as_the_stock_trainer_does(make: Any, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    model = make()
    args = TrainingArguments(output_dir=str(tmp_path), weight_decay=0.1, use_cpu=True)
    stock = Trainer(model=model, args=args).create_optimizer()
    ours = adamw(model, "hugging_face")
    assert without_decay(model, ours.param_groups) == without_decay(model, stock.param_groups)
    assert not any("gamma_center" in group for group in ours.param_groups)  # w itself, toward 0


@pytest.mark.needs("transformers", "accelerate")
@pytest.mark.parametrize("policy", ["hugging_face", "timm"])
def test_the_trainer_asks_the_rule_of_its_own_model(policy: str, tmp_path: Path) -> None:
    from transformers import TrainingArguments

    from gamma_nlp import GammaTrainer

    args = TrainingArguments(output_dir=str(tmp_path), weight_decay=0.1, use_cpu=True)
    trainer = GammaTrainer(model=state_space(), args=args, decay_policy=policy)
    groups = trainer.create_optimizer().param_groups
    assert without_decay(trainer.model, groups) == spared_by(policy, trainer.model)


@pytest.mark.needs("transformers")
def test_hugging_face_decays_what_the_stock_rule_misses() -> None:
    """Mamba's last norm and its state-space constants: neither name nor class is known to it."""
    names = decayed(param_groups(state_space(), weight_decay=0.1, policy="hugging_face"))
    assert {"backbone.norm_f.weight", "backbone.layers.0.mixer.A_log"} <= names
    assert "backbone.layers.0.mixer.dt_proj.bias" not in names
    assert "backbone.layers.0.norm.weight" not in names


# timm


def vision_table() -> GainTable:
    return GainTable(
        gains=(
            gain("norm.weight", Category.HEAD),
            gain("ls1.gamma", Category.BRANCH_LAST, kind="layer_scale"),
        ),
        roles={
            name: Role.SHIFT if name == "norm.bias" else Role.WEIGHT
            for name, _ in Vision().named_parameters()
            if name not in ("norm.weight", "ls1.gamma")
        },
    )


def test_timm_spares_what_its_code_spares() -> None:
    model = Vision()
    groups = param_groups(model, weight_decay=0.1, policy="timm", table=vision_table())
    assert without_decay(model, groups) == SPARED_BY_TIMM
    assert decayed(groups) == {
        "pos_embed", "patch_embed.weight", "attn.weight", "head.weight",
    }  # fmt: skip


def test_timm_fits_a_wrapped_model_and_a_table_made_before() -> None:
    model = nn.DataParallel(Vision())
    groups = param_groups(model, weight_decay=0.1, policy="timm", table=vision_table())
    assert without_decay(model, groups) == {f"module.{name}" for name in SPARED_BY_TIMM}


# olmo, torchtitan


class Olmo(nn.Module):
    """Parameters only, named as in OLMo-core."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(8, 4)
        self.block = nn.ModuleDict({"w": nn.Linear(4, 4), "norm": nn.RMSNorm(4)})
        self.lm_head = nn.ModuleDict({"norm": nn.RMSNorm(4), "w_out": nn.Linear(4, 8)})


def olmo_table() -> GainTable:
    places = {"block.norm.weight": Category.BRANCH_LAST, "lm_head.norm.weight": Category.HEAD}
    gains = tuple(gain(name, place, kind="rms_norm") for name, place in places.items())
    roles = {
        name: Role.BIAS if name.endswith("bias") else Role.WEIGHT
        for name, _ in Olmo().named_parameters()
        if name not in places
    }
    return GainTable(gains=gains, roles={**roles, "embeddings.weight": Role.EMBEDDING})


def test_olmo_spares_the_embeddings_alone() -> None:
    groups = param_groups(Olmo(), weight_decay=0.1, policy="olmo", table=olmo_table())
    assert decayed(groups) == {n for n, _ in Olmo().named_parameters()} - {"embeddings.weight"}
    model = built("Olmo2") if importlib.util.find_spec("transformers") else None
    if model is not None:
        spared = without_decay(model, param_groups(model, weight_decay=0.1, policy="olmo"))
        assert spared == {"model.embed_tokens.weight"}


@pytest.mark.needs("olmo_core")
def test_olmo_core_s_own_code_agrees() -> None:
    optim = importlib.import_module("olmo_core.optim")
    override = optim.OptimGroupOverride(["embeddings.weight"], {"weight_decay": 0.0})
    model = Olmo()
    config = optim.AdamWConfig(weight_decay=0.1, group_overrides=[override])
    stock = [{"weight_decay": 0.1, **group} for group in config.build_groups(model)]
    groups = param_groups(model, weight_decay=0.1, policy="olmo", table=olmo_table())
    assert without_decay(model, groups) == without_decay(model, stock)


def test_torchtitan_and_all_params_decay_everything_as_plain_torch_does() -> None:
    """Also a gain that is stored as 1 + weight: plain AdamW decays the weight toward 0."""
    for policy in ("torchtitan", "all_params"):
        (group,) = param_groups(Toy(), weight_decay=0.1, policy=policy, table=toy_table(offset=1.0))
        assert group["weight_decay"] == 0.1
        assert set(group["param_names"]) == {name for name, _ in Toy().named_parameters()}


@pytest.mark.needs("torchtitan")
def test_torchtitan_s_own_code_agrees() -> None:
    optimizer = importlib.import_module("torchtitan.components.optimizer")
    config = optimizer.default_adamw()
    assert [group.pattern for group in config.param_groups] == [".*"]
    assert config.param_groups[0].optimizer_kwargs["weight_decay"] > 0


# iwd, qwen3_next: no code was published


@pytest.mark.needs("transformers")
@pytest.mark.parametrize("policy", ["iwd", "input_only"])
def test_iwd_decays_input_norms_and_no_q_k_norms(policy: str) -> None:
    model = gemma()
    table = categorize(model)
    decays = assign(table, DecayPolicy.load(policy), 0.1)
    assert {gain.name for gain in table if decays[gain.name].coefficient} == {
        f"model.layers.{layer}.{norm}.weight"
        for layer in (0, 1)
        for norm in ("input_layernorm", "pre_feedforward_layernorm")
    }


def test_input_only_is_another_name_of_iwd() -> None:
    assert {**vars(PRESETS["iwd"]), "name": ""} == {**vars(PRESETS["input_only"]), "name": ""}


@pytest.mark.needs("transformers")
def test_qwen3_next_decays_every_gain_toward_1_however_it_is_stored() -> None:
    model = zero_centred()
    groups = adamw(model, "qwen3_next").param_groups
    table = categorize(model)
    hooked = {n: g for g in groups for n in g["param_names"] if "gamma_center" in g}
    stored_whole = {gain.name for gain in table if not gain.offset}
    assert stored_whole == {"model.layers.0.linear_attn.norm.weight"}
    assert set(hooked) == stored_whole
    assert all(group["gamma_center"] == 1.0 for group in hooked.values())
    assert {gain.name for gain in table} <= decayed(groups)


# what they say of themselves


README = (ROOT / "gamma_nlp" / "decay" / "README.md").read_text(encoding="utf-8")


def row_of(name: str) -> str:
    """The row of the README's table whose first cell names a preset."""
    (row,) = [line for line in README.splitlines() if re.match(rf"\|[^|]*`{name}`[^|]*\|", line)]
    return row


def paragraph_of(name: str) -> str:
    """What the docstring of the presets says of one."""
    head = rf"^[^\n]*``{name}``[^\n]*$"
    text = re.split(head, presets.__doc__ or "", maxsplit=1, flags=re.MULTILINE)[1]
    return re.split(r"\n\S", text, maxsplit=1)[0]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_what_it_is(name: str) -> None:
    assert row_of(name).count("|") == 4
    assert paragraph_of(name).strip()


@pytest.mark.parametrize(
    "name", ["iwd", "torchtitan", "olmo", "qwen3_next", "hugging_face", "timm"]
)
def test_what_peers_do_is_dated(name: str) -> None:
    for text in (row_of(name), paragraph_of(name)):
        assert re.search(r"\d+\.\d+\.\d+|[0-9a-f]{7}|20\d\d", text)


@pytest.mark.parametrize("name", ["iwd", "qwen3_next"])
def test_what_is_known_second_hand_is_marked_so(name: str) -> None:
    assert "**second-hand**" in row_of(name)
    assert "**second-hand**" in paragraph_of(name)


def test_a_rule_needs_the_model() -> None:
    with pytest.raises(GammaError, match=r"'timm': the rule 'timm' decides by name, class and sha"):
        assign(toy_table(), PRESETS["timm"], 0.1)


def test_a_rule_and_multipliers_both_have_to_agree_and_a_pattern_wins_over_both() -> None:
    policy = DecayPolicy(
        rule="timm", branch_last=1.0, patterns={"ls1.*": 0.5, "head.*": 0.0}, embedding=0.0
    )
    table = vision_table()
    table = GainTable(gains=table.gains, roles={**table.roles, "pos_embed": Role.EMBEDDING})
    groups = param_groups(Vision(), weight_decay=1.0, policy=policy, table=table)
    found = {name: g["weight_decay"] for g in groups for name in g["param_names"]}
    assert {name: value for name, value in found.items() if value} == {
        "ls1.gamma": 0.5, "patch_embed.weight": 1.0, "attn.weight": 1.0,
    }  # fmt: skip


def test_qwen3_next_spares_layer_scales_which_are_no_norm_weights() -> None:
    scale = gain("scale", Category.BRANCH_LAST, kind="layer_scale")
    assert PRESETS["qwen3_next"].multiplier("scale", scale) == 0.0
