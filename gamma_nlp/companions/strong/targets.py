"""Find the tensors to regularise in an optimizer, check them, and read their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.companions.arguments import (
    NamedParameters,
    in_own_words,
    positions,
    refuse_parts,
)
from gamma_nlp.companions.strong.rules import StrongSettings
from gamma_nlp.decay.assign import table_for
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.table import GainTable
from gamma_nlp.wrappers import plain_names

NAME = "StrongRegularizer"
Places = Mapping[str, tuple[int, int]]
"""Group and index of each tensor, by name: sharded data parallel replaces the tensors."""


def weights_of(
    known: NamedParameters, model: nn.Module | None, table: GainTable | None, inputs: Any
) -> list[str]:
    """Return the names of a model's weights, those that decay policies treat as weights too.

    Args:
        known: The optimizer's parameters, by the model's names.
        model: The model.
        table: Its gain table, if there is one already.
        inputs: For :func:`categorize`.

    Raises:
        GammaError: There is no model, or it cannot be traced.
    """
    if model is None:
        raise GammaError(
            "StrongRegularizer does not know which tensors to regularise; pass model= and inputs= "
            "to regularise the model's weights, or the tensors' names: names=[...]"
        )
    try:
        roles = table_for(model, inputs, table).roles
    except GammaError as error:
        why = in_own_words(error, "StrongRegularizer(optimizer, model=model")
        if inputs is not None or table is not None:
            raise GammaError(why) from error
        matrices = [name for name, (_, w) in known.items() if w.dim() > 1] or list(known)
        raise GammaError(
            f"StrongRegularizer cannot tell which tensors of {type(model).__name__} are weights "
            "without running it once; pass inputs= that the model takes, or the tensors' names: "
            f"names=[{listed(matrices)}] ({why})"
        ) from error
    by_plain_name = {plain: roles[name] for name, plain in plain_names(roles).items()}
    own = plain_names(name for name, _ in model.named_parameters())
    return [
        name
        for name, plain in own.items()
        if roles.get(name, by_plain_name.get(plain)) is Role.WEIGHT and name in known
    ]


def places_of(
    optimizer: Optimizer, known: NamedParameters, names: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Return the group and the index of each tensor.

    Raises:
        GammaError: There is no tensor, or the optimizer lacks one.
    """
    if not names:
        raise GammaError(
            "there is no tensor to regularise: the optimizer has none of the model's weights; "
            "pass names=[...]"
        )
    return positions(optimizer, known, names)


def check(optimizer: Optimizer, places: Places, settings: StrongSettings) -> None:
    """Check that the optimizer can be followed.

    Raises:
        GammaError: All tensors are frozen; one would decay twice, has no learning rate, has complex
            numbers or is sharded.
    """
    tensors = [optimizer.param_groups[number]["params"][i] for number, i in places.values()]
    refuse_parts(dict(zip(places, tensors, strict=True)), NAME, takes=())
    if not any(w.requires_grad for w in tensors):
        raise GammaError(
            f"all tensors to regularise are frozen ({listed(list(places))}), so nothing would "
            "happen; unfreeze some first, or name others"
        )
    for name, (number, index) in places.items():
        group = optimizer.param_groups[number]
        if settings.l2 and group.get("weight_decay"):
            raise GammaError(
                f"l2={settings.l2} would act on {name!r} beside the optimizer's own weight decay; "
                "set that to 0 for the tensors that are regularised here, or l2 to 0"
            )
        if group.get("lr") is None:
            raise GammaError(
                f"the optimizer's group of {name!r} has no lr, which sets the strength of a step"
            )
        if group["params"][index].is_complex():
            raise GammaError(
                f"{name!r} has complex numbers, which have no sign; leave it out of names"
            )


def check_gradients(optimizer: Optimizer, places: Places) -> None:
    """Check the gradients of the tensors that are in the groups now.

    Raises:
        GammaError: A gradient is sparse.
    """
    for name, (number, index) in places.items():
        gradient = optimizer.param_groups[number]["params"][index].grad
        if gradient is not None and gradient.is_sparse:
            raise GammaError(
                f"parameter {name!r} has a sparse gradient, which StrongRegularizer does not "
                "support; make its layer with sparse=False, or leave it out of names"
            )


def vector(values: Sequence[float | Tensor], device: torch.device) -> Tensor:
    """Return numbers and one-element tensors as one float32 tensor."""
    if any(isinstance(value, Tensor) for value in values):
        parts = [torch.as_tensor(value, dtype=torch.float32) for value in values]
        return torch.stack([part.to(device).reshape(()) for part in parts])
    return torch.tensor(values, dtype=torch.float32, device=device)
