"""Settings from YAML: what is wrong is one line with the file and, where it can be, the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.yaml_file import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f:3: 'a' is set in line 1 already; leave one of the two out"),
        ("a: {b: 1,\n  b: 2}", "f:2: 'b' is set in line 1 already"),
        ("x: 1\na: !!int five", "f is not YAML: line 2: invalid literal"),
        ("a: 2020-13-45", "f is not YAML: line 1: month must be"),
        ("a: !!timestamp x", "f is not YAML: line 1"),
        ("[" * 1500, "f is not YAML: too many brackets"),
        ("? [a]\n: 1", "f is not YAML: line 1: found unhashable key"),
        ("a: &a {b: *a}", "f: cannot use these values: Circular"),
        ("a: *b", "f is not YAML: line 1: found undefined alias"),
        ("a: !!python/object:os.x 1", "could not determine a constructor"),
        ("\0", "f is not YAML: "),
        ("1: 2", "f: expected `key: value` lines"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(text: str, message: str) -> None:
    with pytest.raises(GammaError) as caught:
        parse_yaml(text, "f")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_may_be_merged_and_then_set_again() -> None:
    found = parse_yaml("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3", "f")
    assert found["d"] == {"b": 3, "c": 2}
    assert parse_yaml("", "f") == {}


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes("seed: 1".encode("utf-16"))
    with pytest.raises(GammaError, match=r"x\.yaml is not YAML"):
        read_yaml(tmp_path / "x.yaml")
