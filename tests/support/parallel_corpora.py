"""Small parallel corpora in the layouts that the preparation reads."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

TESTS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")


def archive_files() -> dict[str, bytes]:
    """A corpus in the archive's layout: 12 clean pairs, 4 to drop, 5 test sets of 2."""
    files: dict[str, str] = {}
    for language, words in (("de", "Hund läuft"), ("en", "dog runs")):
        long = " ".join(["viel"] * 10)
        text = [f"{words} Nummer {n}." for n in range(10)]
        odd = {"de": ["eins", "", long, " <b> "], "en": ["one two", "nothing", long, ""]}[language]
        files[f"train.tags.de-en.{language}"] = "\n".join(
            [
                "<url>http://x</url>",
                "<keywords>a, b</keywords>",
                "<talkid>1</talkid>",
                f"<title>{words} Titel</title>",
                f"<description>{words} Text</description>",
                *text[:5],
                *odd,
                *text[5:],
                "",
            ]
        )
        for part in TESTS:
            files[f"IWSLT14.{part}.de-en.{language}.xml"] = (
                f'<doc docid="1">\n<title>{part}</title>\n<seg id="1"> {words} in {part}. </seg>\n'
                f'<seg id="2">{words}\u2019s Ende</seg>\n</doc>\n'
            )
    return {name: text.encode() for name, text in files.items()}


def tgz(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"de-en/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def make_archive(tmp_path: Path) -> Path:
    """The corpus of :func:`archive_files`, packed as the official archive is."""
    path = tmp_path / "de-en.tgz"
    path.write_bytes(tgz(archive_files() | {"README": b"x"}))
    return path


def make_folder(tmp_path: Path) -> Path:
    """A folder named like Multi30k's, in three languages; the second pair of val is empty."""
    path = tmp_path / "corpus"
    path.mkdir()
    for language, word in (("de", "Hund"), ("en", "Dog"), ("fr", "Chien")):
        (path / f"train.{language}").write_text("".join(f"Ein {word} {n}.\n" for n in range(8)))
        (path / f"val.{language}").write_text(f"Der {word}.\n\nDie {word}.\n")
        (path / f"test_2016_flickr.{language}").write_text(f"Das {word}.\n")
    return path


def lines(path: Path) -> list[str]:
    """The lines of a text file."""
    return path.read_text(encoding="utf-8").splitlines()
