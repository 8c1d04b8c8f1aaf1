"""A model that cannot be run as it is gets one error that says what to do first."""

from __future__ import annotations

import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from gamma_nlp import GammaError, categorize, make_optimizer, probe
from tests.support.structures import HEAD, INNER, D, linear, norm, placed, signal


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = norm(), linear(), linear()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


PLACES = {"0.norm": INNER, "1.norm": INNER, "2": HEAD}


def network() -> nn.Sequential:
    return nn.Sequential(Block(), Block(), norm(), linear())


def refused(model: nn.Module) -> str:
    said = []
    for call in (categorize, probe):
        with pytest.raises(GammaError) as error:
            call(model, signal())
        said.append(str(error.value))
    assert f"{probe.__name__}" in said[1] and "\n" not in said[0]
    return said[0]


# Shards -------------------------------------------------------------------------------------------


@pytest.fixture
def mesh() -> Iterator[Any]:
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def fsdp2(model: nn.Sequential, mesh: Any) -> nn.Module:
    fully_shard(model[0], mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel(model: nn.Sequential, mesh: Any) -> nn.Module:
    parallelize_module(model[0], mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


SHARDS: dict[str, tuple[Callable[[nn.Sequential, Any], nn.Module], str]] = {
    "fsdp2": (fsdp2, "'0.norm.weight'"),
    "one block": (lambda m, mesh: (fully_shard(m[1], mesh=mesh), m)[1], "'1.norm.weight'"),
    "tensor parallel": (tensor_parallel, "'0.up.weight'"),
}


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
@pytest.mark.parametrize("kind", SHARDS)
def test_shards_are_refused_by_name_and_a_table_made_before_decays_them(
    kind: str, mesh: Any
) -> None:
    shard, first = SHARDS[kind]
    model = network()
    table = categorize(model, signal())
    model = shard(model, mesh)
    message = refused(model)
    assert message.startswith(f"{first} is sharded")
    assert "table first, then shard: table = categorize(model, inputs)" in message
    optimizer = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.1, lr=1e-2, table=table, foreach=False
    )
    decays = {n: g["weight_decay"] for g in optimizer.param_groups for n in g["param_names"]}
    assert (decays["0.norm.weight"], decays["2.weight"], decays["0.up.bias"]) == (0.1, 0.0, 0.0)
    before = model[1].norm.weight.detach().clone()
    model(signal()).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, model[1].norm.weight)
    assert "is sharded" in refused(model)  # parameters that a pass has gathered are none


def test_sharded_buffer_and_fsdp_inside_a_model_are_refused(mesh: Any) -> None:
    model = network()
    model[1].register_buffer("table", distribute_tensor(torch.ones(4, 4), mesh, [Shard(0)]))
    assert refused(model).startswith("'1.table' is sharded")
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is on its way out, and alone in its world
        model[1] = FullyShardedDataParallel(
            model[1], use_orig_params=True, device_id=torch.device("cpu")
        )
    assert refused(model).startswith("'1._fsdp_wrapped_module.norm.weight' is sharded (FSDP)")


def test_data_parallel_block_is_no_shard(mesh: Any) -> None:
    model = network()
    model[1] = nn.parallel.DistributedDataParallel(model[1])
    assert placed(model) == {"0.norm": INNER, "1.module.norm": INNER, "2": HEAD}


def test_engine_of_deepspeed_is_seen_through_and_its_partitions_are_refused() -> None:
    class DeepSpeedEngine(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    model = network()
    engine = DeepSpeedEngine(model)  # its own forward pass is never run
    assert placed(engine) == {f"module.{name}": place for name, place in PLACES.items()}
    for parameter in model.parameters():
        parameter.ds_tensor = parameter.data
        parameter.data = torch.empty(0)
    assert refused(engine).startswith("'module.0.norm.weight' is sharded (DeepSpeed ZeRO-3)")


# Not ready yet ------------------------------------------------------------------------------------


def test_lazy_module_is_to_be_run_once_first() -> None:
    model = network()
    model[3] = nn.LazyLinear(D)
    assert refused(model).startswith("'3.weight' has no shape yet")
    model(signal())
    assert placed(model) == PLACES


def test_parameter_made_in_the_first_pass_is_to_be_there_first() -> None:
    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_parameter("weight", None)

        def forward(self, x: Tensor) -> Tensor:
            if self.weight is None:
                self.weight = nn.Parameter(torch.eye(D))
            return x @ self.weight

    model = network()
    model[3] = Growing()
    with pytest.raises(GammaError, match=r"makes parameters .* '3.weight'. Run the model once"):
        categorize(model, signal())
    assert model[3].weight is None
    model(signal())
    assert placed(model) == PLACES


def test_model_without_a_forward_pass_is_asked_for_a_method() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.out = norm(), linear()

        def loss(self, x: Tensor) -> Tensor:
            return self.encode(x).sum()

        def encode(self, x: Tensor) -> Tensor:
            return self.out(self.norm(x))

    model = Encoder()
    assert "model.forward = model.encode; categorize(model, inputs)" in refused(model)
    model.forward = model.encode  # what it asks for works
    assert placed(model) == {"norm": HEAD}


# Inputs and outputs of any form -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    x: Tensor


class Sample:
    def __init__(self, x: Tensor) -> None:
        self.parts = {"x": [x]}

    @property
    def x(self) -> Tensor:
        return self.parts["x"][0]


class Unpacking(nn.Module):
    """Takes its signal out of an object, and puts its output into one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, batch: Any) -> Any:
        return Batch(self.body(batch.x))


@pytest.mark.parametrize("kind", [Batch, Sample, namedtuple("Pair", "x")])
def test_signal_inside_an_object_is_found(kind: Any) -> None:
    model, given = Unpacking(), (kind(signal()),)
    table = categorize(model, given)
    assert {g.name.removesuffix(".weight"): str(g.category) for g in table} == {
        f"body.{name}": place.split()[0] for name, place in PLACES.items()
    }
    assert probe(model, given, table).verdict == "agrees"


def test_inputs_without_any_tensor_are_named() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, text: str) -> Tensor:
            return self.body(torch.ones(2, 5, D) * len(text))

    with pytest.raises(GammaError, match=r"no tensor was found among the inputs \(str\)"):
        categorize(Constant(), ("text",))
    assert placed(nn.ReLU()) == {}
