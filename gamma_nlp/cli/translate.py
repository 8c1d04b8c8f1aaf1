"""``gamma-nlp translate``: plain text in, its translation by a trained run out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gamma_nlp.cli.coverage import transformers_version
from gamma_nlp.errors import GammaError
from gamma_nlp.files import read_bytes, text_lines, write_text
from gamma_nlp.tasks.run.machine import set_threads
from gamma_nlp.tasks.translation.checkpoints import find_model, load_saved
from gamma_nlp.tasks.translation.decode import Search, check_sources, decode
from gamma_nlp.tasks.translation.text import TranslationText

STDIN = "standard input"

Translate = Callable[[Sequence[str], Sequence[str]], list[str]]
"""Gives the translations of lines, of which it is told what an error shall call each."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = commands.add_parser(
        "translate",
        help="translate text with a model that recipes/translation.py trained",
        description="Translates FILE, one sentence a line, in the order of its lines. Text is "
        "prepared as the training text was, so it is given as one would write it.",
    )
    parser.add_argument("run_folder", metavar="RUN_FOLDER", help="the run's output_dir")
    parser.add_argument(
        "file", metavar="FILE", nargs="?",
        help="UTF-8 text (standard input; from a terminal, line by line)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="OUT", help="write here (standard output)")
    parser.add_argument(
        "--checkpoint", metavar="NAME",
        help="averaged, best, last or checkpoint-N (averaged; last while the run is unfinished)",
    )  # fmt: skip
    parser.add_argument("--beams", type=int, default=Search.beams, help="(%(default)s)")
    parser.add_argument(
        "--length-penalty", type=float, default=Search.length_penalty,
        help="above 1 prefers longer translations, below 1 shorter ones (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", default=Search.max_tokens,
        help="size of a batch: sentences, times beams, times tokens of the longest (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--tokens", action="store_true", help="print tokenised text")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (torch's choice)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """``gamma-nlp translate``."""
    search = checked(arguments)
    set_threads(arguments.threads)
    transformers_version("translate")
    from gamma_nlp.hf.hub import hush

    hush()
    text = TranslationText.load(arguments.run_folder)
    folder = find_model(arguments.run_folder, arguments.checkpoint)
    interactive = arguments.file is None and arguments.output is None and sys.stdin.isatty()
    lines = [] if interactive else read_input(arguments.file)
    if arguments.checkpoint is None and folder.name.startswith("checkpoint-"):
        print(
            f"gamma-nlp: {arguments.run_folder} is not finished; translating with {folder.name}",
            file=sys.stderr,
        )
    model = load_saved(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    translate = translator(text, model, search, tokens=arguments.tokens)
    if interactive:
        converse(translate)
        return
    where = arguments.file or STDIN
    found = translate(lines, [f"{where}:{number}" for number in range(1, len(lines) + 1)])
    if arguments.output is None:
        show(found)
        return
    try:
        content = "".join(f"{line}\n" for line in found)
        write_text(Path(os.path.realpath(arguments.output)), content)
    except OSError as error:
        raise GammaError(
            f"cannot write {arguments.output}: {error.strerror or error}; give another --output"
        ) from error


def checked(arguments: argparse.Namespace) -> Search:
    """The search that was asked for.

    Raises:
        GammaError: An option's value makes no sense, or OUT cannot be a file.
    """
    for name in ("beams", "max_tokens", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise GammaError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if arguments.output is not None:
        output = Path(arguments.output)
        if not output.parent.is_dir():
            raise GammaError(
                f"--output {output}: there is no folder {output.parent}; make it first"
            )
        if output.exists() and not output.is_file():
            raise GammaError(f"--output {output} is not a file; give a file's name")
    return Search(
        beams=arguments.beams,
        length_penalty=arguments.length_penalty,
        max_tokens=arguments.max_tokens,
    )


def read_input(file: str | None) -> list[str]:
    """The lines of a file, or of standard input.

    Raises:
        GammaError: It cannot be read, or is not UTF-8.
    """
    if file is None:
        return text_lines(sys.stdin.buffer.read(), STDIN)
    return text_lines(read_bytes(Path(file)), file)


def translator(text: TranslationText, model: Any, search: Search, *, tokens: bool) -> Translate:
    """Make the function that translates lines; a line without words stays an empty line.

    Args:
        text: Between text and ids.
        model: Translates ids.
        search: How.
        tokens: Leave the translation tokenised.
    """

    def translate(lines: Sequence[str], names: Sequence[str]) -> list[str]:
        pieces = text.subwords(lines)
        told = [index for index, line in enumerate(pieces) if line.strip()]
        sources = text.encode_source([pieces[index] for index in told])
        check_sources(model, sources, [names[index] for index in told])
        found = text.decode(_with_bar(model, sources, search))
        results = [""] * len(lines)
        for index, line in zip(told, found if tokens else text.plain(found), strict=True):
            results[index] = line
        return results

    return translate


def _with_bar(model: Any, sources: Sequence[Sequence[int]], search: Search) -> list[list[int]]:
    from tqdm import tqdm  # type: ignore[import-untyped]

    off = len(sources) < 2 or not sys.stderr.isatty()
    try:
        with tqdm(total=len(sources), unit=" sentences", disable=off) as bar:
            return decode(model, sources, search, progress=bar.update)
    except torch.OutOfMemoryError as error:
        raise GammaError(
            f"the GPU's memory is not enough for batches of {search.max_tokens} tokens; give a "
            "smaller --max-tokens"
        ) from error


def converse(translate: Translate) -> None:
    """Translate each line of the terminal as it comes; what is wrong with one does not end it."""
    print("gamma-nlp: type a sentence and Enter; end with Ctrl-D", file=sys.stderr, flush=True)
    for line in iter(sys.stdin.buffer.readline, b""):
        try:
            show(translate([line.decode("utf-8", errors="replace").rstrip("\r\n")], ["this line"]))
        except GammaError as error:
            print(f"gamma-nlp: {error}", file=sys.stderr, flush=True)


def show(lines: Sequence[str]) -> None:
    """Print lines in UTF-8, whatever the locale says."""
    sys.stdout.flush()
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode("utf-8"))
    sys.stdout.buffer.flush()
