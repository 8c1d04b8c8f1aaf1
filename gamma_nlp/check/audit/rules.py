"""Which parameters the trainers of others decay: their rules, as read in their code.

Each rule is a function of the model, that returns the names it decays, with what it means to decay
or to spare. They were read in November 2026 in the packages named below, and the tests hold each
against that package's own code where it is installed.

``hugging_face``
    ``Trainer.get_decay_parameter_names`` of the installed transformers (5.23.0 was read).
``llama_factory``
    ``_get_decay_parameter_names`` in ``train/trainer_utils.py`` of llamafactory 0.9.5 (May 2026):
    all but what an ``nn.LayerNorm`` holds and names with ``bias``. It is used with GaLore, APOLLO,
    BAdam and LoRA+ (there for vectors and the B matrices); without them its trainer has the rule of
    transformers. An RMSNorm of transformers is no ``nn.LayerNorm``, so all of them decay.
``axolotl``
    ``OptimizerMixin`` in ``core/trainers/mixins/optimizer.py`` of axolotl 0.19.0 (10 September
    2026), used with a custom optimizer, LoRA+, ``lr_groups`` or a learning rate for embeddings:
    the rule of transformers, but ``embed_tokens``, ``lm_head`` and trained copies (names that end
    in ``modules_to_save.default.weight``) do not decay. Otherwise it has the rule of transformers.
``torchtitan``
    ``default_adamw`` in ``components/optimizer/optimizer.py`` of torchtitan 0.3.0 (3 September
    2026): one group with the pattern ``.*``, so everything.
``megatron``
    ``get_standard_config_overrides`` in ``core/optimizer/__init__.py`` of megatron-core 0.16.1 (20
    March 2026): all but vectors (one dimension, not none) and names that end in ``.bias``. It can
    decay q/k norms too (``apply_wd_to_qk_layernorm``), which is off by default.
``olmo_core``
    ``configure_train_module`` in ``internal/cookbook.py`` of ai2-olmo-core 3.0.0 (1 October 2026):
    all but ``embeddings.weight``. A model that has no such name has its token embedding spared:
    what ``get_input_embeddings()`` returns, or else the first ``nn.Embedding``.
``timm``
    ``param_groups_weight_decay`` in ``optim/_param_groups.py`` of timm 1.0.31 (3 November 2026):
    all with two or more dimensions whose name does not end in ``.bias``, but for what the model's
    ``no_weight_decay()`` lists.
``fairseq``
    ``Trainer._build_optimizer`` in ``trainer.py`` of fairseq 0.12.2 (June 2022): everything.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args

from torch import nn

from gamma_nlp.check.judge import BY_STOCK_WORDS, Rule, spared_by_name
from gamma_nlp.errors import GammaError, close_to
from gamma_nlp.gains.peer_rules import spared_by, stock_decayed
from gamma_nlp.wrappers import plain_names, unwrap

RuleName = Literal[
    "hugging_face",
    "llama_factory",
    "axolotl",
    "torchtitan",
    "megatron",
    "olmo_core",
    "timm",
    "fairseq",
]
RULES: tuple[RuleName, ...] = get_args(RuleName)


def check_rule(name: str) -> None:
    """Refuse a rule that is not known.

    Raises:
        GammaError: Names those that are.
    """
    if name not in _MAKE:
        close = close_to(str(name), RULES)
        raise GammaError(f"no rule {name!r}: it is one of {', '.join(RULES)}{close}")


def rule_of(name: str, model: nn.Module) -> Rule:
    """Return what a library's rule does with the parameters of a model.

    Args:
        name: One of :data:`RULES`.
        model: Any module, wrapped or not, also on the meta device.

    Raises:
        GammaError: No such rule, or the rule needs a package that is not installed.
    """
    check_rule(name)
    return _MAKE[name](model)


def _hugging_face(model: nn.Module) -> Rule:
    decayed = stock_decayed(model)
    version = importlib.import_module("transformers").__version__
    return Rule(title=f"the Trainer of transformers {version}", decayed=decayed)


def _llama_factory(model: nn.Module) -> Rule:
    return Rule(
        title="LLaMA-Factory 0.9.5 with GaLore, APOLLO or BAdam",
        decayed={name for name in _outside(model, _layer_norms()) if "bias" not in name},
        why_decayed=lambda name, owner: f"its module ({type(owner).__name__}) is no nn.LayerNorm",
        why_spared=spared_by_name("bias"),
    )


def _layer_norms() -> tuple[type[nn.Module], ...]:
    """Return what transformers takes for layer norms: some of its versions add classes."""
    known = getattr(sys.modules.get("transformers.pytorch_utils"), "ALL_LAYERNORM_LAYERS", ())
    return tuple({nn.LayerNorm: None, **dict.fromkeys(known)})


def _outside(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[str]:
    """Yield the names of parameters inside no child of these classes; the model is no child."""
    for name, child in module.named_children():
        if not isinstance(child, kinds):
            yield from (f"{name}.{inner}" for inner in _outside(child, kinds))
    yield from module._parameters


def _axolotl(model: nn.Module) -> Rule:
    copies = "modules_to_save.default.weight"
    embeddings = ("embed_tokens", "lm_head")
    names = [name for name, _ in model.named_parameters()]
    on_purpose = {name for name in names if any(word in name for word in embeddings)}
    spared = on_purpose | {name for name in names if name.endswith(copies)}

    def why_spared(name: str, owner: nn.Module) -> str:
        if name.endswith(copies):
            return f"its name ends in {copies!r}, which the rule takes for an embedding"
        return BY_STOCK_WORDS(name, owner)

    return Rule(
        title="axolotl 0.19.0 with a custom optimizer",
        decayed=stock_decayed(model) - spared,
        spares=dict.fromkeys(on_purpose, "the rule sets embeddings and output layers to 0"),
        why_spared=why_spared,
    )


def _torchtitan(model: nn.Module) -> Rule:
    return _everything(model, "torchtitan 0.3.0 (default_adamw)")


def _fairseq(model: nn.Module) -> Rule:
    return _everything(model, "fairseq 0.12.2")


def _everything(model: nn.Module, title: str) -> Rule:
    names = frozenset(name for name, _ in model.named_parameters())
    return Rule(title=title, decayed=names, on_purpose="the rule decays every parameter")


def _megatron(model: nn.Module) -> Rule:
    _need_shapes(model, "Megatron")
    shapes = {name: p.ndim for name, p in model.named_parameters()}
    plain = plain_names(shapes)

    def why_decayed(name: str, owner: nn.Module) -> str:
        return f"it has {shapes[name]} dimensions, and the rule spares those with 1"

    def why_spared(name: str, owner: nn.Module) -> str:
        return "it has 1 dimension" if shapes[name] == 1 else "its name ends in '.bias'"

    return Rule(
        title="Megatron-core 0.16.1",
        decayed={
            name for name in shapes if shapes[name] != 1 and not plain[name].endswith(".bias")
        },
        why_decayed=why_decayed,
        why_spared=why_spared,
    )


def _olmo_core(model: nn.Module) -> Rule:
    spared = _token_embedding(model)
    return Rule(
        title="OLMo-core 3.0.0",
        decayed={name for name, _ in model.named_parameters()} - spared,
        on_purpose="the rule decays every parameter but the token embedding",
        spares=dict.fromkeys(spared, "the rule sets the token embedding to 0"),
    )


def _token_embedding(model: nn.Module) -> set[str]:
    names = plain_names(name for name, _ in model.named_parameters())
    named = {name for name, plain in names.items() if plain == "embeddings.weight"}
    if named:
        return named
    inner = unwrap(model)
    embedding: Any = None
    if callable(asked := getattr(inner, "get_input_embeddings", None)):
        with contextlib.suppress(NotImplementedError):  # transformers: it reads no tokens
            embedding = asked()
    if embedding is None:
        tables = (one for one in inner.modules() if isinstance(one, nn.Embedding))
        embedding = next(tables, None)
    own = {id(p) for p in embedding.parameters()} if isinstance(embedding, nn.Module) else set()
    return {name for name, p in model.named_parameters() if id(p) in own}


def _timm(model: nn.Module) -> Rule:
    spared = spared_by("timm", model)
    parameters = dict(model.named_parameters())
    plain = plain_names(parameters)
    by_shape = {n for n in spared if parameters[n].ndim <= 1 or plain[n].endswith(".bias")}

    def why_spared(name: str, owner: nn.Module) -> str:
        ndim = parameters[name].ndim
        return f"it has {ndim} dimension{'' if ndim == 1 else 's'}" if ndim <= 1 else "a '.bias'"

    return Rule(
        title="timm 1.0.31",
        decayed=parameters.keys() - spared,
        spares=dict.fromkeys(spared - by_shape, "the model's no_weight_decay() lists it"),
        why_decayed=lambda name, owner: f"it has {parameters[name].ndim} dimensions",
        why_spared=why_spared,
    )


def _need_shapes(model: nn.Module, whose: str) -> None:
    if any("_fsdp_wrapped_module" in name for name, _ in model.named_parameters()):
        raise GammaError(
            f"{whose}'s rule looks at shapes, which FSDP1 flattens; use FSDP2 (fully_shard), or "
            "audit the model before it is wrapped"
        )


_MAKE: Mapping[str, Callable[[nn.Module], Rule]] = {
    "hugging_face": _hugging_face,
    "llama_factory": _llama_factory,
    "axolotl": _axolotl,
    "torchtitan": _torchtitan,
    "megatron": _megatron,
    "olmo_core": _olmo_core,
    "timm": _timm,
    "fairseq": _fairseq,
}
