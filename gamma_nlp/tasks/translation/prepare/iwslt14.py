"""IWSLT14 German-English from its official archive, ``de-en.tgz``, by the rules of fairseq's
``prepare-iwslt14.sh``.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.files.packed import most_unpacked, too_large, unpacked
from gamma_nlp.files.read import read_bytes, text_lines
from gamma_nlp.tasks.translation.prepare.corpus import Corpus, Pair, Split, pair_up
from gamma_nlp.workers import NoAnswer, within

URL = "https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz"
LANGUAGES = ("de", "en")
COUNTS = {"train": 160_239, "valid": 7_283, "test": 6_750}

_TRAIN = "train.tags.de-en"
_TESTS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
_NO_TEXT = ("<url>", "<talkid>", "<keywords>")
_TEXT_TAGS = re.compile(r"</?(?:title|description)>")
_SEGMENT_TAGS = re.compile(r'<seg id="[0-9]*">\s*|\s*</seg>\s*')


def fetch_archive(url: str = URL, *, seconds: float = 300.0) -> bytes:
    """Download the archive: one attempt, with a limit on the whole time.

    Raises:
        GammaError: It failed; the message says how to get the file by hand.
    """
    silence = min(20.0, seconds)

    def ask() -> bytes:
        with urllib.request.urlopen(url, timeout=silence) as reply:
            return bytes(reply.read())

    try:
        return within(seconds, ask)
    except Exception as error:
        cause = getattr(error, "reason", error)
        reason = one_line(cause if isinstance(cause, OSError) else error)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        elif isinstance(cause, NoAnswer):  # its text says the limit
            reason = str(cause)
        elif isinstance(cause, TimeoutError):  # the socket's: nothing came for so long
            reason = f"no answer within {silence:g} s"
    raise GammaError(
        f"cannot fetch {url}: {reason}. Where there is a network, get the file by hand "
        f"(curl -LO {url}; about 20 MB) and give its path in place of the address"
    )


def unpack(data: bytes, name: str) -> dict[str, bytes]:
    """Return IWSLT14's files in a tar archive, by their names without folders.

    Raises:
        GammaError: It is no archive, or it is cut off.
    """
    wanted = set(_members())
    found: dict[str, bytes] = {}
    left = most = most_unpacked(len(data))
    try:
        # Packed archives are unpacked first: tarfile counts nothing, and looks behind each end.
        plain = _unpacked(data, name)
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for member in archive:
                base = PurePosixPath(member.name).name
                # Only plain files: a link may lead to itself, or to nowhere.
                if base not in wanted or not member.isreg():
                    continue
                left -= member.size  # a sparse file may say any size
                if left < 0:
                    raise too_large(name, len(data), most)
                content = archive.extractfile(member)
                if content is not None:
                    found[base] = content.read()
    except GammaError:
        raise
    except Exception as error:  # a damaged archive makes tarfile raise almost anything
        raise GammaError(
            f"{name} is not a complete .tgz archive ({one_line(error)}); get de-en.tgz again: {URL}"
        ) from error
    return found


def _unpacked(data: bytes, name: str) -> bytes:
    """Return a tar archive without gzip, bzip2 or xz around it."""
    stream = io.BytesIO(data)
    if data.startswith(b"\x1f\x8b"):
        return unpacked(gzip.GzipFile(fileobj=stream), len(data), name)
    if data.startswith(b"BZh"):
        return unpacked(bz2.BZ2File(stream), len(data), name)
    if data.startswith(b"\xfd7zXZ"):
        return unpacked(lzma.LZMAFile(stream), len(data), name)
    return data


def is_unpacked(folder: Path) -> bool:
    """Return whether a folder holds the unpacked archive."""
    return any((folder / f"{_TRAIN}.{language}").is_file() for language in LANGUAGES)


def read_unpacked(folder: Path) -> dict[str, bytes]:
    """Return the same as :func:`unpack`, for a folder that holds the unpacked archive."""
    return {name: read_bytes(folder / name) for name in _members() if (folder / name).is_file()}


def read_iwslt14(files: Mapping[str, bytes], name: str) -> Corpus:
    """Read the corpus out of the archive's files.

    Lines of the training files with ``<url>``, ``<talkid>`` or ``<keywords>`` are dropped; titles
    and descriptions stay, without their tags. The test set is the five dev and test sets in a row.

    Args:
        files: File name to content.
        name: What to call the archive in an error.

    Returns:
        ``train`` (the validation lines still in it) and ``test``.

    Raises:
        GammaError: A file is missing, is not UTF-8, or lacks a partner line.
    """
    missing = [member for member in _members() if member not in files]
    if missing:
        raise GammaError(
            f"{name} is not the IWSLT14 German-English archive: it lacks {', '.join(missing)}; "
            f"get de-en.tgz: {URL}"
        )
    members = [f"{_TRAIN}.{language}" for language in LANGUAGES]
    train = _pairs(files, members, _training_lines)
    markup = len(text_lines(files[members[0]], members[0])) - len(train)
    test: list[Pair] = []
    for part in _TESTS:
        members = [f"IWSLT14.{part}.de-en.{language}.xml" for language in LANGUAGES]
        test += _pairs(files, members, _segments)
    return Corpus(
        languages=LANGUAGES,
        splits=(
            Split(name="train", pairs=train, markup=markup),
            Split(name="test", pairs=test, straighten=True),
        ),
        sources={member: hashlib.sha256(files[member]).hexdigest() for member in _members()},
        official=True,
    )


def _pairs(
    files: Mapping[str, bytes], members: Sequence[str], pick: Callable[[list[str]], list[str]]
) -> list[Pair]:
    one, two = (pick(text_lines(files[member], member)) for member in members)
    return pair_up(one, two, (f"{members[0]} (text lines)", f"{members[1]} (text lines)"))


def _training_lines(lines: list[str]) -> list[str]:
    kept = (line for line in lines if not any(tag in line for tag in _NO_TEXT))
    return [_TEXT_TAGS.sub("", line) for line in kept]


def _segments(lines: list[str]) -> list[str]:
    return [_SEGMENT_TAGS.sub("", line) for line in lines if "<seg id" in line]


def _members() -> list[str]:
    parts = [_TRAIN + ".{}", *(f"IWSLT14.{part}.de-en.{{}}.xml" for part in _TESTS)]
    return [part.format(language) for part in parts for language in LANGUAGES]
