"""One process at a time: a lock on a file, which the system gives back however the holder ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What file systems without locks say."""


def take(path: Path) -> int | None:
    """Lock a file and return its descriptor; ``None`` while another process holds it.

    Where there are no locks (some network file systems, Windows) it counts as locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(held, path):
                return held
            os.close(held)  # its last holder removed it in between
        except BlockingIOError:
            os.close(held)
            return None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return held
            os.close(held)
            raise


def sign(held: int, process: int) -> None:
    """Write into a locked file which process holds it, and since when by the file's time."""
    with contextlib.suppress(OSError):  # a full device; what has to be written next names its file
        os.ftruncate(held, 0)
        os.pwrite(held, f"{process}\n".encode(), 0)


def holder(path: Path) -> str:
    """Return who holds a lock, for a message."""
    try:
        return f"process {int(path.read_text())}"
    except (OSError, ValueError):
        return "another process"


@contextlib.contextmanager
def held_alone(path: Path) -> Iterator[bool]:
    """Hold a lock within the block and remove its file after it.

    Yields:
        Whether the lock was got; if not, another process has it.
    """
    held = take(path)
    if held is None:
        yield False
        return
    try:
        sign(held, os.getpid())
        yield True
    finally:
        path.unlink(missing_ok=True)  # before the lock goes: else it might be the next one's
        os.close(held)


def _is_there(held: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held), path.stat())
    except FileNotFoundError:
        return False
