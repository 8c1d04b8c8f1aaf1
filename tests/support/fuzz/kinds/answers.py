"""Answers of a sweep over model types."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.fuzz.kind import Kind


def _answers(folder: Path) -> None:
    from gamma_nlp.check.sweep.answers import _read

    _read(folder / "answers.jsonl", {"check": "f"})


def _answer_files() -> tuple[dict[str, bytes], ...]:
    rows = [{"check": "f"}] + [{"call": ["bert", k], "answer": {"value": {"a": 1}}} for k in "ab"]
    return ({"answers.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rows)},)


ANSWERS = Kind(good=_answer_files, read=_answers, share=3)
