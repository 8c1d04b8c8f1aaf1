"""A forward pass written down operation by operation, to be played again with something changed.

Memory is kept in versions: an operation in place makes a new version of the block that it writes.
A :class:`Ref` is a window on one version, so views cost nothing and every value that ever was can
be read, changed and followed. Playing runs only the operations that the change reaches.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from gamma_nlp.errors import GammaError

Key = tuple[int, int]
"""A memory block and its version."""


class Ref(NamedTuple):
    """A tensor as one operation saw it."""

    key: Key
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @property
    def is_float(self) -> bool:
        return self.dtype.is_floating_point or self.dtype.is_complex

    @property
    def numel(self) -> int:
        """Distinct elements: expanded dimensions count once."""
        count = 1
        for size, stride in zip(self.size, self.stride, strict=True):
            count *= 1 if stride == 0 else size
        return count


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation: what it read and what it made or overwrote.

    Attributes:
        index: Its place on the tape.
        name: As the dispatcher calls it, without namespace, overload and trailing underscore.
        foreign: It is not one of PyTorch's own operations.
        reads: Its tensor arguments in order.
        writes: Its results in new memory, and the windows that it overwrote.
        replaces: The versions that it overwrote.
        module: The module that was running.
    """

    index: int
    name: str
    foreign: bool
    reads: tuple[Ref, ...]
    writes: tuple[Ref, ...]
    replaces: tuple[Key, ...]
    module: str
    func: Any = field(repr=False)
    leaves: tuple[Any, ...] = field(repr=False)
    spec: TreeSpec | None = field(repr=False)
    results: tuple[int | None, ...] = field(repr=False)
    random: bool = field(repr=False)


class Tape:
    """The steps of one forward pass, the memory that they used, and its outputs."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.outputs: tuple[Ref, ...] = ()
        self._memory: list[list[torch.UntypedStorage]] = []
        self._readers: dict[Key, list[int]] = {}
        self.blocks: dict[int, int] = {}

    def readers(self, key: Key) -> list[int]:
        """The steps that read this version of a block, in order."""
        return self._readers.get(key, [])

    def value(self, ref: Ref) -> Tensor:
        """What was there when the model ran; not to be written to."""
        return _window(self._memory[ref.key[0]][ref.key[1]], ref)

    def key_of(self, storage: torch.UntypedStorage) -> Key | None:
        """The first version of a block of memory, if the model used it."""
        block = self.blocks.get(storage._cdata)
        return None if block is None else (block, 0)

    def whole(self, key: Key, dtype: torch.dtype) -> Tensor:
        """All of one version of a block as a row; not to be written to."""
        storage = self._memory[key[0]][key[1]]
        count = storage.nbytes() // dtype.itemsize
        return _window(storage, Ref(key=key, dtype=dtype, size=(count,), stride=(1,), offset=0))

    def play(
        self,
        values: Mapping[Key, torch.UntypedStorage] | None = None,
        operands: Mapping[tuple[int, int], Tensor] | None = None,
        *,
        hold: Container[int] = (),
        straight: Container[int] = (),
        until: int | None = None,
        choices: bool = False,
    ) -> Play:
        """Run again what a change reaches.

        Args:
            values: New contents of versions of memory blocks.
            operands: New tensor arguments, by step and position in its reads.
            hold: Steps whose results stay what they were.
            straight: Steps that hand on the change of their signal as it is.
            until: The last step to run.
            choices: Whether indices and masks follow the change too; else they stay.
        """
        live: dict[Key, torch.UntypedStorage] = dict(values or {})
        new = dict(operands or {})
        queue = [index for index, _ in new]
        for key in live:
            queue += self.readers(key)
        queue = sorted(set(queue))
        queued = set(queue)
        while queue:
            step = self.steps[heapq.heappop(queue)]
            if until is not None and step.index > until:
                break
            if step.index in hold or step.random:
                continue
            if step.index in straight:
                made = self._hand_on(step, live)
            else:
                made = self._run(step, live, new, choices)
            for key in made:
                for reader in self.readers(key):
                    if reader not in queued:
                        queued.add(reader)
                        heapq.heappush(queue, reader)
        return Play(self, live)

    def _run(
        self,
        step: Step,
        live: dict[Key, torch.UntypedStorage],
        operands: dict[tuple[int, int], Tensor],
        choices: bool,
    ) -> list[Key]:
        overwritten: dict[int, torch.UntypedStorage] = {}
        for block, version in step.replaces:
            before = live.get((block, version), self._memory[block][version])
            overwritten[block] = before.clone()
        leaves = list(step.leaves)
        position = 0
        for i, leaf in enumerate(leaves):
            if not isinstance(leaf, Ref):
                continue
            given = operands.get((step.index, position))
            position += 1
            block = leaf.key[0]
            if block in overwritten:
                leaves[i] = _window(overwritten[block], leaf)
                if given is not None:
                    leaves[i].copy_(given)
            elif given is not None:
                leaves[i] = given
            elif leaf.key in live:
                leaves[i] = _window(live[leaf.key], leaf)
            else:
                leaves[i] = self.value(leaf)
        args, kwargs = (leaves, {}) if step.spec is None else tree_unflatten(leaves, step.spec)
        result = step.func(*args, **kwargs)
        outputs = [result] if isinstance(result, Tensor) else tree_flatten(result)[0]
        if not choices:
            outputs = self._same_choice(step, args, kwargs, outputs)
        made = []
        for ref, place in zip(step.writes, step.results, strict=True):
            if not (ref.is_float or choices):
                continue
            storage = overwritten.get(ref.key[0])
            if storage is None:
                assert place is not None
                storage = _stored(outputs[place], ref)
            live[ref.key] = storage
            made.append(ref.key)
        return made

    def _hand_on(self, step: Step, live: dict[Key, torch.UntypedStorage]) -> list[Key]:
        out = step.writes[0]
        signal = max((r for r in step.reads if r.is_float), key=lambda ref: ref.numel)
        if signal.key not in live:
            return []
        change = _window(live[signal.key], signal) - self.value(signal)
        live[out.key] = _stored(self.value(out) + change.reshape(out.size), out)
        return [out.key]

    def _same_choice(
        self, step: Step, args: Sequence[Any], kwargs: dict[str, Any], outputs: list[Any]
    ) -> list[Any]:
        """Top-k, sort and maximum with the indices of the first pass."""
        if len(outputs) != 2 or len(step.writes) != 2:
            return outputs
        values, indices = step.writes
        if not values.is_float or indices.dtype != torch.int64 or values.size != indices.size:
            return outputs
        dim = _argument(step.func, args, kwargs, "dim")
        if not isinstance(dim, int) or not isinstance(args[0], Tensor):
            return outputs
        chosen = self.value(indices)
        squeezed = chosen.dim() < args[0].dim()
        chosen = chosen.unsqueeze(dim) if squeezed else chosen
        taken = torch.take_along_dim(args[0], chosen, dim)
        return [taken.squeeze(dim) if squeezed else taken, outputs[1]]


class Play:
    """What a change did: the new contents of all that it reached."""

    def __init__(self, tape: Tape, live: Mapping[Key, torch.UntypedStorage]) -> None:
        self.tape = tape
        self.live = live

    def value(self, ref: Ref) -> Tensor:
        storage = self.live.get(ref.key)
        return self.tape.value(ref) if storage is None else _window(storage, ref)

    def moved(self, ref: Ref) -> float:
        """The largest change of a value, relative to its largest element; 0 if unreached."""
        if ref.key not in self.live or not ref.is_float:
            return 0.0
        before, after = self.tape.value(ref), self.value(ref)
        if before.numel() == 0:
            return 0.0
        finite = before.isfinite()
        if not bool((after.isfinite() == finite).all()):
            return float("inf")
        change = torch.where(finite, after - before, 0).abs().max()
        usual = finite & (before.abs() < HUGE)
        size = torch.where(usual if bool(usual.any()) else finite, before, 0).abs().max()
        return float(change / size) if float(size) > 0 else float(change)


HUGE = 1e4
"""Masks hold numbers beyond this; where there are smaller ones they are no measure of a signal."""


def record(
    run: Callable[[], Any], where: Callable[[], str], dtype: torch.dtype = torch.float32
) -> Tape:
    """Write down what ``run`` does.

    Args:
        run: A forward pass on tensors that nobody else needs unchanged.
        where: Returns the name of the module that is running.
        dtype: The lowest precision; what the model would cast to less stays in this one.

    Raises:
        GammaError: Tensors without memory of their own (meta, sparse), which cannot be replayed.
    """
    recorder = _Recorder(where, {low: dtype for low in LOW[dtype]})
    usual = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.no_grad(), recorder:
            output = run()
    finally:
        torch.set_default_dtype(usual)
    recorder.tape.outputs = tuple(
        recorder.ref(leaf) for leaf in _outputs(output) if leaf.is_floating_point()
    )
    for step in recorder.tape.steps:
        for ref in step.reads:
            readers = recorder.tape._readers.setdefault(ref.key, [])
            if not readers or readers[-1] != step.index:
                readers.append(step.index)
    return recorder.tape


_HALF = (torch.float16, torch.bfloat16)
LOW = {torch.float64: (*_HALF, torch.float32), torch.float32: _HALF}
"""Precisions below another."""


class _Recorder(TorchDispatchMode):
    def __init__(self, where: Callable[[], str], raised: Mapping[torch.dtype, torch.dtype]) -> None:
        super().__init__()
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
        if kwargs.get("dtype") in self._raised:
            kwargs["dtype"] = self._raised[kwargs["dtype"]]
        name = func.overloadpacket.__name__.rstrip("_")
        if name in _SPLIT:
            with self:
                return _SPLIT[name](func, *args, **kwargs)
        flat = not kwargs and not any(isinstance(arg, (list, tuple, dict)) for arg in args)
        leaves, spec = (list(args), None) if flat else tree_flatten((args, kwargs))
        seen = [self.ref(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        written = _written(func, args, kwargs)
        for tensor in written:
            versions = self.tape._memory[self.ref(tensor).key[0]]
            versions[-1] = tensor.untyped_storage().clone()
        known = len(self.tape._memory)
        output = func(*args, **kwargs)
        writes: list[Ref] = []
        results: list[int | None] = []
        blocks = set()
        for tensor in written:
            block = self._blocks[tensor.untyped_storage()._cdata]
            if block not in blocks:
                self.tape._memory[block].append(tensor.untyped_storage())
                blocks.add(block)
            writes.append(self.ref(tensor))
            results.append(None)
        for place, leaf in enumerate(tree_flatten(output)[0]):
            if isinstance(leaf, Tensor):
                ref = self.ref(leaf)
                if ref.key[0] >= known:
                    writes.append(ref)
                    results.append(place)
        if writes:
            self.tape.steps.append(
                Step(
                    index=len(self.tape.steps),
                    name=name,
                    foreign=func.namespace not in ("aten", "prims"),
                    reads=tuple(leaf for leaf in seen if isinstance(leaf, Ref)),
                    writes=tuple(writes),
                    replaces=tuple((block, len(self.tape._memory[block]) - 2) for block in blocks),
                    module=self._where(),
                    func=func,
                    leaves=tuple(seen),
                    spec=spec,
                    results=tuple(results),
                    # Fused attention has a dropout argument; it is off in eval mode.
                    random=torch.Tag.nondeterministic_seeded in func.tags
                    and not ("attention" in name or "rnn" in name),
                )
            )
        return output

    def ref(self, tensor: Tensor) -> Ref:
        if tensor.is_meta or tensor.layout is not torch.strided:
            raise GammaError(
                f"the probe needs values in ordinary memory, and module {self._where()!r} has a "
                f"tensor on {tensor.device} with layout {tensor.layout}. Build the model on the "
                "CPU, or trust table and graph: categorize(model, example_inputs)"
            )
        storage = tensor.untyped_storage()
        block = self._blocks.get(storage._cdata)
        if block is None:
            # Held by the tape, so that no later memory gets the same address.
            block = self._blocks[storage._cdata] = len(self.tape._memory)
            self.tape._memory.append([storage])
        return Ref(
            key=(block, len(self.tape._memory[block]) - 1),
            dtype=tensor.dtype,
            size=tuple(tensor.shape),
            stride=tensor.stride(),
            offset=int(tensor.storage_offset()),
        )


def _sum_and_product(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def split(
        func: Any, bias: Tensor, one: Tensor, two: Tensor, *, beta: Any = 1, alpha: Any = 1
    ) -> Tensor:
        result = product(one, two)
        result = result if alpha == 1 else result * alpha
        return bias + result if beta == 1 else bias * beta + result

    return split


def _addcmul(func: Any, start: Tensor, one: Tensor, two: Tensor, *, value: Any = 1) -> Tensor:
    product = one * two if value == 1 else value * one * two
    return start.add_(product) if func._schema.is_mutable else start + product


def _addcdiv(func: Any, start: Tensor, one: Tensor, two: Tensor, *, value: Any = 1) -> Tensor:
    quotient = one / two if value == 1 else value * one / two
    return start.add_(quotient) if func._schema.is_mutable else start + quotient


# Operations that are a sum and a product at once are taken apart, so that each part can be held.
_SPLIT: dict[str, Callable[..., Any]] = {
    "addmm": _sum_and_product(torch.mm),
    "baddbmm": _sum_and_product(torch.bmm),
    "addmv": _sum_and_product(torch.mv),
    "addcmul": _addcmul,
    "addcdiv": _addcdiv,
}


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[i] if i < len(args) else kwargs.get(argument.name)
            found += [leaf for leaf in tree_flatten(given)[0] if isinstance(leaf, Tensor)]
    return found


def _argument(func: Any, args: Sequence[Any], kwargs: dict[str, Any], name: str) -> Any:
    for i, argument in enumerate(func._schema.arguments):
        if argument.name == name:
            return args[i] if i < len(args) else kwargs.get(name, argument.default_value)
    return None


def _outputs(value: Any) -> Iterable[Tensor]:
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)]


def _window(storage: torch.UntypedStorage, ref: Ref) -> Tensor:
    empty = torch.empty(0, dtype=ref.dtype, device=storage.device)
    return empty.set_(storage, ref.offset, ref.size, ref.stride)


def _stored(tensor: Tensor, ref: Ref) -> torch.UntypedStorage:
    """The memory of a tensor, laid out as the window that others look through expects."""
    if tensor.stride() == ref.stride and tensor.storage_offset() == ref.offset:
        return tensor.untyped_storage()
    span = 1 + sum((n - 1) * s for n, s in zip(ref.size, ref.stride, strict=True) if n)
    fresh = torch.zeros(ref.offset + span, dtype=ref.dtype, device=tensor.device)
    fresh.as_strided(ref.size, ref.stride, ref.offset).copy_(tensor)
    return fresh.untyped_storage()
