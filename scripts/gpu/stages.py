"""The stages, most important first, and how the time is shared among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import ratios
from parts import Part, Stage

TESTS = Path(__file__).resolve().parents[2] / "tests"
_MARK = re.compile(r"^\s*(@|pytestmark = \[?)?pytest\.mark\.cuda\b", re.MULTILINE)
_SLOW = ("compile", "trainer", "graphs")
"""Words in the names of test files that come last: they may take a minute."""


def test_files() -> list[Path]:
    """Return the files with tests marked ``cuda``, those that take long at the end."""
    files = (path for path in TESTS.rglob("test_*.py") if _MARK.search(path.read_text("utf-8")))
    return sorted(files, key=lambda path: (any(word in path.stem for word in _SLOW), path))


def stages() -> tuple[Stage, ...]:
    """Return all stages."""
    checks = tuple(
        Part(name=path.relative_to(TESTS).as_posix(), module="correctness", words=(str(path),))
        for path in test_files()
    )
    sides = (
        ("ours, graphs", ("ours", "graphs")),
        ("ours, eager", ("ours", "eager")),
        ("Seq2SeqTrainer", ("stock",)),
        ("fairseq", ("fairseq",)),
        ("ours, eager, any shapes", ("ours", "any")),
    )
    trained = tuple(
        Part(name=name, module="translating", words=("4096", *words)) for name, words in sides
    )
    large = tuple(
        Part(name=f"{name}, 32,000 tokens", module="translating", words=("32000", *words))
        for name, words in sides[:2]
    )
    classified = tuple(
        Part(name=name, module="classifying", words=(word,))
        for name, word in (
            ("ours, graphs", "graphs"),
            ("ours, eager", "eager"),
            ("Trainer, padding to 128", "stock"),
        )
    )
    return (
        Stage(
            name="correctness",
            about="the tests marked `cuda`",
            seconds=140,
            parts=checks,
            tests=True,
        ),
        Stage(
            name="optimizer",
            about="our step against that of the stock two groups",
            seconds=45,
            parts=(Part(name="step", module="stepping"),),
        ),
        Stage(
            name="translation",
            about="training speed once it is steady, 4,096 tokens a step",
            seconds=150,
            parts=trained,
            compare=ratios.translation,
        ),
        Stage(
            name="sst2",
            about="training speed, BERT-base, batches of 32",
            seconds=50,
            parts=classified,
            compare=ratios.sst2,
        ),
        Stage(
            name="rate",
            about="share of the matrix rate and memory at 32,000 tokens a step; decoding",
            seconds=60,
            parts=(*large, Part(name="decoding", module="decoding")),
        ),
        Stage(
            name="study",
            about="a short study, as a user starts it",
            seconds=40,
            parts=(Part(name="study", module="studying"),),
        ),
    )


def share(left: float, stage: Stage, later: Sequence[Stage]) -> float:
    """Return the seconds of a stage that is about to start, if ``left`` are left for all."""
    return left * stage.seconds / (stage.seconds + sum(one.seconds for one in later))


def limit(left: float, parts: int) -> float:
    """Return the seconds that the next of a stage's parts may take: twice its even share.

    Most parts end early, and one that hangs must not cost the others all.

    Args:
        left: Seconds until the stage must have ended.
        parts: How many are to run, with the next one.
    """
    return left / (1 + (parts - 1) / 2)
