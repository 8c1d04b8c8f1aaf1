from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import GammaError
from gamma_nlp.launch.states import OPTIMIZERS, states_of

SHAPES = ((6, 4), (5,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_bytes_are_those_that_the_optimizer_really_keeps(optim: str, dtype: torch.dtype) -> None:
    momentum = 0.9 if optim == "sgd" else 0.0
    states = states_of(optim, momentum)
    for shape in SHAPES:
        parameter = nn.Parameter(torch.ones(shape, dtype=dtype))
        parameter.grad = torch.ones_like(parameter)
        optimizer = states.cls([parameter], lr=0.1, **states.kwargs)  # type: ignore[call-arg]
        optimizer.step()
        kept = [one for one in optimizer.state[parameter].values() if isinstance(one, Tensor)]
        assert states.bytes_for(shape, dtype) == sum(one.nbytes for one in kept)


def test_known_numbers() -> None:
    step = 4
    assert states_of("adamw_torch").bytes_for((10, 10), torch.float32) == 2 * 400 + step
    assert states_of("adamw_torch_fused").bytes_for((10, 10), torch.bfloat16) == 2 * 200 + step
    assert states_of("sgd").bytes_for((10, 10), torch.float32) == 0
    assert states_of("sgd", 0.9).bytes_for((10, 10), torch.float32) == 400


@pytest.mark.parametrize(
    ("optim", "momentum", "message"),
    [("sgd", 1.0, "below 1, got 1"), ("sgd", -0.1, "at least 0"), ("rmsprop", 0.5, "goes with")],
)
def test_a_momentum_that_is_none_is_refused(optim: str, momentum: float, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        states_of(optim, momentum)
