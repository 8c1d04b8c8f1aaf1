"""Files and folders that are written whole or not at all, and text that is read line by line.

In this order: text, JSON and lines into one file; a whole output folder, which replaces an older
one at the end; bytes, packed bytes, UTF-8 text and lines, JSON and YAML out of a file. What is
packed, or repeats itself by aliases, is counted while it is read: a small file cannot fill memory.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gamma_nlp.errors import GammaError, need, one_line, shown

MANIFEST = "manifest.json"
"""The file that marks an output folder as written by this package."""

MOST_RATIO = 10
"""How many times its own size a packed file may grow to, beyond :data:`SPARE`."""

SPARE = 32 * 2**20
"""Bytes that every packed file may grow to: small texts repeat themselves."""

_MOST_SHORT_LINES = 2_000_000
"""Lines of a text whose lines are hardly any: each takes some 60 bytes, whatever it holds."""

_SHORT = 16
"""Bytes of such a line, on average; a sentence has more."""

_MOST_YAML = 64 * 2**10
"""Bytes of a file of settings; YAML takes seconds and 100 MB for so many."""

_MOST_REPEATED = 10_000
"""Values that the aliases of a YAML file may add."""

_BOM = b"\xef\xbb\xbf"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MISREAD = re.compile(r"[-+]?0[0-9_]+|.*:.*")
"""Numbers that YAML takes for others than they read: 010 for 8, 1:30 for 90."""

_PACKED = {
    b"\x1f\x8b": "packed with gzip",
    b"PK\x03\x04": "a zip file",
    b"\xfd7zXZ": "packed with xz",
    b"BZh": "packed with bzip2",
    b"%PDF": "a PDF",
}


def write_text(path: Path, content: str) -> None:
    """Write a text file, UTF-8 with the line ends of ``content``; see :func:`write_bytes`."""
    write_bytes(path, content.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; an error leaves the old one as it was, no draft, and names the file."""
    # The process id keeps several processes from writing into one another's draft.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError as error:
        error.filename = os.fspath(path)  # a full device names none
        raise
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file and make its folder; what JSON does not know is written as text."""
    text = json.dumps(content, indent=2, default=str) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text, UTF-8 with LF, and make the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{line}\n" for line in lines))


def check_file(path: Path, marks: Iterable[bytes], writer: str) -> None:
    """Refuse a file that is there and not ours, before any work is done.

    Args:
        path: The file to be written.
        marks: What files of ours have near their start: one of these.
        writer: The command that writes them.

    Raises:
        GammaError: It has none of the marks.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        start = file.read(4096)
    if not any(mark in start for mark in marks):
        raise GammaError(
            f"{path} is there and was not written by {writer}, so it is not replaced; "
            "give another name with -o"
        )


def check_target(target: Path, source: Path | None, *, overwrite: bool) -> None:
    """Refuse an output folder that must not be written, before any work is done.

    Only a folder that holds a manifest, so one of ours, may be replaced.

    Raises:
        GammaError: It exists and ``overwrite`` is off, is not ours, or holds the source.
    """
    if source is not None and target.resolve() in (source.resolve(), *source.resolve().parents):
        raise GammaError(f"output {target} holds the input {source}; give another output folder")
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise GammaError(f"output {target} is not a folder; give another name")
    if not overwrite:
        raise GammaError(f"output {target} exists; add --overwrite to replace it, or give another")
    if any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise GammaError(
            f"output {target} has no {MANIFEST}, so it was not written by this command and is "
            "not replaced; give another output folder"
        )


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a draft to write into bit by bit; at the end it takes the place of ``path``.

    An error inside leaves ``path`` as it was and no draft behind.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            yield file
        os.replace(draft, path)
    except OSError as error:
        if error.filename in (None, os.fspath(draft)):  # a full device names none
            error.filename = os.fspath(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a draft folder next to ``target``; at the end it takes the place of ``target``.

    An error inside leaves ``target`` as it was and no draft behind.

    Raises:
        GammaError: The folder cannot be written.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        draft.mkdir(parents=True)
        yield draft
        if target.exists():
            target.rename(old)
        draft.rename(target)
    except OSError as error:
        raise GammaError(f"cannot write {target}: {one_line(error)}") from error
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        for path in (draft, old):
            shutil.rmtree(path, ignore_errors=True)


def checksums(folder: Path) -> Mapping[str, str]:
    """Return the SHA-256 of every file in a folder, by its path from there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        GammaError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise GammaError(f"cannot read {path}: {one_line(error)}") from error


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, unpacked first if its name ends in ``.gz``.

    Raises:
        GammaError: It cannot be read or unpacked, or a byte is not UTF-8.
    """
    data = read_bytes(path)
    if path.suffix == ".gz":
        try:
            with gzip.open(io.BytesIO(data)) as packed:
                data = unpacked(packed, len(data), path)
        except (OSError, EOFError, zlib.error) as error:
            raise GammaError(f"cannot read {path}: {one_line(error)}") from error
    return text_lines(data, path)


def most_unpacked(size: int) -> int:
    """Return how many bytes a packed file of ``size`` bytes may grow to."""
    return SPARE + MOST_RATIO * size


def too_large(name: str | os.PathLike[str], size: int, most: int) -> GammaError:
    """Return the error for a packed file that grows beyond its limit."""
    return GammaError(
        f"{name}: its {size:,} bytes unpack to more than {most:,}, which no real data does; if it "
        "is what you mean, unpack it and give the unpacked file"
    )


def unpacked(stream: Any, size: int, name: str | os.PathLike[str]) -> bytes:
    """Return what a stream unpacks, counted while it is read.

    Args:
        stream: An open file of ``gzip`` or the like.
        size: Bytes of the packed file.
        name: What to call the file in an error.

    Raises:
        GammaError: It is larger than data of this size can be.
    """
    most = most_unpacked(size)
    data: bytes = stream.read(most + 1)
    if len(data) > most:
        raise too_large(name, size, most)
    return data


def text_lines(data: bytes, name: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a file's content, without their ends.

    Args:
        data: The content.
        name: What to call the file in an error.

    Raises:
        GammaError: A byte is not UTF-8; the message names the file, the line and the byte. Or it
            is almost nothing but line ends.
    """
    if len(data) > _MOST_SHORT_LINES:
        count = data.count(b"\n")
        if count > _MOST_SHORT_LINES and len(data) < _SHORT * count:
            raise GammaError(
                f"{name}: {count:,} lines of {len(data) / count:.1f} bytes on average are no "
                f"sentences; expected at least {_SHORT} bytes where there are more than "
                f"{_MOST_SHORT_LINES:,} lines: is it the right file? If so, split it"
            )
    # Not str.splitlines: sentences may hold other characters that it takes for line ends.
    text = _decoded(data, name)
    returns = "\r" in text
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines] if returns else lines


def _decoded(data: bytes, name: str | os.PathLike[str]) -> str:
    try:
        text = data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + (len(_BOM) if data.startswith(_BOM) else 0)
        line = data.count(b"\n", 0, at) + 1  # f-strings before 3.12 take no backslash
        raise GammaError(
            f"{name}:{line}: byte 0x{data[at]:02x} at offset {at} is not UTF-8; {_instead(data)}"
        ) from error
    if 4 * data.count(0) > len(data):  # plain letters in UTF-16 are UTF-8 as well, with zeros
        raise GammaError(
            f"{name}: every second byte or so is 0, so this is no UTF-8 text; {_instead(data)}"
        )
    return text


def _instead(data: bytes) -> str:
    """Return what to do with a file that is not UTF-8, by how it starts."""
    for start, what in _PACKED.items():
        if data.startswith(start):
            return f"it is {what}: unpack it, or give the text that it was made from"
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff")) or 4 * data.count(0) > len(data)
    code = "utf-16" if wide else "latin1"
    return f"convert the file, for example with iconv -f {code} -t utf-8"


def read_text(path: Path) -> str:
    """Return a file's text, UTF-8.

    Raises:
        GammaError: It cannot be read, or a byte is not UTF-8.
    """
    return _decoded(read_bytes(path), path)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        GammaError: It cannot be read, is no JSON, or gives a key twice in one object.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise GammaError(f"{path}: the key {shown(twice)} is there twice; leave one out")
        return found

    try:
        return json.loads(read_text(path), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise GammaError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise GammaError(f"{path}: not valid JSON: nested too deeply") from None
    except GammaError:
        raise
    except ValueError as error:  # a number with thousands of digits
        raise GammaError(f"{path}: not valid JSON: {one_line(error)}") from None


def read_yaml(path: Path, purpose: str = "reading YAML files needs") -> Any:
    """Return what a YAML file holds.

    Args:
        path: The file.
        purpose: Who needs the package that reads it, for the error if it is missing.

    Raises:
        GammaError: It cannot be read, is no YAML of plain values, or gives a key twice in one
            mapping; or PyYAML is missing.
    """
    yaml = need("yaml", "recipes", purpose)
    loader: Any = yaml_loader(yaml)

    class Loader(loader):
        """Refuses a key that is there twice, and places values that do not fit their tag."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key, _ in node.value:
                if key.value == "<<" or not isinstance(key, yaml.ScalarNode):
                    continue
                if (key.tag, key.value) in seen:
                    twice = f"the key {shown(key.value)} is there twice"
                    raise yaml.constructor.ConstructorError(None, None, twice, key.start_mark)
                seen.add((key.tag, key.value))
            return node

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            if node.tag in _NUMBERS and _MISREAD.fullmatch(node.value):
                problem = f"{node.value} is a number to base 8 or 60 in YAML; write it plainly"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            try:
                return super().construct_object(node, deep=deep)
            except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
                problem = f"{shown(node.value)} is no {node.tag.rpartition(':')[2]}"
                raise yaml.constructor.ConstructorError(
                    None, None, problem, node.start_mark
                ) from error

    text = read_text(path)
    check_yaml_size(text, path)
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = one_line(getattr(error, "problem", None) or error)
        raise GammaError(f"{path}{line}: not valid YAML: {problem}") from None
    except RecursionError:
        raise GammaError(f"{path}: not valid YAML: nested too deeply") from None


def check_yaml_size(text: str, name: str | os.PathLike[str]) -> None:
    """Refuse what is no file of settings before it is parsed.

    Raises:
        GammaError: It is too long.
    """
    if len(text) > _MOST_YAML:
        raise GammaError(
            f"{name}: {len(text):,} characters, and a file of settings has at most "
            f"{_MOST_YAML:,}; is it the right file?"
        )


def yaml_loader(yaml: Any) -> Any:
    """Return a safe loader whose aliases cannot make a small file large.

    An alias costs nothing until someone copies, merges or prints what it stands for: nine lines of
    nine aliases each are a billion values.

    Args:
        yaml: PyYAML.
    """

    safe: Any = yaml.SafeLoader

    class Loader(safe):
        def get_single_node(self) -> Any:
            node = super().get_single_node()
            problem = _repeated(node)
            if problem:
                mark = node.start_mark
                raise yaml.constructor.ConstructorError(None, None, problem, mark)
            return node

    return Loader


def _repeated(top: Any) -> str | None:
    """Return what is wrong with the aliases below a node of YAML, if something is."""
    sizes: dict[int, int] = {}  # with aliases written out; 1 while open: it may hold itself
    stack = [] if top is None else [(top, iter(_below(top)))]
    while stack:
        node, rest = stack[-1]
        sizes.setdefault(id(node), 1)
        for child in rest:
            if id(child) not in sizes:
                stack.append((child, iter(_below(child))))
                break
        else:
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in _below(node))
            stack.pop()
    if top is not None and sizes[id(top)] > len(sizes) + _MOST_REPEATED:
        return f"its aliases stand for {sizes[id(top)]:,} values; write them out, or use fewer"
    return None


def _below(node: Any) -> list[Any]:
    if isinstance(node.value, str):
        return []
    return [one for pair in node.value for one in (pair if isinstance(pair, tuple) else (pair,))]
