"""Memory of one process for weights, gradients and the optimizer's state.

What is cut, by the ZeRO paper (arXiv:1910.02054): stage 1 cuts the optimizer's state, stage 2
gradients too, stage 3 and FSDP weights too. Numbers are those of the process that holds the most.
Left out: activations, other buffers, what a step makes for itself, and the layers that FSDP and
stage 3 put together while they compute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.launch.launch import Launch, Place
from gamma_nlp.launch.states import States

_HALF = {"bf16": torch.bfloat16, "fp8": torch.bfloat16, "fp16": torch.float16}
_DTYPES = {**_HALF, "fp32": torch.float32}
_ALIGNED = 2
"""DeepSpeed pads each group to so many elements per process (``nccl_start_alignment_factor``)."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kind of tensors in the memory of a process.

    Attributes:
        what: ``weights``, ``gathered weights``, ``master weights``, ``gradients``,
            ``gradient buckets`` or ``optimizer state``.
        dtypes: Of the tensors, the names joined by commas.
        shard: How many processes hold one copy together.
        place: Where they rest.
        bytes: Their size on one process.
    """

    what: str
    dtypes: str
    shard: int
    place: Place
    bytes: int


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """What one process holds of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def memory_of(
    model: nn.Module,
    groups: Sequence[Mapping[str, Any]],
    launch: Launch,
    states: States,
    tensor_cut: Mapping[str, int] | None = None,
) -> list[Part]:
    """Return what one process holds.

    Args:
        model: The model; tied parameters count once, frozen ones have weights alone.
        groups: The parameter groups, which ZeRO joins into one flat tensor each.
        launch: How the run is spread.
        states: The optimizer's.
        tensor_cut: The dimension along which tensor parallel cuts a parameter, by name.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    cut = {} if tensor_cut is None else tensor_cut

    def own(p: Tensor) -> Tensor:
        dim = cut.get(names[id(p)])
        if dim is None or launch.tensor == 1:
            return p
        shape = list(p.shape)
        shape[dim] = -(-shape[dim] // launch.tensor)
        return torch.empty(shape, dtype=p.dtype, device="meta", requires_grad=p.requires_grad)

    tensors = [own(p) for p in model.parameters()]
    trained = [[own(p) for p in group["params"]] for group in groups]
    starts = [
        [own(p) for p in group["params"]]
        for group in groups
        if group.get("gamma_center") == "start"
    ]
    if launch.engine == "DeepSpeed":
        return _deepspeed(tensors, trained, launch, states)
    return _others(tensors, trained, starts, launch, states)


def _others(
    tensors: Sequence[Tensor],
    trained: Sequence[Sequence[Tensor]],
    starts: Sequence[Sequence[Tensor]],
    launch: Launch,
    states: States,
) -> list[Part]:
    """FSDP's mixed precision keeps float32 of what is trained; the others keep what there is."""
    shard = launch.shard

    def piece(p: Tensor) -> _Piece:
        dtype = torch.float32 if launch.mixed and p.requires_grad else p.dtype
        cut = _cut_flat if launch.engine == "FSDP1" else _cut_first
        return _Piece(shape=cut(p.shape, shard), dtype=dtype)

    weights = [piece(p) for p in tensors]
    moved = [piece(p) for group in trained for p in group]
    state = sum(states.bytes_for(one.shape, one.dtype) for one in moved)
    state += sum(piece(p).bytes for group in starts for p in group)
    parts = [_part("weights", weights, shard, launch.weights_on)]
    if launch.gathered and shard > 1:
        dtype = _HALF.get(launch.precision)
        whole = [_Piece(shape=tuple(p.shape), dtype=dtype or p.dtype) for p in tensors]
        parts.append(_part("gathered weights", whole, 1, launch.device))
    parts.append(_part("gradients", moved, shard, launch.weights_on))
    if launch.engine == "DDP":  # with gradient_as_bucket_view=False, the default
        parts.append(_part("gradient buckets", moved, 1, launch.device))
    return [
        *parts,
        _part("optimizer state", moved, shard, launch.optimizer_on, state),
    ]


def _deepspeed(
    tensors: Sequence[Tensor],
    trained: Sequence[Sequence[Tensor]],
    launch: Launch,
    states: States,
) -> list[Part]:
    """DeepSpeed trains a float32 copy of each group, flat and cut from stage 1 on.

    Without mixed precision weights keep their dtype, and stage 0 trains them themselves.
    """
    low = _HALF.get(launch.precision)
    gathers = _DTYPES.get(launch.gradient_dtype or "", low or torch.float32)

    def dtype(p: Tensor) -> torch.dtype:
        return low if low and p.is_floating_point() else p.dtype

    share = launch.shard if launch.stage else 1
    flat = [
        _Piece(shape=(-(-_numel(group) // (_ALIGNED * share)) * _ALIGNED,), dtype=torch.float32)
        for group in trained
    ]
    if launch.stage in (0, 3):  # not flat, or each parameter by itself
        flat = [
            _Piece(
                shape=_cut_flat(p.shape, share), dtype=torch.float32 if launch.mixed else p.dtype
            )
            for group in trained
            for p in group
        ]
    held = share if launch.stage == 3 else 1
    weights = [_Piece(shape=_cut_flat(p.shape, held), dtype=dtype(p)) for p in tensors]
    parts = [_part("weights", weights, held, launch.weights_on)]
    if launch.mixed:
        parts.append(_part("master weights", flat, share, launch.optimizer_on))
    if launch.stage < 2:
        whole = [
            _Piece(shape=tuple(p.shape), dtype=gathers if launch.mixed else p.dtype)
            for group in trained
            for p in group
        ]
        parts.append(_part("gradients", whole, 1, launch.device))
    else:
        offloaded = launch.optimizer_on != launch.device
        own = [
            _Piece(shape=one.shape, dtype=torch.float32 if offloaded else gathers) for one in flat
        ]
        parts.append(_part("gradients", own, share, "CPU" if offloaded else launch.device))
    state = sum(states.bytes_for(one.shape, one.dtype) for one in flat)
    return [*parts, _part("optimizer state", flat, share, launch.optimizer_on, state)]


def _part(
    what: str, pieces: Sequence[_Piece], shard: int, place: Place, size: int | None = None
) -> Part:
    dtypes = dict.fromkeys(str(one.dtype).removeprefix("torch.") for one in pieces)
    size = sum(one.bytes for one in pieces) if size is None else size
    return Part(what=what, dtypes=", ".join(dtypes), shard=shard, place=place, bytes=size)


def _cut_first(shape: torch.Size, shard: int) -> tuple[int, ...]:
    """FSDP2 cuts along the first dimension, and the first process holds the largest piece."""
    if shard == 1 or not shape:
        return tuple(shape)
    return (-(-shape[0] // shard), *shape[1:])


def _cut_flat(shape: torch.Size, shard: int) -> tuple[int, ...]:
    """FSDP1 and ZeRO stage 3 cut a parameter as one long vector."""
    return tuple(shape) if shard == 1 else (-(-shape.numel() // shard),)


def _numel(tensors: Iterable[Tensor]) -> int:
    return sum(p.numel() for p in tensors)
