"""A recorded pass, played again, gives what the model would give with the change in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gamma_nlp.check.probe.recorder import record
from gamma_nlp.check.probe.tape import Ref, Tape
from gamma_nlp.errors import GammaError

Forward = Callable[[Tensor], Any]


def sliced(x: Tensor) -> Tensor:
    total = torch.zeros(4, 6, dtype=x.dtype)
    total[:, :3] = x[:, :3] * 2
    total[:, 3:] += x[:, 3:].exp()
    total[0].mul_(x[1])
    return total.t() @ x


def viewed(x: Tensor) -> Tensor:
    y = x.clone()
    halves = y.view(2, 2, 6).transpose(0, 1)
    halves.add_(1.0)
    left, right = y.chunk(2, dim=-1)
    left.sub_(right)
    return torch.cat([right, left], dim=-1) * y.mean(0)


def fused(x: Tensor) -> Tensor:
    y = torch.addmm(x[0], x, x.t() @ x, beta=0.5, alpha=2)
    y = torch.addcmul(y, x, x, value=0.3)
    y.addcdiv_(x, x.exp() + 1)
    return torch.baddbmm(y[None], x[None], (x.t() @ x)[None])


def fused_in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y.addmm_(x, x.t() @ x, alpha=2)
    y[0].addmv_(x.t() @ x, x[1])
    torch.addr(y, x[:, 0], x[1], out=y)
    torch.addcmul(y, x, x, value=0.5, out=y)
    cube = torch.empty(0, dtype=x.dtype)
    torch.addbmm(y, x[None], (x.t() @ x)[None], out=cube)
    return cube * torch.addbmm(y, x[None], (x.t() @ x)[None])


def windowed(x: Tensor) -> Tensor:
    return torch.nn.functional.conv1d(x[None], x[:, None, :3], groups=4) + x.T.contiguous().T[:, 2:]


FORWARDS = (sliced, viewed, fused, fused_in_place, windowed)


def signal() -> Tensor:
    return torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def recorded(forward: Forward, x: Tensor) -> tuple[Tape, Ref]:
    tape = record(lambda: forward(x), lambda: "")
    key = tape.key_of(x.untyped_storage())
    assert key is not None
    return tape, next(r for step in tape.steps for r in step.reads if r.key == key)


@pytest.mark.parametrize("forward", FORWARDS)
def test_playing_a_change_of_the_input_gives_what_the_model_gives(forward: Forward) -> None:
    tape, ref = recorded(forward, signal())
    other = signal() * 1.5 + 0.1
    play = tape.play({ref.key: other.clone().untyped_storage()})
    torch.testing.assert_close(play.value(tape.outputs[0]), forward(other), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("forward", FORWARDS)
def test_playing_no_change_moves_nothing_and_leaves_the_recording_alone(forward: Forward) -> None:
    tape, ref = recorded(forward, signal())
    before = tape.value(tape.outputs[0]).clone()
    play = tape.play({ref.key: signal().untyped_storage()})
    assert play.moved(tape.outputs[0]) == 0
    tape.play({ref.key: (2 * signal()).untyped_storage()})
    assert torch.equal(tape.value(tape.outputs[0]), before)
    # A sum of products that is taken apart rounds elsewhere.
    torch.testing.assert_close(before, forward(signal()), rtol=1e-12, atol=1e-12)


def test_held_steps_stop_a_change_and_operands_change_one_use_alone() -> None:
    tape, ref = recorded(lambda x: (x.exp() + x, x.sin()), signal())
    steps = {step.name: step for step in tape.steps}
    changed = {ref.key: (2 * signal()).untyped_storage()}
    held = tape.play(changed, hold={steps["exp"].index})
    assert held.moved(steps["exp"].writes[0]) == 0
    torch.testing.assert_close(held.value(tape.outputs[0]), signal().exp() + 2 * signal())
    place = (steps["add"].index, 1)
    alone = tape.play(operands={place: 3 * signal()})
    torch.testing.assert_close(alone.value(tape.outputs[0]), signal().exp() + 3 * signal())
    assert alone.moved(tape.outputs[1]) == 0


def test_choices_stay_unless_they_are_let_go() -> None:
    def largest(x: Tensor) -> Tensor:
        values, places = x.topk(2, dim=-1)
        return values * x.gather(-1, places)

    tape, ref = recorded(largest, signal())
    turned = {ref.key: (-signal()).untyped_storage()}
    top = signal().topk(2, dim=-1).values
    torch.testing.assert_close(tape.play(turned).value(tape.outputs[0]), top * top)
    free = tape.play(turned, choices=True)
    torch.testing.assert_close(free.value(tape.outputs[0]), largest(-signal()))


def test_random_numbers_stay_what_they_were() -> None:
    tape, ref = recorded(lambda x: x + torch.rand_like(x), signal())
    play = tape.play({ref.key: (signal() + 1).untyped_storage()})
    torch.testing.assert_close(play.value(tape.outputs[0]), tape.value(tape.outputs[0]) + 1)


def test_masks_do_not_measure_a_movement() -> None:
    mask = torch.zeros(4, 6, dtype=torch.float64)
    mask[:, 0] = -1e9
    tape, ref = recorded(lambda x: x + mask, signal())
    play = tape.play({ref.key: (signal() * 1.1).untyped_storage()})
    assert 0.05 < play.moved(tape.outputs[0]) < 0.2


def test_memory_without_values_is_refused() -> None:
    with pytest.raises(GammaError, match="needs values"):
        record(lambda: torch.ones(3, device="meta") + 1, lambda: "lm_head")
