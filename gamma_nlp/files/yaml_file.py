"""YAML files of plain values; what repeats itself by aliases is counted before it is built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, need, one_line, shown
from gamma_nlp.files.read import read_text

_MOST_YAML = 64 * 2**10
"""Bytes of a file of settings; YAML takes seconds and 100 MB for so many."""

_MOST_REPEATED = 10_000
"""Values that the aliases of a YAML file may add."""

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

_MISREAD = re.compile(r"[-+]?0[0-9_]+|.*:.*")
"""Numbers that YAML takes for others than they read: 010 for 8, 1:30 for 90."""


def read_yaml(path: Path, purpose: str = "reading YAML files needs") -> Any:
    """Return what a YAML file holds.

    Args:
        path: The file.
        purpose: Who needs the package that reads it, for the error if it is missing.

    Raises:
        GammaError: It cannot be read, is no YAML of plain values, or gives a key twice in one
            mapping; or PyYAML is missing.
    """
    return parse_yaml(read_text(path), str(path), purpose=purpose)


def parse_yaml(
    text: str, origin: str, *, lines: bool = True, purpose: str = "reading YAML files needs"
) -> Any:
    """Return what a YAML text holds.

    Args:
        text: The text.
        origin: What to call it in an error: the file, or the option it was given to.
        lines: Whether an error tells the line.
        purpose: As for :func:`read_yaml`.

    Raises:
        GammaError: As for :func:`read_yaml`.
    """
    yaml = need("yaml", "recipes", purpose)
    if len(text) > _MOST_YAML:
        raise GammaError(
            f"{origin}: {len(text):,} characters, and a file of settings has at most "
            f"{_MOST_YAML:,}; is it the right file?"
        )
    try:
        return yaml.load(text, _loader(yaml))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if lines and mark is not None else ""
        problem = one_line(getattr(error, "problem", None) or error)
        raise GammaError(f"{origin}{line}: not valid YAML: {problem}") from None
    except RecursionError:
        raise GammaError(f"{origin}: not valid YAML: nested too deeply") from None


def _loader(yaml: Any) -> Any:
    """Return a safe loader that refuses what a settings file cannot mean.

    An alias costs nothing until someone copies, merges or prints what it stands for: nine lines of
    nine aliases each are a billion values.
    """
    safe: Any = yaml.SafeLoader

    def wrong(problem: str, node: Any) -> Exception:
        error: Exception = yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return error

    class Loader(safe):
        """Counts aliases, refuses a key that is there twice, and places values of a wrong tag."""

        def get_single_node(self) -> Any:
            node = super().get_single_node()
            if problem := _repeated(node):
                raise wrong(problem, node)
            return node

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen: dict[tuple[str, str], int] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                    continue
                line = key.start_mark.line + 1
                if (key.tag, key.value) in seen:
                    first = seen[key.tag, key.value]
                    where = f", first in line {first}" if first != line else ""
                    twice = f"the key {shown(key.value)} is there twice{where}; leave one out"
                    raise wrong(twice, key)
                seen[key.tag, key.value] = line
            return node

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            plain = isinstance(node.value, str)
            if plain and node.tag in _NUMBERS and _MISREAD.fullmatch(node.value):
                base = f"{node.value} is a number to base 8 or 60 in YAML"
                raise wrong(f"{base}; write it plainly, or in quotes if it is text", node)
            try:
                return super().construct_object(node, deep=deep)
            except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
                problem = f"{shown(node.value)} is no {node.tag.rpartition(':')[2]}"
                raise wrong(problem, node) from error

    return Loader


def _repeated(top: Any) -> str | None:
    """Return what is wrong with the aliases below a node of YAML, if something is."""
    sizes: dict[int, int] = {}  # with aliases written out; 1 while open: it may hold itself
    stack = [] if top is None else [(top, iter(_below(top)))]
    while stack:
        node, rest = stack[-1]
        sizes.setdefault(id(node), 1)
        for child in rest:
            if id(child) not in sizes:
                stack.append((child, iter(_below(child))))
                break
        else:
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in _below(node))
            stack.pop()
    if top is not None and sizes[id(top)] > len(sizes) + _MOST_REPEATED:
        return f"its aliases stand for {sizes[id(top)]:,} values; write them out, or use fewer"
    return None


def _below(node: Any) -> list[Any]:
    if isinstance(node.value, str):
        return []
    return [one for pair in node.value for one in (pair if isinstance(pair, tuple) else (pair,))]
