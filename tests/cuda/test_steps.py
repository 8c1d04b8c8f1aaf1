"""The step hook never waits for the device, works in a CUDA graph, and is the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from gamma_nlp import DecayPolicy, categorize, make_optimizer
from tests.support.families import FAMILIES
from tests.support.optim_models import Toy, assert_equal, toy_table, train, values

pytestmark = pytest.mark.cuda
RATES = [0.05] * 20
EVERY = {"branch_inner": 1.0, "branch_last": 1.0, "shortcut": 1.0, "head": 0.5}
POLICIES: dict[str, tuple[DecayPolicy, float]] = {
    "toward zero": (DecayPolicy(**EVERY), 0.2),
    "toward one": (DecayPolicy(**EVERY, target="one"), 0.2),
    "toward start": (DecayPolicy(**EVERY, target="start"), 0.2),
    "in the gradient": (DecayPolicy(**EVERY, mode="coupled"), 0.2),
    "a ramp": (DecayPolicy(**EVERY, target="one", schedule="cosine"), 0.2),
    "deferred": (DecayPolicy(**EVERY), 1e-6),
}


def build(model: Toy, policy: str, **options: Any) -> torch.optim.Optimizer:
    chosen, decay = POLICIES[policy]
    options = {"lr": RATES[0], **options}
    return make_optimizer(
        torch.optim.AdamW, model, weight_decay=decay, policy=chosen, table=toy_table(),
        rates=RATES, **options,
    )  # fmt: skip


@contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.parametrize("form", ["foreach", "fused", "capturable", "scaled"])
@pytest.mark.parametrize("policy", POLICIES)
def test_no_step_waits_for_the_device(policy: str, form: str, gpu: torch.device) -> None:
    if form == "scaled" and policy == "a ramp":
        pytest.skip("a ramp under a grad scaler waits, and its documentation says so")
    model = Toy().to(gpu)
    option = {"scaled": "fused", "capturable": "capturable"}.get(form, form)
    optimizer: Any = build(model, policy, **{option: True})
    train(model, optimizer, 2)
    if form == "scaled":  # as GradScaler hands these to a fused optimizer
        optimizer.grad_scale = torch.ones((), device=gpu)
        optimizer.found_inf = torch.zeros((), device=gpu)
    model.loss(2).backward()
    torch.cuda.synchronize()
    with no_waiting():
        for _ in range(3):
            optimizer.step()


@pytest.mark.parametrize("form", ["foreach", "fused"])
@pytest.mark.parametrize("policy", ["toward zero", "toward one", "toward start", "deferred"])
def test_a_step_in_a_cuda_graph_is_replayed(policy: str, form: str, gpu: torch.device) -> None:
    eager, captured = Toy().to(gpu), Toy().to(gpu)
    first, second = (
        build(model, policy, capturable=True, lr=torch.tensor(RATES[0], device=gpu), **{form: True})
        for model in (eager, captured)
    )
    for model, optimizer in ((eager, first), (captured, second)):
        train(model, optimizer, 3)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # as torch asks for: a step before the one that is captured
        second.step()
    torch.cuda.current_stream().wait_stream(stream)
    first.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        second.step()
    for rate in (0.04, 0.03, 0.02, 0.01):  # the rate is live
        for optimizer in (first, second):
            for group in optimizer.param_groups:
                group["lr"].fill_(rate)
        first.step()
        graph.replay()
    torch.cuda.synchronize()
    found = values(captured)
    for name, value in values(eager).items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("form", ["for-loop", "foreach", "fused"])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_device_computes_what_the_cpu_computes(
    policy: str, form: str, device: torch.device
) -> None:
    options = {"foreach": False} if form == "for-loop" else {form: True}
    here, there = Toy(), Toy().to(device)
    for model in (here, there):
        train(model, build(model, policy, **options), 10)
    for name, value in values(there).items():
        torch.testing.assert_close(value.cpu(), here.get_parameter(name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_five_steps_repeated_are_equal_to_the_last_bit(name: str, device: torch.device) -> None:
    family = FAMILIES[name]
    inputs = {key: value.to(device) for key, value in family.inputs().items()}

    def run() -> Any:
        model: Any = family.build().to(device)
        model.set_attn_implementation("eager")  # fused attention adds up in any order
        table = categorize(model, inputs)
        optimizer = make_optimizer(
            torch.optim.AdamW, model, weight_decay=0.1, lr=1e-3, policy="all", table=table
        )
        for _ in range(5):
            optimizer.zero_grad()
            model(**inputs, labels=inputs["input_ids"]).loss.backward()
            optimizer.step()
        return model

    assert_equal(run(), run())
