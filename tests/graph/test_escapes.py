"""What the trace cannot see is refused by the name of its module, never guessed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.broken import Block, Model, refused
from tests.support.structures import INNER, D, linear, placed


class RoundTrip(Block):
    def branch(self, x: Tensor) -> Tensor:
        return self.up(torch.from_numpy(self.norm(x).numpy() * 2))


class ThroughList(Block):
    def branch(self, x: Tensor) -> Tensor:
        return torch.tensor(self.up(self.norm(x)).tolist())


class NumpyWeight(Block):
    def branch(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.norm(x).numpy() @ self.up.weight.numpy())


class IntoZeros(Block):
    def branch(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        out.numpy()[:] = super().branch(x).numpy()
        return torch.relu(out)


@pytest.mark.parametrize("block", [RoundTrip, ThroughList, NumpyWeight, IntoZeros])
def test_signal_that_leaves_torch_and_comes_back_is_refused(block: type[Block]) -> None:
    message = refused(Model(block))
    assert message.startswith("the signal leaves PyTorch in module 'blocks.0' (Tensor.")
    assert "traceable.set_submodule('blocks.0', PLAIN)" in message


def test_signal_that_leaves_torch_for_good_is_not_an_obstacle() -> None:
    class Watched(Block):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[float] = []
            self.plain = torch.ones(D)  # the model's own, though no operation made it

        def branch(self, x: Tensor) -> Tensor:
            out = super().branch(x * self.plain)
            self.seen.append(float(out.numpy().mean()))
            return out * self.plain

    assert placed(Model(Watched)) == {"blocks.0.norm": INNER}


def test_kernel_that_fills_memory_is_refused_with_a_way_round_it() -> None:
    class Hidden(Block):
        def branch(self, x: Tensor) -> Tensor:
            out = torch.empty_like(x)
            out.numpy()[:] = super().branch(x).numpy()
            return torch.relu(out)

    message = refused(Model(Hidden))
    assert message.startswith("module 'blocks.0' fills a tensor of shape (2, 5, 8) with a kernel")
    assert "traceable.set_submodule('blocks.0', PLAIN)" in message


@torch.library.custom_op("toy::rms_norm_linear", mutates_args=())
def rms_norm_linear(x: Tensor, gain: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, (D,), gain) @ weight.t()


@torch.library.custom_op("toy::add_rms_norm", mutates_args=())
def add_rms_norm(x: Tensor, skip: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    return F.rms_norm(x + skip, (D,), gain), x + skip


class NormedWeight(Block):
    def branch(self, x: Tensor) -> Tensor:
        return rms_norm_linear(x, self.norm.weight, self.up.weight)


class AddedNorm(Block):
    def forward(self, x: Tensor) -> Tensor:
        h, x = add_rms_norm(self.up(x), x, self.norm.weight)
        return x + self.up(h)


@pytest.mark.parametrize(
    ("block", "what"),
    [
        (NormedWeight, "rms_norm_linear) that fuses a norm with a weight"),
        (AddedNorm, "add_rms_norm) that fuses a norm with an addition"),
    ],
)
def test_kernel_that_fuses_a_norm_is_refused_with_a_way_round_it(
    block: type[Block], what: str
) -> None:
    message = refused(Model(block))
    assert message.startswith("module 'blocks.0' calls a kernel (") and what in message
    assert "traceable.set_submodule('blocks.0', PLAIN)" in message


def test_norm_over_several_dimensions_is_not_a_fused_kernel() -> None:
    class Wide(Block):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm((5, D))

    assert placed(Model(Wide)) == {"blocks.0.norm": INNER}


def test_operator_that_runs_functions_is_refused() -> None:
    class Conditional(Block):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cond(x.sum() > 0, lambda x: x + self.branch(x), lambda x: x.clone(), (x,))

    assert refused(Model(Conditional)).startswith("module 'blocks.0' calls cond, and the trace")


def test_module_that_runs_in_another_thread_is_refused() -> None:
    class Threaded(Block):
        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(1) as pool:
                return x + pool.submit(self.branch, x).result()

    assert refused(Model(Threaded)).startswith("module 'blocks.0.norm' runs in a thread of its own")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torch_script_is_refused() -> None:
    model = Model()
    model.blocks[0].up = torch.jit.script(linear())
    assert refused(model).startswith("module 'blocks.0.up' is TorchScript")
