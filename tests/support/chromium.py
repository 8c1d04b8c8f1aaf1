"""Pages opened in a real browser without a screen, and what it says of them."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--v=0", "--dump-dom", "--window-size=1400,1000"),
)
_LOGGED = re.compile(r":CONSOLE[^\]]*\] (.*)")

# In a frame, since no window can be as narrow as a phone.
_FRAME = """<!doctype html><meta charset="utf-8"><body>
<iframe style="width:{width}px;height:{height}px;border:0" srcdoc="{page}" onload="
  const page = this.contentDocument, root = page.documentElement;
  document.body.dataset.scroll = root.scrollWidth - root.clientWidth;
  document.body.dataset.outside = [...page.querySelectorAll('body *')].filter(e =>
    e.getBoundingClientRect().right > root.clientWidth + 1 && !e.closest('.scroll')).length;
  document.body.dataset.plots = [...page.querySelectorAll('figure svg')].filter(e =>
    e.getBoundingClientRect().width > 200 && e.getBoundingClientRect().height > 50).length;
  document.body.dataset.text = page.body.innerText;
"></iframe></body>"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A page as a reader has it before him.

    Attributes:
        scroll: By how many pixels it scrolls sideways.
        outside: How many elements stand out on the right, those that scroll by themselves aside.
        plots: How many pictures are drawn at a size that can be read.
        text: What is shown.
        logged: What the browser's console says.
    """

    scroll: int
    outside: int
    plots: int
    text: str
    logged: list[str]


def chromium() -> str:
    """Return the browser; skips the test where none is installed."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip("chromium is not installed")
    return found


def look(page: str, folder: Path, *, width: int, height: int) -> Seen:
    """Open a page at a width and height; ``folder`` is for the browser's files."""
    framed = folder / "framed.html"
    framed.write_text(
        _FRAME.format(width=width, height=height, page=html.escape(page)), encoding="utf-8"
    )
    command = [chromium(), *OPTIONS, f"--user-data-dir={folder / 'browser'}", framed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = dict(re.findall(r'data-(\w+)="([^"]*)"', done.stdout.rpartition("<body")[2]))
    return Seen(
        scroll=int(told["scroll"]),
        outside=int(told["outside"]),
        plots=int(told["plots"]),
        text=html.unescape(told["text"]),
        logged=_LOGGED.findall(done.stderr),
    )
