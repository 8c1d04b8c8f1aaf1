"""Settings from YAML: what is wrong is one line with the option or the file, and its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.yaml_file import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: 1\nb: 2\na: 3",
            "f:3: not valid YAML: the key 'a' is there twice, first in line 1; lea",
        ),
        ("a: {b: 1,\n  b: 2}", "f:2: not valid YAML: the key 'b' is there twice, first in line 1"),
        ("a: {b: 1, 'b': 2}", "f: not valid YAML: the key 'b' is there twice; leave one out"),
        ("x: 1\na: !!int five", "f:2: not valid YAML: 'five' is no int"),
        ("a: !!int [1]", "f: not valid YAML: expected a scalar node"),
        (
            "x: 1\nseed: 010",
            "f:2: not valid YAML: 010 is a number to base 8 or 60 in YAML; write it",
        ),
        (
            "time: 12:30",
            "f: not valid YAML: 12:30 is a number to base 8 or 60 in YAML; write it plainly",
        ),
        ("a: 2020-13-45", "f: not valid YAML: '2020-13-45' is no timestamp"),
        ("a: !!timestamp x", "f: not valid YAML: 'x' is no timestamp"),
        ("[" * 1500, "f: not valid YAML: nested too deeply"),
        ("? [a]\n: 1", "f:1: not valid YAML: found unhashable key"),
        ("a: &a {b: *a}", "f: cannot use these values: Circular"),
        ("a: *b", "f: not valid YAML: found undefined alias"),
        ("a: !!python/object:os.x 1", "could not determine a constructor"),
        ("\0", "f: not valid YAML: "),
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
    with pytest.raises(GammaError, match=r"x\.yaml:1: byte 0xff .* iconv -f utf-16 -t utf-8"):
        read_yaml(tmp_path / "x.yaml")
    with pytest.raises(GammaError, match=r"cannot read .*: embedded null byte"):
        read_yaml(tmp_path / "x\0.yaml")
