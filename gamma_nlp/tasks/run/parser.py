"""A command line's parser whose errors are those of the library."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from gamma_nlp.errors import GammaError, close_to


class Parser(argparse.ArgumentParser):
    """A parser whose errors are those of the library, and end with what to type.

    ``--weight_decay`` and ``--weight-decay`` are one option, whichever was declared.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = None if args is None else self._as_declared(args)
        return super().parse_known_args(words, namespace)

    def _as_declared(self, words: Sequence[str]) -> list[str]:
        """Spell options as they were declared; what follows a bare ``--`` is no option."""
        declared = {_plain(option): option for option in self._option_string_actions}
        declared |= {option: option for option in self._option_string_actions}
        found = list(words)
        for index, word in enumerate(found):
            if word == "--":
                break
            name, equals, value = word.partition("=")
            if name.startswith("--"):
                option = declared.get(name) or declared.get(_plain(name), name)
                found[index] = option + equals + value
        return found

    def error(self, message: str) -> NoReturn:
        raise GammaError(f"{message}; for help type: {self.prog} --help")

    def refuse(self, unknown: Iterable[str]) -> NoReturn:
        """Raise for words that no option takes."""
        word = next(iter(unknown))
        options = {_plain(option): option for option in self._shown_options()}
        name = word.partition("=")[0]
        hint = close_to(_plain(name), options) if word.startswith("-") else ""
        for plain, option in options.items():
            hint = hint.replace(repr(plain), repr(option))
        hint = hint or f"; for help type: {self.prog} --help"
        raise GammaError(f"{self.prog} takes no {word!r}{hint}")

    def _shown_options(self) -> list[str]:
        """Return the long options that the usage shows, each in one spelling."""
        return sorted(set(re.findall(r"--[a-z][a-z0-9_-]*", self.format_usage())))


def _plain(option: str) -> str:
    return "--" + option[2:].replace("_", "-") if option.startswith("--") else option
