"""Mutations of a file on disk, which test files have to notice: in a copy of the source tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

from . import Mutation


class Edits(NamedTuple):
    """Mutations of one file below ``gamma_nlp``, and the test files that must notice each."""

    file: str
    tests: tuple[str, ...]
    mutations: tuple[Mutation, ...]


def copy_tree(folder: Path) -> Path:
    """Copy package, recipes and tests, to be changed there."""
    for name in ("gamma_nlp", "recipes", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@contextmanager
def edited(tree: Path, edits: Edits, mutation: Mutation) -> Iterator[None]:
    """Change the file in ``tree`` inside the block."""
    path = tree / "gamma_nlp" / edits.file
    source = path.read_text(encoding="utf-8")
    count = source.count(mutation.old)
    assert count == 1, f"{mutation.name}: occurs {count} times in {edits.file}"
    assert mutation.old != mutation.new
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(source, encoding="utf-8")


def run_tests(tree: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run test files of ``tree`` on its own package, up to the first failure."""
    # No bytecode: a change within a second could otherwise go unseen.
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
