"""One YAML file is one experiment; anything on the command line wins over it.

``read_settings`` turns ``[file.yaml] [--key value ...]`` into dataclasses, the Trainer's own
arguments among them. Unknown keys and unusable values are errors that name the file and the key.
"""

from __future__ import annotations

import dataclasses
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gamma_nlp.errors import GammaError, close_to, need, one_line


def read_settings(
    kinds: Sequence[type],
    argv: Sequence[str],
    *,
    rivals: Sequence[tuple[str, str]] = (),
    complete: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[Any, ...]:
    """Fill dataclasses from a YAML file and the command line.

    Args:
        kinds: Dataclasses with distinct fields; ``TrainingArguments`` may be among them.
        argv: Command line; a first item without leading dashes is the YAML file.
        rivals: Pairs of keys where one makes the other pointless. Both in one place are an
            error; one on the command line wins over the other in the file.
        complete: Called with all values before the dataclasses are made, to fill in those that
            follow from others.

    Returns:
        One instance per dataclass, in order.

    Raises:
        GammaError: The file cannot be read, a key is unknown, or a value cannot be used.
    """
    parser_class: Any = need("transformers", "recipes", "recipes need").HfArgumentParser

    class Parser(parser_class):
        def error(self, message: str) -> NoReturn:
            raise GammaError(message)

    rest = list(argv)
    file = Path(rest.pop(0)).expanduser() if rest and not rest[0].startswith("-") else None
    parser = Parser(list(kinds), allow_abbrev=False)
    given = {} if file is None else read_yaml(file)
    known = {f.name for kind in kinds for f in dataclasses.fields(kind) if f.init}
    for key in given:
        if key not in known:
            raise GammaError(f"{file}: unknown key {key!r}{close_to(key, known)}")
    typed = {word.split("=")[0].lstrip("-").replace("-", "_") for word in rest if word[:2] == "--"}
    for one, other in rivals:
        for where, keys in ((str(file), set(given)), ("the command line", typed)):
            if {one, other} <= keys:
                raise GammaError(f"{where}: give {one} or {other}, not both")
        if one in typed:
            given.pop(other, None)
        if other in typed:
            given.pop(one, None)
    actions = {action.dest: action for action in parser._actions}
    for key, value in given.items():
        given[key] = _convert(actions[key], key, value, file)
    parser.set_defaults(**given)
    namespace, unknown = parser.parse_known_args(rest)
    if unknown:
        word = unknown[0]
        name = word.split("=")[0].replace("-", "_").replace("__", "--", 1)
        hint = close_to(name, [f"--{key}" for key in known]) if word[0] == "-" else ""
        raise GammaError(f"unknown option {word}{hint}")
    try:
        values = vars(namespace)
        if complete is not None:
            complete(values)
        return tuple(parser.parse_dict(values))
    except GammaError:
        raise
    except (ValueError, TypeError) as error:
        raise GammaError(one_line(error)) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        GammaError: It does not exist, is not YAML, or holds something else.
    """
    yaml = need("yaml", "recipes", "reading YAML files needs")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GammaError(f"cannot read {path}: {one_line(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GammaError(f"{path} is not YAML: {one_line(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise GammaError(f"{path}: expected `key: value` lines")
    return content


def _convert(action: Any, key: str, value: Any, file: Path | None) -> Any:
    """Convert a YAML value to the type that the same text on the command line would get.

    YAML reads ``5e-5`` as text and ``no`` as false, and argparse does not convert defaults.
    """
    if value is None or isinstance(value, dict):
        return value
    try:
        if isinstance(value, list):
            return [action.type(str(item)) for item in value]
        if isinstance(value, bool) and (action.choices or action.type in (str, None)):
            value = "yes" if value else "no"
        new = value if action.type is None or action.type is dict else action.type(str(value))
    except (ValueError, TypeError, ArgumentTypeError) as error:
        raise GammaError(f"{file}: {key}: cannot use {value!r} ({one_line(error)})") from error
    if action.choices is not None and new not in action.choices:
        choices = ", ".join(map(str, action.choices))
        raise GammaError(f"{file}: {key}: {value!r} is none of {choices}")
    return new
