"""Name tables: which parameter of a known architecture is a gain, and in which category.

A table is read only where it can be trusted: the model's type and the config fields that move
norms match, every class from the root to a gain is the library's own, and no norm of the model is
left over. Otherwise there is no table, and the graph decides. ``tables/transformers.ini`` begins
with the format.
"""

from __future__ import annotations

import configparser
import fnmatch
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

from torch import nn

from gamma_nlp.gains.category import Category
from gamma_nlp.wrappers import library_names

TRUSTED = ("transformers.", "fairseq.", "torch.", "peft.", "bitsandbytes.")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a section; the category is ``None`` where the name is not a gain's."""

    pattern: str
    category: Category | None
    kind: str
    offset: float


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One section of a table file."""

    name: str
    types: frozenset[str]
    conditions: Mapping[str, tuple[str, ...]]
    has: tuple[str, ...]
    lacks: tuple[str, ...]
    rows: tuple[Row, ...]


@functools.cache
def layouts() -> tuple[Layout, ...]:
    """Return every layout of the package's table files, in order."""
    found = []
    folder = resources.files(__package__).joinpath("tables")
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".ini"):
            parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
            parser.optionxform = str  # type: ignore[assignment,method-assign]
            parser.read_string(file.read_text(encoding="utf-8"), source=file.name)
            found += [_layout(name, dict(parser[name])) for name in parser.sections()]
    return tuple(found)


def _layout(name: str, section: dict[str, str]) -> Layout:
    types = frozenset(_words(section.pop("types")))
    default_kind, offset = section.pop("kind"), float(section.pop("offset", "0"))
    has, lacks = _words(section.pop("when.has", "")), _words(section.pop("when.lacks", ""))
    conditions = {k[5:]: _words(section.pop(k)) for k in list(section) if k.startswith("when.")}
    rows = []
    for pattern, value in section.items():
        category, *kind = value.split()
        rows.append(
            Row(
                pattern=pattern,
                category=None if category == "none" else Category(category),
                kind=kind[0] if kind else default_kind,
                offset=offset,
            )
        )
    return Layout(
        name=name, types=types, conditions=conditions, has=has, lacks=lacks, rows=tuple(rows)
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def model_type(model: nn.Module) -> str | None:
    """Return the type under which a model's layouts are filed, ``None`` for other models."""
    home = type(model).__module__
    if home.startswith("transformers.models."):
        return getattr(getattr(model, "config", None), "model_type", None)
    if home.startswith("fairseq.models.transformer"):
        return "fairseq_transformer"
    return None


def layout_for(model: nn.Module) -> Layout | None:
    """Return the layout that holds for ``model``, ``None`` if there is none."""
    kind = model_type(model)
    if kind is None:
        return None
    prefix = getattr(model, "base_model_prefix", "")
    modules = {_strip(name, prefix) for name, _ in model.named_modules()}
    for layout in layouts():
        if (
            kind in layout.types
            and all(_holds(model, field, globs) for field, globs in layout.conditions.items())
            and all(part in modules for part in layout.has)
            and not any(part in modules for part in layout.lacks)
        ):
            return layout
    return None


def _holds(model: nn.Module, field: str, globs: Iterable[str]) -> bool:
    source, _, path = field.partition(".")
    value: object = model.config if source == "config" else model
    for part in path.split("."):
        if part.isdigit() and isinstance(value, nn.ModuleList):
            value = value[int(part)] if int(part) < len(value) else None
        else:
            value = getattr(value, part, None)
    return any(fnmatch.fnmatchcase(str(value), glob) for glob in globs)


def _strip(name: str, prefix: str) -> str:
    return name[len(prefix) + 1 :] if prefix and name.startswith(prefix + ".") else name


def place(model: nn.Module, names: Iterable[str]) -> tuple[str, dict[str, Row]] | None:
    """Match parameter names against the layout of ``model``.

    Args:
        model: The model itself, without wrappers.
        names: The names of all its parameters, with what wrappers put into them.

    Returns:
        The layout's name and the row of each parameter that has one; ``None`` if no layout holds.
    """
    layout = layout_for(model)
    if layout is None:
        return None
    prefix = getattr(model, "base_model_prefix", "")
    plain = {name: _strip(short, prefix) for name, short in library_names(names).items()}
    found: dict[str, Row] = {}
    matchers = [(_matcher(row.pattern, plain.values()), row) for row in layout.rows]
    for name, short in plain.items():
        for matcher, row in matchers:
            if matcher.fullmatch(short):
                found[name] = row
                break
    return layout.name, found


def _matcher(pattern: str, names: Iterable[str]) -> re.Pattern[str]:
    head, last, _ = pattern.partition("{last}")
    index = "0"
    if last:
        numbered = re.compile(_regex(head) + r"(\d+)\.")
        indices = [int(m.group(1)) for m in map(numbered.match, names) if m]
        index = str(max(indices, default=0))
    return re.compile(_regex(pattern).replace(re.escape("{last}"), index) + r"\.weight")


def _regex(pattern: str) -> str:
    return re.escape(pattern).replace(re.escape("{i}"), r"\d+")


def foreign(model: nn.Module, names: Iterable[str]) -> str | None:
    """Return the first module on the way to these parameters whose class is not the library's."""
    modules = dict(model.named_modules())
    for name in names:
        parts = name.split(".")[:-1]
        for depth in range(len(parts) + 1):
            module = modules.get(".".join(parts[:depth]))
            if module is not None and not type(module).__module__.startswith(TRUSTED):
                return ".".join(parts[:depth]) or type(module).__name__
    return None
