"""The one exception of this library, and the helpers that its messages are built with."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import importlib.util
import os
import re
import reprlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a device says that takes no more."""


MOST_CHARACTERS = 2_000
"""Of a message; a value of the user's in it may have any length."""


_CONTROL = re.compile(r" *[\x00-\x1f\x7f-\x9f\u2028\u2029][\x00-\x20\x7f-\x9f\u2028\u2029]*")
"""Line breaks, and what a terminal obeys, such as the start of a colour."""


class GammaError(ValueError):
    """Something the user can fix: says what is wrong, what was expected, and what to type next.

    Its text is one line, whatever is in the user's values.
    """

    def __str__(self) -> str:
        text = _CONTROL.sub(" ", super().__str__())
        if len(text) <= MOST_CHARACTERS:
            return text
        return f"{text[: MOST_CHARACTERS - 400]} ... {text[-400:]}"  # the end says what to type


class MissingExtra(GammaError, ImportError):
    """A package is missing that comes with an extra of this library; the message names both."""


class MissingName(GammaError, AttributeError):
    """A public name whose extra is missing, asked for as ``module.name``: ``hasattr`` is false."""


def one_line(error: BaseException, most: int = 300, *, file: bool = False) -> str:
    """Return what an exception says as one line, never empty.

    Args:
        error: The exception.
        most: Cut the line after so many characters.
        file: Name the file of an ``OSError``, for a message that does not name it already.
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        at = f": {error.filename}" if file and error.filename else ""
        text = error.strerror + at
    elif isinstance(error, KeyError):  # its text is the key alone
        text = f"{type(error).__name__} {text}"
    return " ".join(text.split())[:most] or type(error).__name__


@contextlib.contextmanager
def panics_are_errors() -> Iterator[None]:
    """Make a panic of a package written in Rust, such as tokenizers, an error like any other.

    It is no ``Exception``, so that it would pass whoever names what cannot be read.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(one_line(error)) from error


def error_line(text: object) -> str:
    """Return what a command says of an error: one line, whatever is in the text."""
    return f"error: {_CONTROL.sub(' ', str(text)).strip()}"


def print_error(text: object) -> None:
    """Print an error to standard error, which may be full or closed as well."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(error_line(text), file=sys.stderr, flush=True)


def about_file(error: OSError) -> str:
    """Return what to tell a user whose file or folder cannot be used.

    Raises:
        OSError: The error itself, where it names no file, so it is no fault of the user's.
    """
    if error.filename is None:
        raise error
    name = os.fsdecode(error.filename)
    if error.errno in FULL:
        return f"cannot write {name}: {one_line(error)}; free some space, or write elsewhere"
    return f"cannot use {name}: {one_line(error)}; check the path"


class _Short(reprlib.Repr):
    """Values of a file may be huge, nest without end, or share parts a million times over."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict, self.maxtuple = 2, 4, 4, 4
        self.maxstring, self.maxother, self.maxlong = 80, 80, 40

    def repr_int(self, x: int, level: int) -> str:
        if abs(x) >= 10**self.maxlong:
            return f"a number of about {int(x.bit_length() * 0.30103) + 1} digits"
        return repr(x)


_SHORT = _Short()


def shown(value: object) -> str:
    """Return a value of the user's for a message: on one line, and cut where it is long."""
    return " ".join(_SHORT.repr(value).split())


def listed(names: Iterable[str], most: int = 4) -> str:
    """Return names for a message, cut after ``most`` of them."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def close_to(word: str, names: Iterable[str], most: int = 1) -> str:
    """Return ``; did you mean 'name'?`` for the end of a message, empty where nothing is close."""
    by_letters = {name.lower(): name for name in names}  # a wrong case is the smallest of slips
    found = difflib.get_close_matches(word.lower(), by_letters, most, 0.4 if most > 1 else 0.6)
    close = [by_letters[letters] for letters in found]
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def is_installed(package: str) -> bool:
    """Return whether a package can be found, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:  # a package that is hidden on purpose
        return False
    except ValueError:  # a stand-in for a package, put into sys.modules without a spec
        return True


def need(package: str, extra: str, purpose: str) -> Any:
    """Import a package that comes with an extra, and return the module.

    Args:
        package: What to import, such as ``sacrebleu``.
        extra: The extra of this package that brings it.
        purpose: Who needs it, with the verb: ``GLUE's scores need``.

    Raises:
        MissingExtra: It is not installed, or fails to import.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(how_to_get(package, extra, purpose, error)) from error


def need_installed(packages: Iterable[str], extra: str, purpose: str) -> None:
    """Check that packages are installed, without importing them: before a long run starts.

    Raises:
        MissingExtra: One of them is not; the first is named.
    """
    for package in packages:
        if not is_installed(package):
            raise MissingExtra(f"{purpose} {package}: {_install(extra)}")


def _install(extra: str) -> str:
    return f"pip install 'gamma_nlp[{extra}]'"


def how_to_get(package: str, extra: str, purpose: str, error: ImportError) -> str:
    """Return what to install after ``error`` ended the import of a package; see :func:`need`."""
    if isinstance(error, MissingExtra):
        return str(error)
    name = package.partition(".")[0]
    if not isinstance(error, ModuleNotFoundError):
        return (
            f"{purpose} {name}, which cannot be imported ({one_line(error)}); "
            f"reinstall it: {_install(extra)}"
        )
    if error.name and error.name != package and not error.name.startswith(name):
        name = error.name
    return f"{purpose} {name}: {_install(extra)}"
