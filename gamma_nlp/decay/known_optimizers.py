"""Which weight decay each optimizer class applies by itself, as its source says.

Classes are recognised by their exact qualified name. So nothing is imported, and a subclass, which
may replace the step, is unknown. The user may say which kind of decay an unknown class has, but not
by which law: how far it decays over a run stays unknown.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gamma_nlp.decay.momentum import Momentum
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.errors import GammaError


def _by_flag(flag: str, default: bool) -> Callable[[Mapping[str, Any]], Native]:
    return lambda kwargs: "decoupled" if kwargs.get(flag, default) else "coupled"


def _family(module: str, names: str) -> list[str]:
    return [f"{module}.{name}" for name in names.split()]


_BNB_BITS = ("", "8bit", "32bit")
_LION_FIXED = (0, 50)
"""The version from which bitsandbytes' 32-bit Lion shrinks the parameter (pull request #1993);
before, it added the decay to the gradient, whose sign it takes."""


def _bitsandbytes() -> tuple[int, ...]:
    """Return the first two numbers of the installed version; the newest if it is unknown."""
    try:
        version = importlib.metadata.version("bitsandbytes")
    except importlib.metadata.PackageNotFoundError:
        return _LION_FIXED
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _of_lion(kwargs: Mapping[str, Any]) -> Native:
    return "decoupled" if _bitsandbytes() >= _LION_FIXED else "coupled"


_COUPLED = [
    *_family("torch.optim.sgd", "SGD"),
    *_family("torch.optim.rmsprop", "RMSprop"),
    *_family("torch.optim.adagrad", "Adagrad"),
    *_family("torch.optim.adadelta", "Adadelta"),
    *_family("torch.optim.adamax", "Adamax"),
    *_family("torch.optim.asgd", "ASGD"),
    *_family("torchao.optim.adam", "Adam8bit Adam4bit AdamFp8"),
    *_family("torchao.prototype.low_bit_optim.adam", "Adam8bit Adam4bit AdamFp8"),
    *(f"bitsandbytes.optim.sgd.SGD{bits}" for bits in _BNB_BITS),
    *(f"bitsandbytes.optim.rmsprop.RMSprop{bits}" for bits in _BNB_BITS),
    *(f"bitsandbytes.optim.adagrad.Adagrad{bits}" for bits in _BNB_BITS),
]
_DECOUPLED = [
    *_family("torch.optim.adamw", "AdamW"),
    *_family("torch.optim", "Adafactor"),
    *_family("transformers.optimization", "Adafactor"),
    *_family("torchao.optim.adam", "AdamW8bit AdamW4bit AdamWFp8 _AdamW"),
    *_family("torchao.prototype.low_bit_optim.adam", "AdamW8bit AdamW4bit AdamWFp8 _AdamW"),
    "fairseq.optim.adam.Adam",
    *_family("fairseq.optim.fused_adam", "FusedAdamV1 FusedAdamV2"),
    # bitsandbytes shrinks the parameter in its Adam kernels too, whatever the name says.
    *(
        f"bitsandbytes.optim.{name.lower()}.{paged}{name}{bits}"
        for name in ("Adam", "AdamW", "AdEMAMix")
        for paged in ("", "Paged")
        for bits in _BNB_BITS
    ),
    *(f"bitsandbytes.optim.lion.{paged}Lion8bit" for paged in ("", "Paged")),
]
NATIVE: Mapping[str, Native | Callable[[Mapping[str, Any]], Native]] = {
    **dict.fromkeys(_COUPLED, "coupled"),
    **dict.fromkeys(_DECOUPLED, "decoupled"),
    **{
        f"torch.optim.{name.lower()}.{name}": _by_flag("decoupled_weight_decay", False)
        for name in ("Adam", "NAdam", "RAdam")
    },
    **{
        f"bitsandbytes.optim.lion.{paged}Lion{bits}": _of_lion
        for paged in ("", "Paged")
        for bits in ("", "32bit")
    },
    "apex.optimizers.fused_adam.FusedAdam": _by_flag("adam_w_mode", True),
}
"""The kind of decay by qualified class name, or a function that reads it off the arguments."""

REFUSED: Mapping[str, str] = {
    "torch.optim.lbfgs.LBFGS": "it takes no parameter groups",
    "torch.optim.rprop.Rprop": "it has no weight decay",
    "torch.optim.sparse_adam.SparseAdam": "it has no weight decay and takes sparse gradients only",
    "torch.optim.Muon": "it takes matrices only, so no gain can be in it",
}


def native_mode(
    optimizer_class: type[Optimizer],
    kwargs: Mapping[str, Any] | None = None,
    native_decay: str | None = None,
) -> Native:
    """Return which weight decay an optimizer class applies by itself.

    Args:
        optimizer_class: The class; subclasses of known classes are unknown, since they may
            replace the step.
        kwargs: The arguments it will be made with (``decoupled_weight_decay`` of Adam decides).
        native_decay: The answer for a class that is not listed here.

    Raises:
        GammaError: Not an optimizer class, one that takes no decay per group, or an unknown one
            without ``native_decay``.
    """
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, Optimizer)):
        raise GammaError(
            f"expected a class of torch.optim.Optimizer, got {_shown(optimizer_class)}; "
            "type make_optimizer(torch.optim.AdamW, model, ...), with its arguments as keywords"
        )
    if native_decay not in (None, "coupled", "decoupled"):
        raise GammaError(f"native_decay must be 'coupled' or 'decoupled', got {native_decay!r}")
    name = qualified(optimizer_class)
    if name in REFUSED:
        raise GammaError(f"{name} cannot be used with a decay policy: {REFUSED[name]}")
    known = NATIVE.get(name)
    if known is not None:
        mode = known(kwargs or {}) if callable(known) else known
        if native_decay not in (None, mode):
            raise GammaError(
                f"{name} has {mode} weight decay, but native_decay={native_decay!r} was given; "
                "leave it out"
            )
        return mode
    if native_decay is None:
        raise GammaError(
            f"{name} is not among the optimizers whose weight decay this library knows; look up in "
            "its step how group['weight_decay'] is used, and pass native_decay='decoupled' if it "
            "shrinks the parameter, native_decay='coupled' if it is added to the gradient"
        )
    return native_decay  # type: ignore[return-value]


def qualified(kind: type) -> str:
    """Return the name of a class with its module."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_adaptive(optimizer: Optimizer) -> bool:
    """Return whether an optimizer divides by the size of the gradients, as all but SGD do."""
    return type(optimizer).__qualname__ not in ("SGD", "SGD8bit", "SGD32bit")


def mode_of(optimizer: Optimizer, group: Mapping[str, Any]) -> Native:
    """Return how a group of a known optimizer decays: by the step hook, or by itself."""
    if "gamma_mode" in group:
        return group["gamma_mode"]
    made_with = {"adam_w_mode": getattr(optimizer, "adam_w_mode", True), **group}
    return native_mode(type(optimizer), made_with)


def coefficient_of(group: Mapping[str, Any]) -> float:
    """Return the coefficient of a group, before any schedule."""
    return float(group.get("gamma_base", group.get("weight_decay", 0.0)))


def unknown_law(optimizer: Optimizer, group: Mapping[str, Any]) -> str | None:
    """Return why the decay of a group over a run is not known in advance; ``None`` if it is."""
    name = qualified(type(optimizer))
    if group.get("lambd"):
        return f"{name} shrinks every parameter by its lambd={group['lambd']:g} as well"
    if not coefficient_of(group):
        return None
    if name not in NATIVE:
        return (
            f"{name} is not among the optimizers whose step this library knows: it may decay by "
            "another law, or average what it decays"
        )
    if group.get("relative_step") or group.get("scale_parameter"):
        return f"{name} makes a learning rate of its own for each parameter"
    if mode_of(optimizer, group) == "coupled" and is_adaptive(optimizer):
        return f"{name} divides coupled decay by the size of the gradients"
    if name.endswith("Lion8bit") and _bitsandbytes() < _LION_FIXED and not _hooked(group):
        return (
            f"{name} of bitsandbytes before 0.50 decays tensors of fewer than 4096 elements by "
            "another law than larger ones"
        )
    return None


def stands_still(optimizer: Optimizer, group: Mapping[str, Any], parameter: Tensor) -> str | None:
    """Return why an optimizer does not move a parameter, whatever its gradient; else ``None``."""
    fused = qualified(type(optimizer)) == "torch.optim.sgd.SGD" and group.get("fused")
    halved = parameter.dtype in (torch.float16, torch.bfloat16)
    native = mode_of(optimizer, group) == "coupled"
    if not (fused and halved and native and parameter.device.type == "cpu"):
        return None
    return (
        "torch's fused SGD does not move parameters of 16 bits on a CPU (as of 2.13), but for the "
        "last few values of each; pass fused=False"
    )


def _hooked(group: Mapping[str, Any]) -> bool:
    return group.get("gamma_part", "center") != "center"


def factor_of(
    optimizer: Optimizer, group: Mapping[str, Any], parameter: Tensor
) -> torch.dtype | None:
    """Return the dtype that 1 - a is rounded to where decoupled decay multiplies by it.

    ``None`` where a * w is subtracted.
    """
    if _hooked(group):
        return torch.float32
    family, _, _ = qualified(type(optimizer)).partition(".")
    if family == "torch" and group.get("fused"):
        return torch.float32 if parameter.device.type == "cpu" else None
    product = _scalar_of_product(group, parameter)
    return {"torch": product, "bitsandbytes": torch.float32}.get(family)


def scalar_of(parameter: Tensor) -> torch.dtype:
    """Return the dtype that numbers in multi-tensor calls are rounded to: on a CPU the tensor's."""
    return parameter.dtype if parameter.device.type == "cpu" else torch.float32


def _scalar_of_product(group: Mapping[str, Any], parameter: Tensor) -> torch.dtype:
    return scalar_of(parameter) if group.get("foreach") else torch.float32


def momentum_of(optimizer: Optimizer, group: Mapping[str, Any], parameter: Tensor) -> Momentum:
    """Return how coupled decay passes through an optimizer that is not adaptive."""
    if qualified(type(optimizer)).startswith("bitsandbytes."):
        # Its SGD keeps the momentum where its Adam keeps the first beta, ignores dampening and
        # nesterov, and computes in float32.
        return Momentum(
            values=float(group.get("betas", (0.0,))[0]), wide=True, buffer=torch.float32
        )
    momentum = float(group.get("momentum", 0.0) or 0.0)
    fused = bool(group.get("fused"))
    return Momentum(
        values=momentum,
        dampening=float(group.get("dampening", 0.0)) if momentum else 0.0,
        nesterov=bool(group.get("nesterov", False)),
        hook=scalar_of(parameter),
        scalar=torch.float32 if fused else _scalar_of_product(group, parameter),
        wide=fused,
    )


def _shown(given: object) -> str:
    """Show a word or a class as it is, and anything else by its type: a model prints many lines."""
    return repr(given) if isinstance(given, str | type) else f"a {type(given).__name__}"
