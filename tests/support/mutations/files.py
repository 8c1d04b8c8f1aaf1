"""Mutations of a file on disk, which test files have to notice: in a copy of the source tree."""

from __future__ import annotations

import compileall
import json
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

from . import Mutation

OUTPUT = "output.txt"


class Edits(NamedTuple):
    """Mutations of one file below ``gamma_nlp``, and the test files that must notice each."""

    file: str
    tests: tuple[str, ...]
    mutations: tuple[Mutation, ...]


class Done(NamedTuple):
    """How a run of tests ended: pytest's exit code, and the end of what it printed."""

    code: int
    output: str


Run = Callable[[tuple[str, ...]], Done]


def copy_tree(folder: Path) -> Path:
    """Copy package, recipes and tests, to be changed there."""
    for name in ("gamma_nlp", "recipes", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    # Bytecode that goes by times would hide a change within a second.
    by_hash = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder, quiet=1, invalidation_mode=by_hash)
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


@contextmanager
def runner(tree: Path) -> Iterator[Run]:
    """Run test files of ``tree`` on its own package, up to the first failure."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    forks = subprocess.Popen(
        [sys.executable, "-m", "tests.support.mutations.forks"],
        cwd=tree,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert forks.stdin is not None and forks.stdout is not None
    options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-m", "not slow"]
    to, answers = forks.stdin, forks.stdout

    def run(tests: tuple[str, ...]) -> Done:
        to.write(json.dumps([[*options, *tests], str(tree / OUTPUT)]) + "\n")
        to.flush()
        code = int(answers.readline())
        return Done(code, (tree / OUTPUT).read_text(encoding="utf-8")[-2000:])

    with forks:
        yield run
        to.close()
