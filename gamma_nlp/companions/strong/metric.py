"""Read off an optimizer's state what its steps make of a gradient: the metric it moves in.

Adam moves by lr m / (sqrt(v) + eps), which is a gradient step in the metric that sqrt(v) + eps
spans. The proximal step of a penalty in that metric divides the penalty by the same numbers, so
the two are at rest together exactly where loss and penalty are: at the lasso's solution, for L1
(adaptive proximal gradient methods; Yun et al., arXiv:2007.07714). A plain soft threshold of lr l1
after Adam's step is a proximal step in the Euclidean metric: there each weight is weighed against
Adam's own step size, not against the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gamma_nlp.companions.arguments import began_at_zero
from gamma_nlp.errors import GammaError, listed

State = Mapping[str, Any]
Factor = Tensor | float
MOST = 1e30
"""Stands for 1 / 0: where there was no gradient yet, nothing holds a weight."""


def check_metric(optimizer: Optimizer) -> None:
    """Check that an optimizer's metric is known.

    Raises:
        GammaError: It is not.
    """
    if _name(optimizer) not in _FACTORS:
        known = listed([name.rpartition(".")[2] for name in _FACTORS])
        raise GammaError(
            f"metric 'preconditioner' is not known for {type(optimizer).__name__}; use one of "
            f"torch.optim's {known}, or metric='euclidean'"
        )


def reaches(
    optimizer: Optimizer, places: Sequence[tuple[int, int]], rates: Sequence[float | Tensor]
) -> list[Tensor]:
    """Return each tensor's learning rate times what the metric multiplies a gradient by."""
    found = []
    for (number, index), rate in zip(places, rates, strict=True):
        group = optimizer.param_groups[number]
        found.append(factor(optimizer, group, group["params"][index]) * rate)
    return found


@torch.no_grad()
def factor(optimizer: Optimizer, group: State, w: Tensor) -> Tensor:
    """Return what a step multiplies a lasting gradient of ``w`` by, besides the learning rate.

    Call it after the optimizer's step, when its state is that of the step.
    """
    found = _FACTORS[_name(optimizer)](group, optimizer.state[w])
    wide = torch.promote_types(w.dtype, torch.float32)  # 1 / sqrt(v) is beyond half precision
    return torch.as_tensor(found).to(w.device, wide).nan_to_num(nan=0.0, posinf=MOST)


def _name(optimizer: Optimizer) -> str:
    return f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"


def _sgd(group: State, state: State) -> Factor:
    momentum = float(group["momentum"])
    # A gradient that lasts adds up over the buffer's memory.
    return (1 - float(group["dampening"])) / (1 - momentum) if momentum else 1.0


def _adam(group: State, state: State) -> Factor:
    square = state["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"]
    debias = began_at_zero(float(group["betas"][1]), state["step"])
    return 1 / ((square / debias).sqrt() + group["eps"])


def _adamax(group: State, state: State) -> Factor:
    return 1 / state["exp_inf"]  # eps is in it


def _rmsprop(group: State, state: State) -> Factor:
    square = state["square_avg"]
    if group["centered"]:
        square = square - state["grad_avg"].square()
    return 1 / ((square.sqrt() + group["eps"]) * (1 - float(group["momentum"])))


def _adagrad(group: State, state: State) -> Factor:
    slowed = 1 + (state["step"] - 1) * group["lr_decay"]
    return 1 / ((state["sum"].sqrt() + group["eps"]) * slowed)


_FACTORS: dict[str, Callable[[State, State], Factor]] = {
    "torch.optim.sgd.SGD": _sgd,
    "torch.optim.adam.Adam": _adam,
    "torch.optim.adamw.AdamW": _adam,
    "torch.optim.nadam.NAdam": _adam,
    "torch.optim.adamax.Adamax": _adamax,
    "torch.optim.rmsprop.RMSprop": _rmsprop,
    "torch.optim.adagrad.Adagrad": _adagrad,
}
