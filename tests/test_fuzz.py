"""Every reader takes damaged and hostile input: it reads it, or refuses it in one line."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest

from gamma_nlp.errors import MOST_CHARACTERS, GammaError
from tests.support.fuzz.__main__ import GOOD, fuzz, main
from tests.support.fuzz.guard import Watch, try_one
from tests.support.fuzz.inputs import damaged
from tests.support.fuzz.kinds import KINDS

QUICK = {
    "policies": 40, "studies": 20, "glue": 40, "parallel text": 8, "gain tables": 20,
    "loose runs": 15, "checkpoints": 15, "model configs": 10, "archives": 10,
    "compressed files": 40, "scores": 10, "answers": 30, "items": 20, "batches": 20, "images": 10,
}  # fmt: skip


@pytest.mark.parametrize("kind", QUICK)
def test_damaged_input_is_read_or_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    tally = fuzz(kind, seed=0, count=QUICK[kind], folder=tmp_path)
    assert tally.worst == {}
    assert sum(tally.counts.values()) == QUICK[kind]
    assert tally.counts["refused"] or kind == "loose runs"  # what is damaged there is a note


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_many_more_inputs(kind: str, seed: int, tmp_path: Path) -> None:
    assert fuzz(kind, seed, round(150 * KINDS[kind].share), tmp_path).worst == {}


def test_an_input_follows_from_its_number() -> None:
    files = {"a.json": b'{"a": [1, 2], "b": "c"}', "b": b"text"}
    assert damaged(files, "x/1/7") == damaged(files, "x/1/7")
    assert len({str(damaged(files, f"x/1/{n}")) for n in range(50)}) > 20


def try_all(folder: Path, results: multiprocessing.Queue[dict[str, str]]) -> None:
    """Read in all the ways that are forbidden; in a process of its own, which is watched."""
    outside = folder / "outside"

    def run(place: Path) -> None:
        import os

        os.system("true")

    def fill(place: Path) -> None:
        bytearray(700 * 2**20)

    def refuse(place: Path) -> None:
        raise GammaError("this is not a file of that kind")

    def fail(place: Path) -> None:
        raise KeyError("x")

    ways = {
        "read": lambda place: (place / "mine").write_text("x"),
        "refused": refuse,
        "traceback": fail,
        "outside": lambda place: outside.write_text("x"),
        "code": run,
        "memory": fill,
    }
    watch = Watch()
    results.put(
        {name: try_one(way, {"a": b"x"}, folder / "in", watch)[0] for name, way in ways.items()}
    )


def test_each_forbidden_thing_is_seen(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=try_all, args=(tmp_path, results))
    process.start()
    found = results.get(timeout=60)
    process.join()
    assert found == {name: name for name in found} and len(found) == 6


def test_the_program_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--count", "20", "--kinds", "answers", "--keep", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["fuzz", *words])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["read", "answers", "all"]
    assert set(GOOD) <= set(lines[0].split())


def test_a_message_stays_short_and_keeps_its_end() -> None:
    text = str(GammaError(f"a: {'x' * 10_000} is no number; write 1"))
    assert len(text) < MOST_CHARACTERS + 20
    assert text.startswith("a: xxx") and text.endswith("is no number; write 1")
