"""A stand-in for DeepSpeed ZeRO, which puts flat float32 partitions into an optimizer's groups.

It does what DeepSpeed 0.19.8 does with the optimizer that it is given, in
``runtime/zero/stage_1_and_2.py`` and ``stage3.py``: all parameters of a group become one flat
tensor, of which each process holds a part; stages 1 and 2 step an optimizer that has one group at a
time, stage 3 one whose other groups are empty, and a group of more than ``sub_group_size`` elements
in several parts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FlatPartitions:
    """The optimizer that ``deepspeed.initialize`` returns in one process."""

    def __init__(
        self, optimizer: Any, *, rank: int = 0, of: int = 1, stage: int = 2, parts: int = 1
    ) -> None:
        self.optimizer, self.stage = optimizer, stage
        self.whole = [list(group["params"]) for group in optimizer.param_groups]
        self.rank, self.of, self.count = rank, of, parts
        self.parts = [self._cut(tensors) for tensors in self.whole]
        for group, own in zip(optimizer.param_groups, self.parts, strict=True):
            group["params"] = own[:1] if stage < 3 else []

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    def _cut(self, tensors: list[Tensor]) -> list[nn.Parameter]:
        flat = torch.cat([t.detach().float().flatten() for t in tensors])
        flat = torch.cat([flat, flat.new_zeros(-len(flat) % (self.of * self.count))])
        own = flat.chunk(self.of)[self.rank]
        return [nn.Parameter(part.clone()) for part in own.chunk(self.count)]

    def step(self) -> None:
        """Step each part with the gradients that the whole tensors have."""
        optimizer, groups = self.optimizer, self.optimizer.param_groups
        for group, tensors, parts in zip(groups, self.whole, self.parts, strict=True):
            gradients = self._cut([p.grad for p in tensors if p.grad is not None])
            for part, gradient in zip(parts, gradients, strict=True):
                part.grad = gradient.detach()
                if self.stage < 3:
                    optimizer.param_groups = [group]
                else:
                    group["params"] = [part]
                optimizer.step()
                part.grad = None
                optimizer.param_groups = groups
            if self.stage == 3:
                group["params"] = []


def put_back(engines: list[FlatPartitions]) -> None:
    """Write the partitions of all processes into the whole tensors, as the engine does."""
    for number, tensors in enumerate(engines[0].whole):
        flat = torch.cat([part.detach() for one in engines for part in one.parts[number]])
        for p in tensors:
            p.data.copy_(flat[: p.numel()].view_as(p))
            flat = flat[p.numel() :]
