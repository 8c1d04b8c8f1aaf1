from __future__ import annotations

from pathlib import Path

import pytest

from gamma_nlp import GammaError
from gamma_nlp.launch.document import Document, read_document

TEXT = """\
# a comment
count: 3
word: 'no'
bare: no
part:
  inner: "2"
  deeper: {last: 1}
nothing: null
listed: [1]
"""


@pytest.fixture
def file(tmp_path: Path) -> Document:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return read_document(path)


def test_values_are_read_with_the_line_of_their_key(file: Document) -> None:
    assert file.whole("count", default=0) == 3
    assert file.whole("part", "inner", default=0, as_text=True) == 2
    assert file.word("word", valid=("no", "yes"), default="yes") == "no"
    assert file.flag("bare", default=True) is False
    assert file.whole("nothing", default=7) == 7 and not file.has("nothing")
    assert file.at("part", "deeper", "last") == f"{file.path}:7"
    assert file.at("part", "missing") == f"{file.path}:5"
    assert file.at("missing") == str(file.path)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda f: f.whole("word", default=1), r":3: word must be a whole number .* got 'no'"),
        (lambda f: f.whole("part", "inner", default=1), r":6: part.inner must be a whole number"),
        (lambda f: f.whole("bare", default=1), r":4: bare must be a whole number .* got False"),
        (lambda f: f.whole("count", default=1, least=4), r":2: count .* at least 4, got 3"),
        (lambda f: f.flag("count"), r":2: count must be true or false, got 3"),
        (lambda f: f.word("bare", valid=("NO",), default=""), r":4: .* write bare: 'NO'"),
        (lambda f: f.word("word", valid=("nor",), default=""), r"one of nor, got 'no'; did you me"),
        (lambda f: f.get("count", "x"), r":2: count must be a section of `key: value` lines, got"),
        (lambda f: f.section("listed"), r":9: listed must be a section"),
    ],
)
def test_wrong_values_are_named_with_file_line_and_what_was_expected(
    file: Document, read: object, message: str
) -> None:
    with pytest.raises(GammaError, match=message) as error:
        read(file)  # type: ignore[operator]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "", "is empty; give a config of accelerate or DeepSpeed"),
        ("a.yaml", "- 1\n- 2\n", r"holds \[1, 2\]; expected `key: value` lines"),
        ("a.yaml", "1: 2\n", "expected `key: value` lines"),
        ("a.yaml", "a: 1\na: 2\n", ":2: .*'a' is there twice"),
        ("a.yaml", "a: !!python/object/apply:os.system [ls]\n", ":1: not valid YAML"),
        ("a.json", "{", "a.json:1: not valid JSON"),
        ("a.json", "null", "is empty"),
        ("a.json", "[]", "expected `key: value` lines"),
    ],
)
def test_files_that_hold_no_settings_are_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(GammaError, match=message):
        read_document(tmp_path / name)


def test_json_has_lines_and_goes_without_where_yaml_does_not_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{\n  "a": {\n    "b": 1\n  }\n}', encoding="utf-8")
    assert read_document(path).at("a", "b") == f"{path}:3"
    path.write_text('{\n\t"a": {\n\t\t"b": 1\n}}', encoding="utf-8")
    assert read_document(path).get("a", "b") == 1
