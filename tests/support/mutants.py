"""Damaged copies of a good input, the same for the same seed: what disks, editors and users do."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**30, -(10**400), float("nan"), float("inf"), "", "a", "\x00",
    "\ud800", "\u2581x", "x" * 5_000, "nan", "1e400", [], [[]], {}, {"": None}, [None], {"a": [1]},
)  # fmt: skip
ODD_TEXT = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b" ", b'"', b"'", b"{", b"}", b"[",
    b"]", b":", b",", b"&a ", b"*a ", b"<<: *a\n", b"? ", b"- ", b"---\n", b"!!bool ", b"!!int ",
    b"!!timestamp 2024-13-45", b"!!python/object:os.system ", b"!!binary =", b"%YAML 9.9\n", b"|\n",
    b"9" * 5_000, b"[" * 3_000, b"{a: " * 500, b"a: &a [*a]\n", b"0x" + b"f" * 2_000, b"1e400",
    "\u2028".encode(), "\u2581".encode(), b"@@ ", b"H-1\t", b"T-1\t",
)  # fmt: skip


def of_bytes(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield copies without end, each with one to three places damaged; some in another encoding."""
    draw = random.Random(seed)
    changes: tuple[Callable[[bytes], bytes], ...] = (
        lambda d: d[: _at(draw, d)],
        lambda d: d[_at(draw, d) :],
        lambda d: _replaced(draw, d, bytes([draw.randrange(256)])),
        lambda d: _replaced(draw, d, draw.choice(ODD_TEXT)),
        lambda d: _inserted(draw, d, draw.choice(ODD_TEXT)),
        lambda d: _inserted(draw, d, _piece(draw, d)),
        lambda d: d.replace(_piece(draw, d), b""),
        lambda d: d.decode("utf-8", "replace").encode(
            draw.choice(("utf-16", "utf-16-le", "utf-32"))
        ),
    )
    while True:
        changed = data
        for _ in range(draw.randint(1, 3)):
            changed = draw.choice(changes)(changed)
        yield changed


def of_values(content: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """Yield copies without end in which one or two values are odd, elsewhere or gone."""
    draw = random.Random(seed)
    while True:
        changed = copy.deepcopy(content)
        for _ in range(draw.randint(1, 2)):
            place, key = place_within(changed, draw)
            if key is None:
                continue
            kind = draw.random()
            if kind < 0.1:
                del place[key]
            elif kind < 0.3 and isinstance(place, dict):
                place[draw.choice(("a", "", "\u00fc", "model_type "))] = place.pop(key)
            elif kind < 0.4:
                place[key] = copy.deepcopy(draw.choice(list(content.values())))
            else:
                place[key] = copy.deepcopy(draw.choice(ODD_VALUES))
        yield changed


def place_within(content: Any, draw: random.Random) -> tuple[Any, Any]:
    """Return a mapping or list within, at any depth, and a key of it; None if nothing is there."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    if not keys:
        return content, None
    key = draw.choice(keys)
    if isinstance(content[key], (dict, list)) and content[key] and draw.random() < 0.7:
        return place_within(content[key], draw)
    return content, key


def _at(draw: random.Random, data: bytes) -> int:
    return draw.randrange(len(data) + 1)


def _piece(draw: random.Random, data: bytes) -> bytes:
    start = _at(draw, data)
    return data[start : start + draw.randint(1, 40)] or b"?"


def _inserted(draw: random.Random, data: bytes, new: bytes) -> bytes:
    at = _at(draw, data)
    return data[:at] + new + data[at:]


def _replaced(draw: random.Random, data: bytes, new: bytes) -> bytes:
    at = _at(draw, data)
    return data[:at] + new + data[at + max(1, draw.randrange(len(new) + 1)) :]
