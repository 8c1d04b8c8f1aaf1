"""Which parameters other libraries spare from weight decay: by name, class and shape.

None of them asks where a gain sits, so a gain table cannot say what they do, only the model can.

``hugging_face``
    ``Trainer.get_decay_parameter_names`` of the installed transformers (5.23.0 spares what an
    ``nn.LayerNorm`` holds, and names with ``bias``, ``layernorm``, ``rmsnorm`` or a part that is
    or ends in ``norm``).
``timm``
    ``timm/optim/_param_groups.py`` of timm 1.0.31 (3 November 2026): no parameter with fewer than
    two dimensions, none whose name ends in ``.bias``, none that the model's ``no_weight_decay()``
    names, where ``*`` stands for anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from gamma_nlp.errors import GammaError, need, shown
from gamma_nlp.wrappers import plain_names, unwrap

PeerRule = Literal["hugging_face", "timm"]


def spared_by(rule: PeerRule, model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that a library's own rule would not decay.

    Args:
        rule: Whose rule.
        model: Any module, wrapped or not, also on the meta device.

    Raises:
        GammaError: The library is needed and not installed, or the model hides what its rule asks.
    """
    return frozenset(_RULES[rule](model))


def stock_decayed(model: nn.Module) -> set[str]:
    """Return the names of the parameters that the installed ``transformers.Trainer`` decays.

    Raises:
        GammaError: transformers is not installed.
    """
    trainer = need("transformers", "hf", "the stock rule needs the Trainer of").Trainer
    # The method never reads its trainer, and making one would need a run's arguments.
    no_trainer: Any = None
    return set(trainer.get_decay_parameter_names(no_trainer, model))


def _spared_by_hugging_face(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters()} - stock_decayed(model)


def _spared_by_timm(model: nn.Module) -> set[str]:
    parameters = dict(model.named_parameters())
    if any("_fsdp_wrapped_module" in name for name in parameters):
        raise GammaError(
            "timm's rule looks at shapes, which FSDP1 flattens; use FSDP2 (fully_shard), or make "
            "the parameter groups before the model is wrapped"
        )
    patterns = _no_weight_decay(unwrap(model))
    return {
        name
        for name, plain in plain_names(parameters).items()
        if parameters[name].ndim <= 1
        or plain.endswith(".bias")
        or any(fnmatchcase(plain, pattern) for pattern in patterns)
    }


def _no_weight_decay(model: nn.Module) -> list[str]:
    method = getattr(model, "no_weight_decay", set)
    found = method() if callable(method) else method
    if callable(method) and isinstance(found, Collection) and not isinstance(found, str):
        names = list(found)
        if all(isinstance(name, str) for name in names):
            return names
    raise GammaError(
        f"{type(model).__name__}.no_weight_decay must be a method that returns a set of parameter "
        f"names, as timm's models have it; it gives {shown(found)}"
    )


_RULES: Mapping[str, Callable[[nn.Module], set[str]]] = {
    "hugging_face": _spared_by_hugging_face,
    "timm": _spared_by_timm,
}
