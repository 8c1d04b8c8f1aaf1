"""What types, names and shapes say without running a model: which modules are norms, and roles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from gamma_nlp.gains.category import Role

_TORCH_NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,
    *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()),
)


def is_norm(module: nn.Module) -> bool:
    """Return whether a module normalises, by its type, or by its name for a class of the user's."""
    return isinstance(module, _TORCH_NORMS) or "norm" in type(module).__name__.lower()


def is_linear(module: nn.Module) -> bool:
    """Return whether a module is a linear or convolutional layer of torch."""
    return isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))


def kind(module: nn.Module) -> str:
    """Return the kind of a norm module by its type, as :attr:`gamma_nlp.Gain.kind`."""
    name = type(module).__name__.lower()
    for word in ("batch", "group", "instance", "rms"):
        if word in name:
            return f"{word}_norm"
    return "layer_norm"


def owners(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """Yield each parameter's name, the module that owns it, its name there, and the parameter.

    A shared parameter comes once for each owner, always under its first name. That name need not
    be the path of the owner: a checkpointed root leaves its own part out of it. What a model leaves
    out of its ``named_parameters`` is left out here too.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for module in model.modules():
        for last, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if id(parameter) in names:
                yield names[id(parameter)], module, last, parameter


def norm_weights(model: nn.Module) -> list[str]:
    """Return the names of parameters that look like gains: what norm modules own, without shifts.

    A container with "norm" in its class name, such as a block, owns no small parameters itself and
    so contributes none.
    """
    found = [
        name
        for name, owner, last, parameter in owners(model)
        if is_norm(owner) and not _is_bias(last) and not is_matrix(parameter)
    ]
    return list(dict.fromkeys(found))


def static_roles(model: nn.Module, skip: Iterable[str] = ()) -> dict[str, Role]:
    """Return each parameter's role by its shape and the type of the module that owns it."""
    skipped = set(skip)
    seen: set[str] = set()
    roles: dict[str, Role] = {}
    for name, owner, last, parameter in owners(model):
        role = _role(owner, last, parameter)
        # An output layer that shares its weight with an embedding counts as an embedding.
        if name not in skipped and (name not in seen or role is Role.EMBEDDING):
            roles[name] = role
        seen.add(name)
    return roles


def _role(owner: nn.Module, name: str, parameter: nn.Parameter) -> Role:
    if isinstance(owner, (nn.Embedding, nn.EmbeddingBag)):
        return Role.EMBEDDING
    # Biases of all experts or heads may be held as one matrix; their names still say what they are.
    if name.endswith("bias") or (_is_bias(name) and not is_matrix(parameter)):
        # A class with "norm" in its name may be a whole head; a norm has no submodules.
        return Role.SHIFT if is_norm(owner) and not [*owner.children()] else Role.BIAS
    if is_linear(owner) or is_matrix(parameter):
        return Role.WEIGHT
    return Role.OTHER if parameter.is_floating_point() else Role.WEIGHT


def _is_bias(name: str) -> bool:
    return "bias" in name or name in ("beta", "b")


def is_matrix(parameter: torch.Tensor) -> bool:
    """Return whether a tensor has at least two sides longer than 1."""
    return sum(size > 1 for size in parameter.shape) >= 2
