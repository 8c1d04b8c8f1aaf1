"""The READMEs of a checkout: their code blocks, commands and links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

FOLDERS = ("gamma_nlp", "recipes", "scripts")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block; ``line`` is that of its first line of content, counted from 1."""

    language: str
    text: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of a ```bash block: its words, without comments and placeholders for more."""

    words: tuple[str, ...]
    place: str

    def __str__(self) -> str:
        return shlex.join(self.words)


def readmes() -> list[Path]:
    """Every README of the checkout, the root's first."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("README.md")]
    return [ROOT / "README.md", *sorted(found)]


def name(path: Path) -> str:
    """A README's path from the root."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> list[Block]:
    """All fenced blocks of a README, in order."""
    found: list[Block] = []
    inside: list[str] | None = None
    language, start = "", 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            if inside is None:
                language, inside, start = line.strip().removeprefix("```"), [], number + 1
            else:
                found.append(Block(language=language, text="\n".join(inside), line=start))
                inside = None
        elif inside is not None:
            inside.append(line)
    assert inside is None, f"{name(path)}: a block is not closed"
    return found


def commands(path: Path) -> list[Command]:
    """Every command of the bash blocks; those of a `for ...; do` loop without the loop."""
    found = []
    for block in blocks(path):
        if block.language != "bash":
            continue
        text = block.text.replace("\\\n", " \\\r")  # keeps the count of lines
        for number, line in enumerate(text.split("\n"), block.line):
            plain = line.replace("\\\r", " ")
            plain = re.sub(r"^for .*; do\s*|;?\s*\bdone\b.*$", "", plain.strip())
            words = shlex.split(plain, comments=True)
            if words:
                found.append(Command(words=tuple(words), place=f"{name(path)}:{number}"))
    return found


def links(path: Path) -> list[str]:
    """The targets of all links and images that are not URLs, without their anchors."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link.partition("#")[0] for link in found if not re.match(r"\w+://|#", link)]
