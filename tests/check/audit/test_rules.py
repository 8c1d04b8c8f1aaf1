"""The rules of other trainers, against truths read in their code, and against that code itself."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from gamma_nlp import audit
from gamma_nlp.check.audit.rules import RULES, rule_of
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.table import Gain, GainTable
from tests.support.peers import Vision, without_decay

SIZES = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "vocab_size": 64, "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip


def causal(name: str, config: str = "Config", **sizes: Any) -> nn.Module:
    with torch.device("meta"):
        made = getattr(transformers, name + config)(**(sizes or SIZES))
        return getattr(transformers, f"{name}ForCausalLM")(made)


def gpt2() -> nn.Module:
    with torch.device("meta"):
        config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=64)
        return transformers.GPT2LMHeadModel(config)


@pytest.mark.parametrize(
    ("make", "decayed", "gains"),
    [
        (lambda: causal("Llama"), 5, 5),
        (lambda: causal("Qwen3"), 9, 9),
        (lambda: causal("Gemma3", "TextConfig"), 13, 13),
        (lambda: causal("Olmo2"), 9, 9),
        (lambda: causal("Mistral"), 5, 5),
        (gpt2, 0, 5),
    ],
    ids=["llama", "qwen3", "gemma3", "olmo2", "mistral", "gpt2"],
)
def test_llama_factory_decays_every_rms_norm(
    make: Callable[[], nn.Module], decayed: int, gains: int
) -> None:
    found = audit(make(), rule="llama_factory")
    own = [part for part in found.parts if part.what.startswith("gain")]
    assert (sum(p.decayed for p in own), sum(p.trained for p in own)) == (decayed, gains)
    by_accident = [one.name.rpartition(".")[0] for one in found.decayed_by_accident]
    assert by_accident == (["model.norm"] if decayed else [])  # the others sit in branches
    pulled = [one for one in found.unit_offset if one.decayed]
    assert len(pulled) == (13 if gains == 13 else 0)


class Own(nn.LayerNorm):
    pass


class Named(nn.Module):
    """Parameters that rules by name and class see differently."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens, self.lm_head = nn.Embedding(4, 4), nn.Linear(4, 4, bias=False)
        self.ln, self.own, self.rms = nn.LayerNorm(4), Own(4), nn.RMSNorm(4)
        self.own.extra = nn.Linear(4, 4)
        self.bias_mlp, self.fc = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
        self.score = nn.Module()
        self.score.modules_to_save = nn.ModuleDict({"default": nn.Linear(4, 4)})


BY_LLAMA_FACTORY = {
    "embed_tokens.weight", "lm_head.weight", "rms.weight", "fc.weight",
    "score.modules_to_save.default.weight",
}  # fmt: skip


def test_llama_factory_spares_what_layer_norms_hold_and_names_with_bias() -> None:
    assert set(rule_of("llama_factory", Named()).decayed) == BY_LLAMA_FACTORY
    wrapped = rule_of("llama_factory", nn.DataParallel(Named())).decayed
    assert set(wrapped) == {f"module.{name}" for name in BY_LLAMA_FACTORY}


def test_llama_factory_takes_no_root_for_a_layer_norm() -> None:
    assert set(rule_of("llama_factory", nn.LayerNorm(4)).decayed) == {"weight"}


def test_axolotl_spares_embeddings_output_layers_and_trained_copies() -> None:
    rule = rule_of("axolotl", Named())
    assert set(rule.decayed) == {"rms.weight", "fc.weight"}
    assert set(rule.spares) == {"embed_tokens.weight", "lm_head.weight"}
    why = rule.why_spared("score.modules_to_save.default.weight", nn.Module())
    assert "modules_to_save" in why


def test_megatron_spares_vectors_and_dot_biases_but_no_single_number() -> None:
    decayed = set(rule_of("megatron", Vision()).decayed)
    assert decayed == {
        "cls_token", "pos_embed", "scale", "patch_embed.weight", "attn.weight",
        "attn.rel_bias_table", "head.weight",
    }  # fmt: skip


@pytest.mark.parametrize("rule", ["torchtitan", "fairseq"])
def test_rules_that_decay_everything_have_no_accident_but_what_is_marked(rule: Any) -> None:
    model = gpt2()
    found = audit(model, rule=rule)
    assert (found.spared, found.accidents) == (0, ())
    assert "the rule decays every parameter" in str(found)
    gains = (gain("rms.weight"),)
    roles = {n: Role.OTHER for n, _ in Named().named_parameters() if n != "rms.weight"}
    reasons = {"fc.weight": "marked by its author as not to be decayed (_no_weight_decay)"}
    marked = audit(Named(), GainTable(gains=gains, roles=roles, reasons=reasons), rule=rule)
    assert [one.name for one in marked.accidents] == ["fc.weight"]


def gain(name: str, **fields: Any) -> Gain:
    given = {"category": Category.HEAD, "kind": "rms_norm", "offset": 0.0, "source": "table"}
    return Gain(name=name, reason="", dtype="float32", numel=4, **{**given, **fields})


class Olmo(nn.Module):
    def __init__(self, name: str = "embeddings") -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])
        setattr(self, name, nn.Embedding(4, 4))
        self.positions = nn.Embedding(4, 4)


@pytest.mark.parametrize("name", ["embeddings", "wte"])
def test_olmo_core_spares_the_token_embedding_alone(name: str) -> None:
    model = Olmo(name)
    spared = {n for n, _ in model.named_parameters()} - set(rule_of("olmo_core", model).decayed)
    assert spared == {f"{name}.weight"}


def test_olmo_core_asks_a_model_of_transformers_for_its_token_embedding() -> None:
    found = audit(gpt2(), rule="olmo_core")
    assert [one.name for one in found.spared_as_by_some_authors] == ["transformer.wte.weight"]
    assert (found.spared, found.accidents) == (1, ())


def test_timm_spares_on_purpose_what_the_model_lists() -> None:
    rule = rule_of("timm", Vision())
    assert set(rule.spares) == {"cls_token", "attn.rel_bias_table"}
    assert rule.why_spared("scale", nn.Module()) == "it has 0 dimensions"


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_of_names_that_the_model_has(rule: Any) -> None:
    model = gpt2()
    names = {name for name, _ in model.named_parameters()}
    found = rule_of(rule, model)
    assert set(found.decayed) & names
    assert set(found.spares) <= names - set(found.decayed)
    assert any(character.isdigit() for character in found.title)  # the version


def test_an_unknown_rule_is_named_with_those_that_are_known() -> None:
    with pytest.raises(GammaError, match=r"no rule 'llama-factory': .*did you mean 'llama_fact"):
        audit(gpt2(), rule="llama-factory")  # type: ignore[call-overload]


# Each peer's own code, where it is installed.


def own(module: str) -> Any:
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{module.partition('.')[0]} is not installed")
    return pytest.importorskip(module, exc_type=ImportError)


def decayed_names(model: nn.Module, groups: Any) -> set[str]:
    return {name for name, _ in model.named_parameters()} - without_decay(model, groups)


def trained(model: nn.Module, rule: Any) -> set[str]:
    return set(rule_of(rule, model).decayed) & {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("make", [Named, Vision, gpt2, lambda: causal("Llama")])
def test_llama_factory_s_own_code_agrees(make: Callable[[], nn.Module]) -> None:
    theirs = own("llamafactory.train.trainer_utils")._get_decay_parameter_names
    model = make()
    names = {name for name, _ in model.named_parameters()}
    assert trained(model, "llama_factory") == set(theirs(model)) & names


@pytest.mark.parametrize("make", [Named, gpt2, lambda: causal("Llama")])
def test_axolotl_s_own_code_agrees(make: Callable[[], nn.Module]) -> None:
    mixin = own("axolotl.core.trainers.mixins.optimizer").OptimizerMixin
    this = mixin.__new__(mixin)
    this.args = SimpleNamespace(
        lr_groups=None, weight_decay=0.5, embedding_lr=1.0, embedding_lr_scale=None
    )
    model = make()
    groups = this.create_optimizer_grouped_parameters(model, {"lr": 0.1})
    assert trained(model, "axolotl") == decayed_names(model, groups)


@pytest.mark.parametrize("make", [Named, Vision, gpt2])
def test_torchtitan_s_own_code_agrees(make: Callable[[], nn.Module]) -> None:
    theirs = own("torchtitan.components.optimizer.optimizer")
    configs = theirs.default_adamw(lr=0.1).param_groups
    build = theirs.OptimizersContainer._build_param_groups
    model = make()
    groups, _ = build(model, configs, {})
    assert trained(model, "torchtitan") == decayed_names(model, groups["AdamW"])


@pytest.mark.parametrize("make", [Named, Vision, gpt2])
def test_megatron_s_own_code_agrees(make: Callable[[], nn.Module]) -> None:
    theirs = own("megatron.core.optimizer")
    overrides = theirs.get_standard_config_overrides(theirs.OptimizerConfig(lr=0.1))
    model = make()
    spared = {
        name
        for name, p in model.named_parameters()
        for key, override in overrides.items()
        if key.matches(p, name) and override["wd_mult"] == 0
    }
    assert trained(model, "megatron") == {n for n, _ in model.named_parameters()} - spared


def test_olmo_core_s_own_code_agrees() -> None:
    theirs = own("olmo_core.optim")
    overrides = [
        theirs.OptimGroupOverride(params=["embeddings.weight"], opts={"weight_decay": 0.0})
    ]
    config = theirs.AdamWConfig(lr=0.1, weight_decay=0.5, group_overrides=overrides)
    model = Olmo()
    optimizer = config.build(model)
    assert trained(model, "olmo_core") == decayed_names(model, optimizer.param_groups)


@pytest.mark.needs("fairseq")
@pytest.mark.filterwarnings("ignore")
def test_fairseq_s_own_code_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    from gamma_nlp.fairseq import commands

    commands.prepare()  # fairseq 0.12.2 does not import by itself on Python 3.11
    theirs = importlib.import_module("fairseq.trainer")
    built: list[Any] = []

    class Stop(Exception):
        pass

    def stop(config: Any, params: Any) -> None:
        built.extend(params)
        raise Stop

    monkeypatch.setattr(theirs.optim, "build_optimizer", stop)
    model = Named()
    model.fc.requires_grad_(False)
    common = SimpleNamespace(fp16=False, bf16=False, amp=False)
    this = SimpleNamespace(
        model=model, criterion=nn.Module(), is_fsdp=False, cuda=False,
        cfg=SimpleNamespace(common=common, optimizer=None),
    )  # fmt: skip
    with pytest.raises(Stop):
        theirs.Trainer._build_optimizer(this)
    names = {id(p): name for name, p in model.named_parameters()}
    frozen = {"fc.weight", "fc.bias"}
    assert trained(model, "fairseq") - frozen == {names[id(p)] for p in built}
