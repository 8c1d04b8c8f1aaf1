"""Files and folders are written whole or not at all; text is read line by line."""

from __future__ import annotations

import contextlib
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.files import (
    MANIFEST,
    check_target,
    checksums,
    new_file,
    new_folder,
    read_lines,
    read_yaml,
    text_lines,
    write_json,
    write_lines,
)
from gamma_nlp.tasks.run.yaml_file import read_yaml as read_settings


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "table.json"
    write_json(file, {"a": 1, "where": Path("x")})
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(ValueError, match="Circular"):
        write_json(file, endless)
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": 1, "where": "x"}
    assert [one.name for one in file.parent.iterdir()] == ["table.json"]


def test_lines_are_written_and_read_back(tmp_path: Path) -> None:
    write_lines(tmp_path / "new" / "text", iter(["a b", "", "c\u2028d"]))
    assert (tmp_path / "new" / "text").read_bytes() == "a b\n\nc\u2028d\n".encode()
    assert read_lines(tmp_path / "new" / "text") == ["a b", "", "c\u2028d"]


def test_a_new_folder_replaces_the_old_one_at_the_end(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with new_folder(tmp_path / "out") as draft:
            (draft / "text").write_text(content, encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "text").read_text(encoding="utf-8") == "new"


def test_an_error_leaves_the_old_folder_and_no_draft(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as draft:
        (draft / "text").touch()
    with pytest.raises(KeyError), new_folder(tmp_path / "out"):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "text"]


def test_only_a_folder_of_ours_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    check_target(target, None, overwrite=False)
    target.mkdir()
    with pytest.raises(GammaError, match="exists; add --overwrite"):
        check_target(target, None, overwrite=False)
    (target / "precious").touch()
    with pytest.raises(GammaError, match=f"no {MANIFEST}"):
        check_target(target, None, overwrite=True)
    (target / MANIFEST).touch()
    check_target(target, None, overwrite=True)
    with pytest.raises(GammaError, match="holds the input"):
        check_target(target, target / "precious", overwrite=True)


def test_checksums_are_by_path_within_the_folder(tmp_path: Path) -> None:
    write_lines(tmp_path / "deep" / "a", ["x"])
    digest = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"
    assert checksums(tmp_path) == {"deep/a": digest}


def test_only_a_line_feed_ends_a_line() -> None:
    data = "a\u2028b\x85c\x0bd\ne\rf\n\n".encode()
    assert text_lines(data, "x") == ["a\u2028b\x85c\x0bd", "e\rf", ""]


def test_a_last_line_without_an_end_counts() -> None:
    assert text_lines(b"a\nb", "x") == ["a", "b"]


def test_a_packed_file_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfa\r\nb\n"))
    assert read_lines(path) == ["a", "b"]


@pytest.mark.parametrize("keep", [0, 5, -4])
def test_a_damaged_packed_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"some text\n")[:keep] if keep else b"plain text")
    with pytest.raises(GammaError, match=r"cannot read .*text\.gz: "):
        read_lines(path)


def test_a_file_written_bit_by_bit_is_whole_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with new_file(path) as file:
        file.write(b"one\n")
        assert not path.exists()
        file.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    with pytest.raises(KeyError), new_file(path) as file:
        file.write(b"three\n")
        raise KeyError
    assert path.read_bytes() == b"one\ntwo\n"
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("line", [b"a dog\n", b"\n"])
def test_a_packed_file_cannot_fill_memory(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hyp.gz"
    path.write_bytes(gzip.compress(line * (40_000_000 // len(line)), 1))
    tracemalloc.start()
    with pytest.raises(GammaError, match=r"hyp\.gz: its [\d,]+ bytes unpack to more than .*unpack"):
        read_lines(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6


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


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"ab\n", b"a b c\n"])
def test_lines_that_are_hardly_any_are_refused_before_they_are_made(line: bytes) -> None:
    """Each takes 8 to 60 bytes more than it holds: 80 MB of line ends took a gigabyte."""
    with pytest.raises(GammaError, match=r"x\.de: 2,000,001 lines of \d\.0 bytes on average"):
        text_lines(line * 2_000_001, "x.de")
    assert len(text_lines(line * 1_000, "x.de")) == 1_000
