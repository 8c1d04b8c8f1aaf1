"""One YAML file is one experiment; anything on the command line wins over it.

``read_settings`` turns ``[file.yaml] [--key value ...]`` into dataclasses, the Trainer's own
arguments among them. Unknown keys and unusable values are errors that name the file and the key.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from gamma_nlp.errors import GammaError, close_to, need, one_line, shown
from gamma_nlp.tasks.run.parser import Parser
from gamma_nlp.tasks.run.yaml_file import read_yaml


def read_settings(
    kinds: Sequence[type],
    argv: Sequence[str],
    *,
    rivals: Sequence[tuple[str, str]] = (),
    complete: Callable[[dict[str, Any]], None] | None = None,
    defaults: Mapping[str, str] = {},
    left_open: Mapping[str, str] = {},
    helps: Mapping[str, str] = {},
) -> tuple[Any, ...]:
    """Fill dataclasses from a YAML file and the command line.

    Args:
        kinds: Dataclasses with distinct fields; ``TrainingArguments`` may be among them.
        argv: Command line; a first item without leading dashes is the YAML file.
        rivals: Pairs of keys where one makes the other pointless. Both in one place are an
            error; one on the command line wins over the other in the file.
        complete: Called with all values before the dataclasses are made, to check them and to
            fill in those that follow from others.
        defaults: What holds where nobody says anything, as one would type it.
        left_open: Keys that are ``None`` for ``complete`` where nobody gave them, whatever their
            default is, and in words what it then fills in.
        helps: What ``--help`` says of keys whose own text is not right here.

    Returns:
        One instance per dataclass, in order.

    Raises:
        GammaError: The file cannot be read, a key is unknown, or a value cannot be used.
    """
    base: Any = need("transformers", "recipes", "recipes need").HfArgumentParser
    kind: Any = types.new_class("RecipeParser", (Parser, base))
    usage = "%(prog)s [FILE.yaml] [--OPTION VALUE ...]"  # with all options it fills a screen
    about = "Run the experiment of a YAML file; an option wins over the same key in it."
    texts = {"usage": usage, "description": about}
    parser = kind(list(kinds), allow_abbrev=False, formatter_class=_Help, **texts)
    rest = list(argv)
    file = Path(rest.pop(0)).expanduser() if rest and not rest[0].startswith("-") else None
    given = {} if file is None else read_yaml(file)
    known = {f.name for kind in kinds for f in dataclasses.fields(kind) if f.init}
    for key in given:
        if key not in known:
            raise GammaError(f"{file}: unknown key {shown(key)}{close_to(key, known)}")
    typed = {word.split("=")[0].lstrip("-").replace("-", "_") for word in rest if word[:2] == "--"}
    in_file = {key for key, value in given.items() if value is not None}
    given = {**defaults, **given}
    for one, other in rivals:
        for where, keys in ((str(file), in_file), ("the command line", typed)):
            if {one, other} <= keys:
                raise GammaError(f"{where}: give {one} or {other}, not both")
        if one in typed:
            given.pop(other, None)
        if other in typed:
            given.pop(one, None)
    actions = {action.dest: action for action in parser._actions}
    hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
    for key, value in given.items():
        given[key] = _convert(actions[key], hints[key], key, value, file)
    for key, words in helps.items():
        actions[key].help = words
    for key, words in left_open.items():
        if given.setdefault(key) is None:
            actions[key].help = _with_default(actions[key].help, words)
    parser.set_defaults(**given)
    namespace, unknown = parser.parse_known_args(rest)
    if unknown:
        word = unknown[0]
        name = word.split("=")[0].replace("-", "_").replace("__", "--", 1)
        hint = close_to(name, [f"--{key}" for key in known]) if word[:1] == "-" else ""
        raise GammaError(f"unknown option {word}{hint or '; --help lists those that there are'}")
    try:
        values = vars(namespace)
        if complete is not None:
            complete(values)
        return tuple(parser.parse_dict(values))
    except GammaError:
        raise
    except Exception as error:  # TrainingArguments sets up devices and plugins: many kinds
        reason = one_line(error, file=True)
        raise GammaError(f"these settings cannot be used: {reason}") from error


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults; ``None`` is none: what it stands for is said in the text of an option."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if isinstance(action, argparse._StoreFalseAction):
            return f"turn {action.dest} off"
        told = action.help or ""
        if action.default in (None, argparse.SUPPRESS) or "(default: " in told:
            return told
        return f"{told.partition('; default: ')[0]} (default: %(default)s)"


def _with_default(text: str | None, words: str) -> str:
    """Return the help of an option with its default in words, instead of what it says itself."""
    own = re.sub(r" ?Defaults? [^.]*\.", "", text or "")
    return f"{own} (default: {words.replace('%', '%%')})"


def _convert(action: Any, hint: Any, key: str, value: Any, file: Path | None) -> Any:
    """Convert a YAML value to the type that the same text on the command line would get.

    YAML reads ``5e-5`` as text and ``no`` as false, and argparse does not convert defaults.
    """
    kinds = _kinds(hint)
    if value is None:
        if type(None) not in kinds:
            raise GammaError(f"{file}: {key} is empty; give a value, or leave it out")
        return value
    if isinstance(value, (dict, list)):
        if type(value) not in kinds:
            what = "keys and values" if isinstance(value, dict) else "a list"
            raise GammaError(f"{file}: {key}: expected one value, got {what}: {shown(value)}")
        if isinstance(value, dict):
            return value
    try:
        if isinstance(value, list):
            return [action.type(str(item)) for item in value]
        if isinstance(value, bool) and (action.choices or action.type in (str, None)):
            value = "yes" if value else "no"
        new = value if action.type is None or action.type is dict else action.type(str(value))
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        raise GammaError(f"{file}: {key}: cannot use {shown(value)} ({one_line(error)})") from error
    if action.choices is not None and new not in action.choices:
        choices = [str(choice) for choice in action.choices]
        hint = close_to(str(new), choices) or f"; it is one of {', '.join(choices)}"
        raise GammaError(f"{file}: {key}: {shown(value)} is none of its values{hint}")
    return new


def _kinds(hint: Any) -> set[type]:
    """Return the types that a type hint allows, without what they hold."""
    members = get_args(hint) if _is_union(hint) else (hint,)
    return {get_origin(member) or member for member in members}


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or str(get_origin(hint)) == "typing.Union"
