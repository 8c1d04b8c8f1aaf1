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


@pytest.mark.parametrize(
    "words",
    [
        ["--weight_decay", "3", "--max-steps", "4"],
        ["--weight-decay=3", "--max_steps=4"],
        ["run", "--weight_decay=3", "--max-steps", "4"],
    ],
)
def test_an_option_may_be_spelled_with_hyphens_or_underscores(words: list[str]) -> None:
    top = Parser(prog="tool")
    parser = top
    if words[0] == "run":
        parser = top.add_subparsers().add_parser("run")
    parser.add_argument("--weight-decay", type=int)
    parser.add_argument("--max_steps", type=int)
    found = top.parse_args(words)
    assert (found.weight_decay, found.max_steps) == (3, 4)


def test_words_after_a_bare_dash_pair_and_unknown_ones_are_left_as_they_are() -> None:
    parser = Parser(prog="tool")
    parser.add_argument("--weight-decay")
    parser.add_argument("words", nargs="*")
    assert parser.parse_args(["--", "--weight_decay"]).words == ["--weight_decay"]
    assert parser.parse_known_args(["--un_known"])[1] == ["--un_known"]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("--weight_decey", "'--weight-decay'"),
        ("--max-stepz", "'--max_steps'"),
        ("--weight_decey=3", "'--weight-decay'"),
    ],
)
def test_suggestions_cross_the_two_spellings(word: str, hint: str) -> None:
    parser = Parser(prog="tool")
    parser.add_argument("--weight-decay")
    parser.add_argument("--max_steps")
    with pytest.raises(GammaError, match=f"takes no '{word}'; did you mean {hint}"):
        parser.refuse([word])
