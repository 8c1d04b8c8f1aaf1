"""Whatever a forward pass changes is put back: by the graph's pass and by the probe's."""

from __future__ import annotations

import copy
import random
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import GammaError, categorize, probe
from gamma_nlp.graph.as_found import AsFound
from gamma_nlp.graph.reached import tensors_in
from tests.support.structures import D, linear, norm, signal


class Base(nn.Module):
    """A norm and a weight, and whatever a test changes in between."""

    def __init__(self, change: Callable[[Any, Tensor], Any], **held: Any) -> None:
        super().__init__()
        self.norm, self.out = norm(), linear()
        self.change = change
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        self.change(self, x)
        return self.out(self.norm(x))


def run(how: str, model: nn.Module, x: Tensor) -> None:
    table = categorize(model, x)
    assert [gain.name for gain in table] == ["norm.weight"]
    if how == "probe":
        assert probe(model, x, table).verdict == "agrees"


both = pytest.mark.parametrize("how", ["categorize", "probe"])


@dataclass(slots=True)
class Slotted:
    number: int


HELD: dict[str, tuple[Any, Callable[[Any, Tensor], Any]]] = {
    "number": (0, lambda m, x: setattr(m, "held", m.held + 1)),
    "list": ([1], lambda m, x: m.held.append(x)),
    "nested list": ({"a": [[1]]}, lambda m, x: m.held["a"][0].append(2)),
    "dict": ({"a": 1, "b": 2}, lambda m, x: (m.held.pop("a"), m.held.update(c=3))),
    "order": (OrderedDict(a=1, b=2), lambda m, x: m.held.move_to_end("a")),
    "defaultdict": (defaultdict(list), lambda m, x: m.held["new"].append(1)),
    "set": ({1}, lambda m, x: m.held.add(2)),
    "deque": (deque([1, 2], maxlen=2), lambda m, x: m.held.append(3)),
    "object": (SimpleNamespace(count=0), lambda m, x: setattr(m.held, "count", 1)),
    "slots": (Slotted(0), lambda m, x: setattr(m.held, "number", 1)),
    "array": (np.zeros(3), lambda m, x: np.add(m.held, 1, out=m.held)),
    "plain tensor": (torch.zeros(3), lambda m, x: m.held.add_(1)),
    "tensor in a list": ([torch.zeros(3)], lambda m, x: m.held[0].data.add_(1)),
    "numpy view": (torch.zeros(3), lambda m, x: np.add(m.held.numpy(), 1, out=m.held.numpy())),
    "random": (random.Random(0), lambda m, x: m.held.random()),
    "generator": (torch.Generator(), lambda m, x: torch.rand(1, generator=m.held)),
    "numpy generator": (np.random.default_rng(0), lambda m, x: m.held.random()),
}


def described(value: Any) -> str:
    """All that a value holds, as text."""
    if isinstance(value, torch.Generator):
        return str(value.get_state().tolist())
    if isinstance(value, random.Random):
        return str(value.getstate())
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    return repr(value)


@both
@pytest.mark.parametrize("kind", HELD)
def test_what_a_module_holds_is_put_back(kind: str, how: str) -> None:
    start, change = HELD[kind]
    held = copy.deepcopy(start)
    model = Base(change, held=held)
    run(how, model, signal())
    assert model.held is held
    assert described(held) == described(start)
    model(signal())
    assert described(model.held) != described(start)  # else this tests nothing


def test_what_hooks_and_classes_hold_is_put_back() -> None:
    class Counting(Base):
        calls = 0
        seen: ClassVar[list[int]] = []

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            self.seen.append(1)
            return super().forward(x)

    caught: list[Tensor] = []
    times = 0

    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        nonlocal times
        times += 1
        caught.append(output)

    model = Counting(lambda m, x: None)
    model.norm.register_forward_hook(hook)
    run("probe", model, signal())
    assert (Counting.calls, Counting.seen, caught, times) == (0, [], [], 0)


def test_buffers_layers_and_hooks_made_in_the_pass_are_gone_after_it() -> None:
    def change(m: Any, x: Tensor) -> None:
        m.register_buffer("late", x)
        m.table = torch.ones(3)
        m.extra = nn.ReLU()
        m.norm.register_forward_hook(lambda *args: None)

    model = Base(change)
    model.register_buffer("table", None)
    run("categorize", model, signal())
    assert [name for name, _ in model.named_modules()] == ["", "norm", "out"]
    assert model.table is None and not hasattr(model, "late")
    assert not model.norm._forward_hooks


@both
def test_memory_gradients_and_versions_of_tensors_are_put_back(how: str) -> None:
    def change(m: Any, x: Tensor) -> None:
        m.out.weight.data = m.out.weight.data * 2
        m.out.bias.requires_grad_(False)
        with torch.enable_grad():
            m.norm(x).sum().backward()
        x.mul_(2)

    model, x = Base(change), signal()
    weight, before, given = (
        model.out.weight.data_ptr(),
        copy.deepcopy(model.state_dict()),
        x.clone(),
    )
    loss = model.norm(x.requires_grad_()).square().sum()
    x.requires_grad_(False)
    run(how, model, x)
    loss.backward()  # the versions of what it needs are as they were
    model.zero_grad()
    assert torch.equal(x, given)
    assert model.out.weight.data_ptr() == weight
    assert model.out.bias.requires_grad and model.norm.weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@both
def test_random_states_and_what_is_set_for_the_process_are_put_back(how: str) -> None:
    def change(m: Any, x: Tensor) -> None:
        random.random()
        np.random.rand()
        torch.manual_seed(3)
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float64)
        torch.set_default_dtype(torch.float32)

    def states() -> tuple[str, str, list[int]]:
        numpy = str(np.random.get_state())
        return str(random.getstate()), numpy, torch.get_rng_state().tolist()

    model, before = Base(change), states()
    with torch.no_grad():
        run(how, model, signal())
        assert not torch.is_grad_enabled()
    assert states() == before
    assert torch.get_default_dtype() is torch.float32


def test_inputs_that_the_pass_takes_apart_are_put_back() -> None:
    class Taking(Base):
        def forward(self, batch: dict[str, Any]) -> Tensor:
            return super().forward(batch.pop("x"))

    batch = {"x": signal(), "y": 1}
    run("probe", Taking(lambda m, x: None), (batch,))
    assert list(batch) == ["x", "y"]


def test_everything_is_put_back_when_the_pass_fails() -> None:
    def change(m: Any, x: Tensor) -> None:
        m.held.append(1)
        x.mul_(2)
        m.out.weight.data.zero_()
        raise RuntimeError("no")

    model, x = Base(change, held=[]).train(), signal()
    weight, given = model.out.weight.clone(), x.clone()
    with pytest.raises(GammaError, match="RuntimeError: no"):
        categorize(model, x)
    assert model.held == [] and model.training and model.norm.training
    assert torch.equal(model.out.weight, weight) and torch.equal(x, given)


def test_module_that_sets_itself_up_from_its_first_batch_is_placed_as_it_is_after() -> None:
    class ActNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(D))
            self.ready = False

        def forward(self, x: Tensor) -> Tensor:
            if not self.ready:
                self.weight.data.copy_(1 / x.std((0, 1)))
                self.ready = True
            return x * self.weight

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.up, self.act, self.out = norm(), linear(), ActNorm(), linear()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x + self.act(self.up(self.norm(x))))

    model = Net()
    table = categorize(model, signal())
    places = {gain.name: str(gain.category) for gain in table}
    assert places == {"norm.weight": "branch_inner", "act.weight": "branch_last"}
    assert probe(model, signal(), table).verdict == "agrees"
    assert not model.act.ready and torch.equal(model.act.weight, torch.ones(D))


def test_objects_of_other_threads_are_left_alone() -> None:
    import queue

    held = SimpleNamespace(jobs=queue.Queue())
    with AsFound(held):
        held.jobs.put(1)
    assert held.jobs.qsize() == 1


def test_tensors_are_found_in_containers_and_objects_but_not_in_modules() -> None:
    x, y = signal(), signal()
    found = tensors_in({"a": [x, SimpleNamespace(b=(y, x))], "m": linear()})
    assert {id(tensor) for tensor in found} == {id(x), id(y)}


def test_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Base(lambda m, x: None)
        model.cached = model(signal())  # no leaf: its .grad warns
        run("probe", model, signal())
