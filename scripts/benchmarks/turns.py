"""Trainings in turn: a step of each after a step of the other, in one process.

Whole trainings one after the other differ by the speed of the machine, which changes within seconds
by more than what is looked for.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from table import now
from transformers import TrainerCallback


class Turns(TrainerCallback):
    """Times the steps of a training, which waits for a step of the other one after each.

    Attributes:
        seconds: Of each step, from the end of the one before, without the waiting.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.other: Turns | None = None
        self.turn = threading.Semaphore(0)

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._wait()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(now() - self._start)
        if self.other is not None:
            self.other.turn.release()
        self._wait()

    def _wait(self) -> None:
        if self.other is not None:
            self.turn.acquire()
        self._start = now()

    def end(self) -> None:
        """Let the other training go on alone."""
        if self.other is not None:
            self.other.other = None
            self.other.turn.release()


def in_turns(trainers: Mapping[str, Any], first: str) -> dict[str, list[float]]:
    """Train two trainers at once, and return the seconds of each one's steps.

    Make both before: accelerate's state is shared.
    """
    turns = {name: Turns() for name in trainers}
    one, two = turns.values()
    one.other, two.other = two, one
    turns[first].turn.release()
    threads = torch.get_num_threads()

    def train(name: str) -> None:
        torch.set_num_threads(threads)  # each thread of Python has its own
        try:
            trainers[name].add_callback(turns[name])
            trainers[name].train()
        finally:
            turns[name].end()

    with ThreadPoolExecutor(len(turns)) as pool:
        for running in [pool.submit(train, name) for name in turns]:
            running.result()
    return {name: own.seconds for name, own in turns.items()}
