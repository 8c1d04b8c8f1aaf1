"""A command line's parser whose errors are those of the library."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import NoReturn

from gamma_nlp.errors import GammaError, close_to


class Parser(argparse.ArgumentParser):
    """A parser whose errors are those of the library, and end with what to type."""

    def error(self, message: str) -> NoReturn:
        raise GammaError(f"{message}; for help type: {self.prog} --help")

    def refuse(self, unknown: Iterable[str]) -> NoReturn:
        """Raise for words that no option takes."""
        word = next(iter(unknown))
        options = set(re.findall(r"--[a-z-]+", self.format_usage()))
        hint = close_to(word, options) if word.startswith("-") else ""
        hint = hint or f"; for help type: {self.prog} --help"
        raise GammaError(f"{self.prog} takes no {word!r}{hint}")
