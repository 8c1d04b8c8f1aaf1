"""YAML files are small, hold plain values, and may repeat a few by name."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.files.yaml_file import read_yaml
from gamma_nlp.tasks.run.yaml_file import read_yaml as read_settings

NINES = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 9)}]" for i in range(9))
MERGES = "\n".join(
    ["m0: &m0 {a: 0, b: 0, c: 0}"]
    + [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}], z: 1}}" for i in range(1, 9)]
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (NINES, "its aliases stand for [0-9,]+ values"),
        (MERGES, "its aliases stand for [0-9,]+ values"),
        ("a: [" + "1, " * 40_000 + "]", "120,005 characters, and a file of settings has at most"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ],
)
@pytest.mark.parametrize("read", [read_yaml, read_settings])
def test_yaml_that_would_fill_memory_or_run_code_is_refused(
    read: Any, text: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(GammaError, match=rf"x\.yaml.*{told}"):
        read(path)


@pytest.mark.parametrize("read", [read_yaml, read_settings])
def test_yaml_with_a_few_aliases_is_read(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("base: &base {lr: 1, seeds: [1, 2]}\none: {<<: *base, lr: 2}\ntwo: *base\n")
    base = {"lr": 1, "seeds": [1, 2]}
    assert read(path) == {"base": base, "one": base | {"lr": 2}, "two": base}


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: {c: *a}}", "a: &a {<<: *a, b: 1}"])
def test_yaml_that_holds_itself_ends(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert list(read_yaml(path)) == ["a"]
    with contextlib.suppress(GammaError):  # a run writes its settings down, which it cannot do here
        assert read_settings(path) == {"a": {"b": 1}}
