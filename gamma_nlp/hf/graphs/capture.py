"""How work on a GPU is recorded and repeated; and the plain way, which records nothing.

Both ways have the same two methods, so that everything built on them can be tried on a CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")


class Capture(Protocol):
    """What repeats work that reads and writes the same tensors every time."""

    on_gpu: bool

    def rehearse(self, work: Callable[[], T]) -> T:
        """Do the work once as usual, in the place where it will be recorded."""
        ...

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        """Return what does the work again; recording it does not do it."""
        ...


class Plain:
    """The reference: the work is simply done, every time."""

    on_gpu = False

    def rehearse(self, work: Callable[[], T]) -> T:
        return work()

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        return work


class CudaGraphs:
    """Record work as CUDA graphs that share one pool of memory.

    So what a graph returns is overwritten by the next one: read it before. Random numbers differ
    from replay to replay, since torch moves on the generator that it registers with the graph.
    """

    on_gpu = True

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()
        self.pool = torch.cuda.graph_pool_handle()

    def rehearse(self, work: Callable[[], T]) -> T:
        # Libraries make their workspaces for each stream: none may be missing when recording.
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = work()
        current.wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        cause: Exception | None = None
        try:
            # The thread that pins batches allocates memory, which mode "global" forbids.
            with torch.cuda.graph(
                graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
            ):
                try:
                    result = work()
                except Exception as error:
                    cause = error  # ending the recording fails too, and says less
                    raise
        except BaseException as error:
            _recover(current)
            raise (cause or error) from None

        def again() -> T:
            graph.replay()
            return result

        return again


def _recover(stream: torch.cuda.Stream) -> None:
    """Leave a recording that failed: torch leaves its stream, and its generator in recording."""
    torch.cuda.set_stream(stream)
    with contextlib.suppress(RuntimeError):
        torch.cuda.synchronize()
    for generator in torch.cuda.default_generators:
        with contextlib.suppress(RuntimeError):
            generator.graphsafe_set_state(generator.clone_state())
