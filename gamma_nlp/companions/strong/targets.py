"""Where the tensors of a strong regulariser are in an optimizer, and what their gradients mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.companions.strong.rules import Strength
from gamma_nlp.decay.groups import table_for
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.table import GainTable
from gamma_nlp.wrappers import plain_names

Places = Mapping[str, tuple[int, int]]
"""Group and index of each tensor, by name; sharded data parallel replaces the tensors."""


def weights_of(
    known: Mapping[str, Any], model: nn.Module | None, table: GainTable | None, inputs: Any
) -> list[str]:
    """Names of a model's weights by their role, as the decay policies see them.

    Args:
        known: What the optimizer has, by the model's names.
        model: The model.
        table: Its gain table, if it is at hand already.
        inputs: For :func:`categorize`.

    Raises:
        GammaError: There is no model, or it cannot be traced.
    """
    if model is None:
        raise GammaError(
            "which tensors? Pass model=, whose weights are then regularised, or their names as "
            "params="
        )
    roles = table_for(model, inputs, table).roles
    by_plain_name = {plain: roles[name] for name, plain in plain_names(roles).items()}
    own = plain_names(name for name, _ in model.named_parameters())
    return [
        name
        for name, plain in own.items()
        if roles.get(name, by_plain_name.get(plain)) is Role.WEIGHT and name in known
    ]


def places_of(
    optimizer: Optimizer, known: Mapping[str, Any], names: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Group and index of each tensor.

    Raises:
        GammaError: There is none, or one that the optimizer does not have.
    """
    if not names:
        raise GammaError("there is no tensor to regularise; name some with params=")
    if missing := [name for name in names if name not in known]:
        raise GammaError(
            f"the optimizer has no parameter {listed(missing)}; it has "
            f"{next(iter(known), 'none')!r} and others; pass model= to go by the model's names"
        )
    at = {
        id(parameter): (number, index)
        for number, group in enumerate(optimizer.param_groups)
        for index, parameter in enumerate(group["params"])
    }
    return {name: at[id(known[name][1])] for name in names}


def check(optimizer: Optimizer, places: Places, how: Strength) -> None:
    """Refuse groups without a learning rate, decay twice over, and sharded tensors.

    Raises:
        GammaError: One of these.
    """
    for name, (number, index) in places.items():
        group = optimizer.param_groups[number]
        if how.l2 and (group.get("weight_decay") or group.get("gamma_decay")):
            raise GammaError(
                f"l2={how.l2} would act beside the optimizer's own weight decay on {name!r}; set "
                "that to 0 for the tensors that are regularised here, or l2 to 0"
            )
        if "lr" not in group:
            raise GammaError("the optimizer has no lr, by which the regularisation would go")
        if hasattr(group["params"][index], "to_local"):
            raise GammaError(
                f"{name!r} is sharded (a DTensor), which strong regularisation cannot follow; use "
                "plain data parallel"
            )


def gradients_of(optimizer: Optimizer, places: Places) -> list[Tensor | None]:
    """Gradients as they are in the groups now.

    Raises:
        GammaError: One is sparse.
    """
    found: list[Tensor | None] = []
    for name, (number, index) in places.items():
        gradient = optimizer.param_groups[number]["params"][index].grad
        if gradient is not None and gradient.is_sparse:
            raise GammaError(
                f"parameter {name!r} has a sparse gradient, which strong regularisation cannot "
                "read; make its layer with sparse=False, or leave it out of params"
            )
        found.append(gradient)
    return found


def unscaled(found: Tensor, optimizer: Optimizer, groups: Sequence[int]) -> Tensor:
    """What :func:`.strong_rules.measure` found, as of the gradient of the loss.

    A grad scaler leaves its factor to fused optimizers, and ``maximize`` means the negative.

    Args:
        found: Of shape [tensors, 3].
        optimizer: Whose tensors they are.
        groups: The number of each tensor's group.
    """
    scale = getattr(optimizer, "grad_scale", None)
    if scale is not None:
        scale = scale.to(found.device).reshape(())
        found = found / torch.stack([scale**2, scale, torch.ones_like(scale)])
    ascent = [bool(optimizer.param_groups[number].get("maximize")) for number in groups]
    if any(ascent):
        signs = torch.tensor([-1.0 if one else 1.0 for one in ascent], device=found.device)
        found = torch.stack([found[:, 0], found[:, 1] * signs, found[:, 2]], dim=1)
    return found


def vector(values: Sequence[float | Tensor], device: torch.device) -> Tensor:
    """Numbers and single-number tensors as one float32 tensor."""
    if any(isinstance(value, Tensor) for value in values):
        parts = [torch.as_tensor(value, dtype=torch.float32) for value in values]
        return torch.stack([part.to(device).reshape(()) for part in parts])
    return torch.tensor(values, dtype=torch.float32, device=device)
