"""``python -m tests.support.fuzz [--count N] [--seed S] [--kinds A,B] [--keep FOLDER]``."""

from __future__ import annotations

import argparse
import functools
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from tests.support.fuzz.guard import Watch, limit_memory, try_one
from tests.support.fuzz.inputs import Files, damaged, size, write
from tests.support.fuzz.kinds import KINDS

GOOD = ("read", "refused")
_PATIENCE = 120.0
"""Seconds without an answer after which a worker hangs in C and is ended."""


@dataclass
class Tally:
    """What became of the inputs of one kind."""

    counts: Counter[str] = field(default_factory=Counter)
    worst: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Of each new failure its smallest input: size, number and details."""

    def add(self, verdict: str, detail: str, number: str, bytes_: int) -> None:
        self.counts[verdict] += 1
        if verdict not in GOOD:
            key = f"{verdict} {detail.partition(':')[0]}"
            if key not in self.worst or bytes_ < self.worst[key][0]:
                self.worst[key] = (bytes_, number, detail)


def inputs(kind: str, seed: int, start: int, count: int) -> Iterator[tuple[str, Files]]:
    """Yield inputs and their numbers; the hostile ones come first, the others follow from them."""
    good, hostile = _bases(kind)
    for index in range(start, count):
        number = f"{kind}/{seed}/{index}"
        if index < len(hostile):
            yield number, hostile[index]
        else:
            yield number, damaged(good[index % len(good)], number)


@functools.cache
def _bases(kind: str) -> tuple[Sequence[Mapping[str, bytes]], Sequence[Files]]:
    return KINDS[kind].good(), KINDS[kind].hostile()


def _work(kind: str, seed: int, start: int, count: int, folder: Path, answers: Connection) -> None:
    logging.disable(logging.CRITICAL)
    watch = Watch()
    limit_memory()
    for number, files in inputs(kind, seed, start, count):
        verdict, detail = try_one(KINDS[kind].read, files, folder, watch)
        answers.send((verdict, detail, number, size(files)))


def fuzz(kind: str, seed: int, count: int, folder: Path) -> Tally:
    """Try so many inputs of a kind in a process of its own, started again where one ends it."""
    tally, done = Tally(), 0
    _bases(kind)  # made once, here
    context = multiprocessing.get_context("fork")
    while done < count:
        ours, theirs = context.Pipe(duplex=False)
        words = (kind, seed, done, count, folder / "inside", theirs)
        process = context.Process(target=_work, args=words)
        process.start()
        theirs.close()
        while done < count:
            try:
                answer = ours.recv() if ours.poll(_PATIENCE) else None
            except EOFError:
                answer = None
            if answer is None:
                break
            tally.add(*answer)
            done += 1
        hangs = process.is_alive() and done < count
        process.kill() if hangs else process.join()
        process.join()
        if done < count:
            verdict = "hang" if hangs else "traceback"
            told = f"the process hung in C or died: exit code {process.exitcode}"
            tally.add(verdict, told, f"{kind}/{seed}/{done}", 0)
            done += 1
    return tally


def main() -> int:
    """Fuzz every kind, print a table and each failure's smallest input; 1 if there is a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000, help="inputs in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", help="these alone, separated by commas")
    parser.add_argument("--keep", type=Path, help="write the smallest input of each failure here")
    words = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    kinds = words.kinds.split(",") if words.kinds else list(KINDS)
    shares = sum(KINDS[kind].share for kind in kinds)
    totals: Counter[str] = Counter()
    columns = ("read", "refused", "traceback", "hang", "outside", "code", "memory")
    print(f"{'':20}{''.join(f'{name:>10}' for name in columns)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            start = time.monotonic()
            count = round(words.count * KINDS[kind].share / shares)
            tally = fuzz(kind, words.seed, count, Path(folder))
            totals += tally.counts
            numbers = "".join(f"{tally.counts[name]:10,}" for name in columns)
            print(f"{kind:20}{numbers}   {time.monotonic() - start:.0f} s", flush=True)
            for key, (bytes_, number, detail) in sorted(tally.worst.items()):
                print(
                    f"    {key.partition(' ')[0]}, {bytes_} bytes, {number}: {detail}", flush=True
                )
                if words.keep is not None:
                    _keep(number, words.keep)
    print(f"{'all':20}{''.join(f'{totals[name]:10,}' for name in columns)}")
    return int(any(totals[name] for name in columns if name not in GOOD))


def _keep(number: str, folder: Path) -> None:
    kind, seed, index = number.rsplit("/", 2)
    _, files = next(inputs(kind, int(seed), int(index), int(index) + 1))
    place = folder / number.replace("/", "_").replace(" ", "_")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    write(files, place)


if __name__ == "__main__":
    sys.exit(main())
