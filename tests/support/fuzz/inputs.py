"""Inputs: the files of a folder, whole, and damaged copies of them that follow from a number."""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import json
import lzma
import random
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from tests.support.mutants import of_bytes, of_values, place_within


@dataclass(frozen=True)
class Link:
    """A symbolic link in place of a file."""

    to: str


FOLDER = None
"""A folder in place of a file."""

Files = Mapping[str, bytes | Link | None]
"""What a folder holds, by path."""


def write(files: Files, folder: Path) -> None:
    """Write an input into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content.to)
        elif content is FOLDER:
            path.mkdir()
        else:
            path.write_bytes(content)


def read(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by their paths from there."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def size(files: Files) -> int:
    """Return the bytes of an input."""
    return sum(len(one) for one in files.values() if isinstance(one, bytes))


def damaged(files: Mapping[str, bytes], number: str) -> dict[str, bytes | Link | None]:
    """Return a copy with one to two files damaged; the same for the same number."""
    draw = random.Random(number)
    new: dict[str, bytes | Link | None] = dict(files)
    for name in draw.sample(sorted(files), min(len(files), 1 + (draw.random() < 0.2))):
        kind = draw.random()
        if kind < 0.01:
            new[name] = FOLDER
        elif kind < 0.03:
            new[name] = Link(draw.choice((Path(name).name, "nowhere", "..", "/dev/null", "/")))
        elif kind < 0.05 and len(files) > 1:
            del new[name]
        else:
            new[name] = _content(name, files[name], draw)
    return new


def _content(name: str, data: bytes, draw: random.Random) -> bytes:
    suffix = name.rpartition(".")[2]
    change = _BY_SUFFIX.get(suffix)
    if change is not None and draw.random() < 0.7:
        return change(data, draw)
    return _bytes(data, draw)


def _bytes(data: bytes, draw: random.Random) -> bytes:
    return next(of_bytes(data, draw.randrange(2**32)))


def _values(content: Any, draw: random.Random) -> Any:
    if not isinstance(content, dict):
        return content
    changed = next(of_values(content, draw.randrange(2**32)))
    if draw.random() < 0.3:
        place, key = place_within(changed, draw)
        if key is not None:  # a huge, deep or long value somewhere
            place[key] = copy.deepcopy(draw.choice(_huge()))
    return changed


def _huge() -> list[Any]:
    deep: Any = 0
    for _ in range(300):
        deep = [deep]
    numbers = [10**k for k in (3, 4, 5, 6, 8, 9, 12, 18)] + [2**31, 2**63, -(2**63), 1e308, -1e9]
    return [*numbers, deep, [0] * 10_000, {str(i): i for i in range(2_000)}, "9" * 400, "../../x",
            "/etc/passwd", "~root/x", "%s%n{0}", "\r\n\x1b[31m",
            "a\u0301\u202e\U0001f600"]  # fmt: skip


def _json(data: bytes, draw: random.Random) -> bytes:
    text = json.dumps(_values(json.loads(data), draw))
    if draw.random() < 0.1:
        text = text.replace("{", '{"a": 1, "a": 2, ' if draw.random() < 0.5 else '{"seed": 0, ', 1)
    return text.encode("utf-8", "surrogatepass")


def _yaml(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.15:
        return draw.choice(HOSTILE_YAML).encode() + (data if draw.random() < 0.5 else b"")
    content = _values(yaml.safe_load(data), draw)
    try:
        return yaml.safe_dump(content, sort_keys=False).encode()
    except (yaml.YAMLError, UnicodeEncodeError, ValueError):
        return json.dumps(content).encode()


def _gz(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.02:
        return gzip.compress(draw.choice((b"\n", b"a", b"a b\n")) * 60_000_000, 1)
    return gzip.compress(_bytes(gzip.decompress(data), draw), 1)


def _safetensors(data: bytes, draw: random.Random) -> bytes:
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    meta = header.get("__metadata__", {})
    if "tensors" in meta and draw.random() < 0.7:
        index = _values({"tensors": json.loads(meta["tensors"])}, draw).get("tensors")
        header["__metadata__"] = {**meta, "tensors": json.dumps(index)}
    else:
        header = _values(header, draw)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _tar(data: bytes, draw: random.Random) -> bytes:
    """Pack a tar archive again: odd members between the good ones, and in another packing."""
    kinds = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
             tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE)  # fmt: skip
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as old,
        tarfile.open(
            fileobj=out, mode="w", format=draw.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        ) as new,
    ):
        for member in old:
            content = old.extractfile(member).read()  # type: ignore[union-attr]
            if draw.random() < 0.1:
                member.type = draw.choice(kinds)
                member.linkname = draw.choice((member.name, "nowhere", "/etc/passwd", "../../x"))
            if draw.random() < 0.05:
                member.name = draw.choice(("../", "/", "x/")) + member.name
            if draw.random() < 0.1:
                content = _bytes(content, draw)
            if draw.random() < 0.01:
                content = b"\n" * 30_000_000
            member.size = len(content) if member.isreg() else 0
            new.addfile(member, io.BytesIO(content))
    plain = out.getvalue()
    if draw.random() < 0.2:  # a header that says any size
        at = 512 * draw.randrange(max(1, len(plain) // 512))
        plain = plain[: at + 124] + b"77777777777\0" + plain[at + 136 :]
    pack: tuple[Callable[[bytes], bytes], ...] = (
        lambda d: gzip.compress(d, 1), lambda d: bz2.compress(d, 1),
        lambda d: lzma.compress(d, preset=0), lambda d: d,
    )  # fmt: skip
    packed = draw.choice(pack)(plain)
    return _bytes(packed, draw) if draw.random() < 0.3 else packed


def _lines(data: bytes, draw: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    if draw.random() < 0.7:
        try:
            lines[at] = _json(lines[at], draw)
        except ValueError:
            lines[at] = b"{}"
    else:
        lines.insert(at, draw.choice(lines))
    return b"\n".join(lines)


_BY_SUFFIX: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "json": _json, "yaml": _yaml, "yml": _yaml, "gz": _gz, "tgz": _tar, "jsonl": _lines,
    "safetensors": _safetensors,
}  # fmt: skip

_NINES = "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 9)}]" for i in range(10)
)
_MERGES = "\n".join(
    [f"m0: &m0 {{{', '.join(f'k{i}: 0' for i in range(40))}}}"]
    + [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}], z: 1}}" for i in range(1, 9)]
)
HOSTILE_YAML = (
    f"{_NINES}\n", f"{_MERGES}\n", "a: &a {b: *a}\n", "a: &a [*a, *a]\n",
    "a: !!python/object/apply:os.system ['touch ran']\n",
    "!!python/object/new:os.system ['touch ran']\n", "a: !!python/name:os.system\n",
    "a: !!python/object/apply:subprocess.Popen [['touch', 'ran']]\n",
    "a: !!set {b, c}\n", "a: !!omap [b: 1, b: 2]\n", "? [a, b]\n: c\n", "a: !!binary aGk=\n",
    "<<: 3\n", "<<: [1, 2]\n", "a: 2024-01-01\n", "a: !!float .nan\n", "--- a\n--- b\n",
    "a: 1e400\n",
    "[" * 2_000 + "\n", "a: " * 800 + "\n", "- " * 3_000 + "\n", "? " * 3_000 + "\n", "*a\n",
    "a: |\n" + " x\n" * 15_000, "a: [" + "1, " * 30_000 + "]\n", "\ufeffa: 1\n", "a: \x07\n",
)  # fmt: skip


def several(files: Mapping[str, bytes], seed: int, count: int) -> list[Files]:
    """Return some damaged copies, for tests."""
    return [damaged(files, f"{seed}/{index}") for index in islice(range(10**9), count)]
