"""YAML files of settings: a mapping whose keys are words, each given once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, need, one_line
from gamma_nlp.files.yaml_file import check_yaml_size, yaml_loader


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        GammaError: It does not exist, is not YAML, holds something else, or a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise GammaError(f"{path} is not YAML: {one_line(error)}") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise GammaError(f"cannot read {path}: {one_line(error)}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, origin: str) -> dict[str, Any]:
    """Read YAML text that holds a mapping.

    Args:
        text: The text.
        origin: What to call it in an error: the file, or the option it was given to.

    Raises:
        GammaError: It is not YAML, holds something else, or a key twice.
    """
    yaml = need("yaml", "recipes", "reading YAML files needs")
    check_yaml_size(text, origin)
    loader: Any = yaml_loader(yaml)

    class Loader(loader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: dict[Any, int] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                    continue
                line = key.start_mark.line + 1
                if key.value in seen:
                    raise GammaError(
                        f"{origin}:{line}: {key.value!r} is set in line {seen[key.value]} already; "
                        "leave one of the two out"
                    )
                seen[key.value] = line
            return super().construct_mapping(node, deep)

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (GammaError, RecursionError, yaml.YAMLError):
                raise
            except Exception as error:  # whatever int() and the like say to a tag
                line = node.start_mark.line + 1
                raise GammaError(f"{origin} is not YAML: line {line}: {one_line(error)}") from error

    try:
        content = yaml.load(text, Loader)
    except GammaError:
        raise
    except RecursionError:
        raise GammaError(f"{origin} is not YAML: too many brackets inside one another") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None else ""
        problem = getattr(error, "problem", None) or one_line(error)
        raise GammaError(f"{origin} is not YAML: {line}{problem}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise GammaError(f"{origin}: expected `key: value` lines")
    try:
        json.dumps(content, default=str)  # as the run notes it
    except (ValueError, TypeError, RecursionError) as error:
        raise GammaError(f"{origin}: cannot use these values: {one_line(error)}") from error
    return content
