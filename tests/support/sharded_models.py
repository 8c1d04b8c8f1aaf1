"""A model that no number of processes divides evenly, its training, and ways to shard it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

D = 6
IDS = torch.arange(20).reshape(4, 5) % 11


class PlusOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, (D,)) * (1 + self.weight)


class Block(nn.Module):
    """Five rows and a scale of one element: no number of processes divides all of them."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.norm, self.plus = nn.RMSNorm(D), PlusOne()
        self.up, self.down, self.scale = (
            nn.Linear(D, width),
            nn.Linear(width, D),
            nn.Parameter(torch.ones(1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.down(self.up(self.norm(x)).relu())
        return x + self.down(self.up(self.plus(x)).relu()) * self.scale


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb, self.final = nn.Embedding(11, D), nn.RMSNorm(D)
        self.blocks = nn.ModuleList([Block(), Block(8), Block()])
        self.head = nn.Linear(D, 11, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.emb(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.final(x))


def network(dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.to(dtype)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        ids = torch.roll(IDS, step, 1)
        logits = model(ids).float()
        nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {
        name.removeprefix("module.").replace("_fsdp_wrapped_module.", ""): (
            p.full_tensor() if hasattr(p, "full_tensor") else p
        ).detach().float().clone()
        for name, p in model.named_parameters()
    }  # fmt: skip


def equal(model: nn.Module, alone: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
    """Hold the weights of a model to be those of a run in one process.

    In half precision a CPU rounds twice what fills no vector of its registers, so that an element
    of a shard may end one unit in the last place beside its place in the whole: a few may here.
    """
    found = weights(model)
    assert found.keys() == alone.keys()
    if dtype == torch.float32:
        for name, w in found.items():
            assert (w - alone[name]).norm() <= 1e-6 * alone[name].norm(), name
        return
    off = torch.cat([(w != alone[name]).flatten() for name, w in found.items()])
    assert off.double().mean() < 0.01
    for name, w in found.items():
        assert ((w - alone[name]).abs() <= torch.finfo(dtype).eps * alone[name].abs()).all(), name


def mesh_of_all(*names: str) -> Any:
    shape = (*[1] * (len(names) - 1), dist.get_world_size())
    return init_device_mesh("cpu", shape, mesh_dim_names=names)


def fsdp2(model: Any) -> nn.Module:
    for block in model.blocks:
        fully_shard(block, mesh=mesh_of_all("all"))
    return fully_shard(model, mesh=mesh_of_all("all"))


def one_block(model: Any) -> nn.Module:
    fully_shard(model.blocks[0], mesh=mesh_of_all("all"))
    return model


def two_meshes(model: Any) -> nn.Module:
    fully_shard(model.blocks[1], mesh=mesh_of_all("copies", "shards"))
    return one_block(model)


def tensor_parallel(model: Any) -> nn.Module:
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    parallelize_module(model.blocks[1], mesh_of_all("tp"), plan)
    return model


def fsdp1(model: nn.Module) -> nn.Module:
    return FullyShardedDataParallel(
        model,
        use_orig_params=True,
        auto_wrap_policy=ModuleWrapPolicy({Block}),
        device_id=torch.device("cpu"),
    )
