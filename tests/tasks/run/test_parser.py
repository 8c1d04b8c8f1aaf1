"""Every command line of the library answers a mistake with one line that says what to type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.fairseq.convert import commands
from gamma_nlp.tasks.run.parser import Parser


def test_a_mistake_is_an_error_that_says_what_to_type() -> None:
    parser = Parser(prog="tool")
    parser.add_argument("--size", type=int)
    with pytest.raises(GammaError, match=r"invalid int value: 'x'; for help type: tool --help$"):
        parser.parse_args(["--size", "x"])
    with pytest.raises(GammaError, match=r"tool takes no '--sise'; did you mean '--size'\?$"):
        parser.refuse(["--sise"])


@pytest.mark.parametrize("convert", [commands.to_transformers, commands.from_transformers])
def test_a_conversion_without_its_arguments_is_one_line(
    convert: Callable[[list[str]], int], capsys: Any
) -> None:
    assert convert([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the following arguments are required: ")
    assert error.count("\n") == 1 and error.endswith("-transformers --help\n")
