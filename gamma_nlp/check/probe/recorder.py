"""Record a tape by watching the operations of a forward pass where PyTorch dispatches them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from gamma_nlp.check.probe.fused_sums import FUSED_SUMS, in_parts
from gamma_nlp.check.probe.tape import Ref, Step, Tape
from gamma_nlp.errors import GammaError
from gamma_nlp.graph import lists
from gamma_nlp.graph.gradients import Gradients, innermost
from gamma_nlp.graph.memory import is_wrapper, memory_of
from gamma_nlp.graph.reached import tensors_in


def record(
    run: Callable[[], Any],
    where: Callable[[], str],
    dtype: torch.dtype = torch.float32,
    forbidden: Iterable[Tensor] = (),
    gradients: bool = False,
) -> Tape:
    """Record a forward pass.

    Args:
        run: The pass, on tensors that may be changed.
        where: Returns the name of the module that is running.
        dtype: The lowest precision; casts to a lower one give this one instead.
        forbidden: Tensors that the pass must not use.
        gradients: Whether to switch gradients on, for a pass that takes some itself. These are not
            recorded; what they are taken of counts as an output.

    Raises:
        GammaError: A tensor has no memory of its own (meta, sparse) and cannot be replayed, or a
            forbidden tensor was used.
        NeedsGradientsError: The pass takes gradients, and ``gradients`` is off.
    """
    recorder = _Recorder(where, {low: dtype for low in LOW[dtype]}, forbidden)
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        takes = Gradients(recorder.take_gradients, where, switched_on=gradients)
        with torch.set_grad_enabled(gradients), recorder, takes:
            output = run()
    finally:
        torch.set_default_dtype(default)
    found = [leaf for leaf in tensors_in(output) if leaf.is_floating_point()]
    recorder.tape.outputs = (
        *(recorder.ref(leaf) for leaf in found if not recorder.is_opaque(leaf)),
        *recorder.differentiated,
    )
    return recorder.tape


_HALF = (torch.float16, torch.bfloat16)
LOW = {torch.float64: (*_HALF, torch.float32), torch.float32: _HALF}
"""The precisions below each."""


class _Recorder(TorchDispatchMode):
    def __init__(
        self,
        where: Callable[[], str],
        raised: Mapping[torch.dtype, torch.dtype],
        forbidden: Iterable[Tensor],
    ) -> None:
        super().__init__()
        self._forbidden = {memory_of(tensor) for tensor in forbidden} - {None}
        self._unseen = False
        self.differentiated: list[Ref] = []
        self.tape = Tape()
        self._raised = raised
        self._where = where
        self._blocks = self.tape.blocks

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if self._unseen:
            return func(*args, **kwargs)
        if any(map(is_wrapper, _tensors((args, kwargs)))):
            return NotImplemented  # what it does comes here as operations on its parts
        low = kwargs.get("dtype") in self._raised
        if low and not any(isinstance(a, torch.ScriptObject) for a in tree_flatten(args)[0]):
            kwargs["dtype"] = self._raised[kwargs["dtype"]]
        if lists.plain(func) is not None:
            with self:
                return lists.one_by_one(func, args, kwargs)
        name = func.overloadpacket.__name__.rstrip("_")
        if name in FUSED_SUMS:
            with self:
                return in_parts(func, name, args, kwargs)
        flat = not kwargs and not any(isinstance(arg, (list, tuple, dict)) for arg in args)
        leaves, spec = (list(args), None) if flat else tree_flatten((args, kwargs))
        seen = [
            self.ref(leaf) if isinstance(leaf, Tensor) and not self.is_opaque(leaf) else leaf
            for leaf in leaves
        ]
        written = _written(func, args, kwargs)
        # An operation in place: what is there now moves into a copy, which becomes the old
        # version, and the memory itself holds the new one.
        for tensor in written:
            versions = self.tape.memory[self.ref(tensor).key[0]]
            versions[-1] = tensor.untyped_storage().clone()
        known = len(self.tape.memory)
        output = func(*args, **kwargs)
        writes: list[Ref] = []
        results: list[int | None] = []
        blocks = set()
        for tensor in written:
            block = self._blocks[tensor.untyped_storage()._cdata]
            if block not in blocks:
                self.tape.memory[block].append(tensor.untyped_storage())
                blocks.add(block)
            writes.append(self.ref(tensor))
            results.append(None)
        for place, leaf in enumerate(tree_flatten(output)[0]):
            if isinstance(leaf, Tensor) and not self._is_constant(leaf, seen):
                ref = self.ref(leaf)
                if ref.key[0] >= known:  # else a view of memory that the tape has already
                    writes.append(ref)
                    results.append(place)
        if writes:
            self.tape.add(
                Step(
                    index=len(self.tape.steps),
                    name=name,
                    foreign=func.namespace not in ("aten", "prims"),
                    reads=tuple(leaf for leaf in seen if isinstance(leaf, Ref)),
                    writes=tuple(writes),
                    replaces=tuple((block, len(self.tape.memory[block]) - 2) for block in blocks),
                    module=self._where(),
                    func=func,
                    leaves=tuple(seen),
                    spec=spec,
                    results=tuple(results),
                    # Fused attention counts as random for its dropout, which is off in eval mode.
                    random=torch.Tag.nondeterministic_seeded in func.tags
                    and not ("attention" in name or "rnn" in name),
                )
            )
        return output

    def take_gradients(
        self, run: Callable[[], Any], outputs: Sequence[Tensor], inputs: Sequence[Tensor]
    ) -> Any:
        """Take gradients unseen. What they are taken of is an output of the pass.

        Played again, a gradient with respect to an activation moves with what it is taken of.
        """
        reads = [self.ref(tensor) for tensor in outputs]
        self.differentiated += reads
        self._unseen = True
        try:
            found = run()
        finally:
            self._unseen = False
        wanted = [
            innermost(gradient)
            for gradient, tensor in zip(found or (), inputs, strict=False)
            if gradient is not None and not isinstance(tensor, nn.Parameter)
        ]
        if wanted:
            writes = tuple(self.ref(gradient) for gradient in wanted)
            self.tape.add(
                Step(
                    index=len(self.tape.steps),
                    name="gradient",
                    foreign=False,
                    reads=tuple(reads),
                    writes=writes,
                    replaces=(),
                    module=self._where(),
                    func=_stand_in(self.tape, reads, writes),
                    leaves=tuple(reads),
                    spec=None,
                    results=tuple(range(len(writes))),
                    random=False,
                )
            )
        return found

    def is_opaque(self, tensor: Tensor) -> bool:
        """Return whether a tensor has no memory of its own, and is a constant."""
        return tensor.layout is not torch.strided and not tensor.is_meta

    def _is_constant(self, tensor: Tensor, read: Iterable[Any]) -> bool:
        return self.is_opaque(tensor) and not any(isinstance(leaf, Ref) for leaf in read)

    def ref(self, tensor: Tensor) -> Ref:
        if tensor.is_meta or tensor.layout is not torch.strided:
            raise GammaError(
                f"the probe needs values in ordinary memory, but module {self._where()!r} has a "
                f"tensor on {tensor.device} with layout {tensor.layout}. Build the model on the "
                "CPU, or check table against graph instead: categorize(model, inputs)"
            )
        storage = tensor.untyped_storage()
        if storage._cdata in self._forbidden:
            raise GammaError(
                f"the probe works on a copy, but module {self._where()!r} of the copy still uses a "
                "tensor of the original, through a function that refers to the original model. "
                "Pass the module to that function as an argument, or check table against graph "
                "instead: categorize(model, inputs)"
            )
        block = self._blocks.get(storage._cdata)
        if block is None:
            # The tape keeps the memory alive, so that no later block gets the same address.
            block = self._blocks[storage._cdata] = len(self.tape.memory)
            self.tape.memory.append([storage])
        return Ref(
            key=(block, len(self.tape.memory[block]) - 1),
            dtype=tensor.dtype,
            size=tuple(tensor.shape),
            stride=tensor.stride(),
            offset=int(tensor.storage_offset()),
        )


def _stand_in(
    tape: Tape, reads: Iterable[Ref], writes: Iterable[Ref]
) -> Callable[..., tuple[Tensor, ...]]:
    """Return what gives the recorded gradients, larger by as much as the outputs have moved."""

    def play(*outputs: Tensor) -> tuple[Tensor, ...]:
        pairs = [(tape.value(ref), now) for ref, now in zip(reads, outputs, strict=True)]
        moved = [(now - before).abs().max() / before.abs().max() for before, now in pairs]
        return tuple(tape.value(ref) * (1 + sum(moved)) for ref in writes)

    return play


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            found += _tensors(value)
    return found


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)]
