"""``gamma-nlp translate``: plain text in, its translation by a trained run out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma_nlp.cli.common import add_command, add_trust, need_transformers, note
from gamma_nlp.errors import GammaError, need_installed, one_line, print_error
from gamma_nlp.files.read import read_bytes, text_lines
from gamma_nlp.files.write import new_file

if TYPE_CHECKING:
    from gamma_nlp.tasks.translation.decode import Search
    from gamma_nlp.tasks.translation.text import TranslationText

STDIN = "standard input"

PART = 10_000
"""Lines that are prepared, translated and written at a time, so that memory is that of so many."""

EXAMPLES = """\
  gamma-nlp translate RUN input.de -o output.en
  echo "Ein Hund." | gamma-nlp translate RUN
  gamma-nlp translate RUN input.de --checkpoint best --beams 1"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(
        commands, "translate", run=run, examples=EXAMPLES,
        description="Translates FILE, one sentence a line, with a model that\n"
        "recipes/translation.py trained. Write plain text: it is prepared as the training\n"
        "text was. Lines are written as they come; OUT takes its name when it is whole.",
    )  # fmt: skip
    parser.add_argument("run_folder", metavar="RUN", help="the run's output_dir")
    parser.add_argument(
        "file", metavar="FILE", nargs="?",
        help="UTF-8 text (standard input; from a terminal, line by line)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="OUT", help="write here (standard output)")
    parser.add_argument(
        "--checkpoint", metavar="NAME",
        help="averaged, best, last or checkpoint-N (averaged; last while the run is unfinished)",
    )  # fmt: skip
    # The defaults are those of Search, which imports torch.
    parser.add_argument("--beams", metavar="N", type=int, help="(5)")
    parser.add_argument(
        "--length-penalty", metavar="P", type=float,
        help="above 1 prefers longer translations, below 1 shorter ones (1.0)",
    )  # fmt: skip
    parser.add_argument(
        "--max-tokens", metavar="N", type=int,
        help="size of a batch: sentences, times beams, times tokens of the longest (4096)",
    )  # fmt: skip
    parser.add_argument("--tokens", action="store_true", help="print tokenised text")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (torch's choice)")
    add_trust(parser, "RUN")


def run(arguments: argparse.Namespace) -> int:
    """Translate a file, standard input, or what is typed."""
    need_transformers("translate")
    need_installed(("sacremoses", "subword_nmt"), "translation", "gamma-nlp translate needs")
    import torch

    from gamma_nlp.hf.hub import hush
    from gamma_nlp.tasks.run.machine import set_threads
    from gamma_nlp.tasks.translation.checkpoints import find_model, load_saved
    from gamma_nlp.tasks.translation.text import TranslationText

    search = checked(arguments)
    set_threads(arguments.threads)
    hush()
    text = TranslationText.load(arguments.run_folder)
    folder = find_model(arguments.run_folder, arguments.checkpoint)
    interactive = arguments.file is None and arguments.output is None and sys.stdin.isatty()
    lines = [] if interactive else read_input(arguments.file)
    if arguments.checkpoint is None and folder.name.startswith("checkpoint-"):
        note(f"{arguments.run_folder} is not finished; translating with {folder.name}")
    model = load_saved(folder, trust_remote_code=arguments.trust_remote_code)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    translator = Translator(text=text, model=model, search=search, tokens=arguments.tokens)
    if interactive:
        converse(translator)
        return 0
    found = in_parts(translator, lines, arguments.file or STDIN)
    if arguments.output is None:
        for part in found:
            show(part)
        return 0
    try:
        with new_file(Path(os.path.realpath(arguments.output))) as file:
            for part in found:
                file.write(_bytes(part))
    except OSError as error:
        raise GammaError(
            f"cannot write {arguments.output}: {one_line(error)}; give another --output"
        ) from error
    return 0


def checked(arguments: argparse.Namespace) -> Search:
    """Return the search that the options describe.

    Raises:
        GammaError: An option's value makes no sense, or OUT cannot be a file.
    """
    from gamma_nlp.tasks.run.machine import check_threads
    from gamma_nlp.tasks.translation.decode import Search

    check_threads(arguments.threads, "--threads")
    if arguments.output is not None:
        output = Path(arguments.output)
        if not output.parent.is_dir():
            raise GammaError(
                f"--output {output}: there is no folder {output.parent}; make it first"
            )
        if output.exists() and not output.is_file():
            raise GammaError(f"--output {output} is not a file; give a file's name")
        if output.exists():
            _keep(output, arguments)
    options = {name: getattr(arguments, name) for name in ("beams", "length_penalty", "max_tokens")}
    try:
        return Search(**{name: value for name, value in options.items() if value is not None})
    except GammaError as error:  # length_penalty must ...: name the option as it is typed
        field, space, rest = str(error).partition(" ")
        raise GammaError(f"--{field.replace('_', '-')}{space}{rest}") from error


def _keep(output: Path, arguments: argparse.Namespace) -> None:
    """Raise if an output that is there already is the input, or a file of the run."""
    there = os.stat(output)
    try:
        source = os.fstat(sys.stdin.fileno()) if arguments.file is None else os.stat(arguments.file)
    except (OSError, ValueError, AttributeError):  # no such file, or no real standard input
        source = None
    if source is not None and os.path.samestat(there, source):
        name = arguments.file or STDIN
        raise GammaError(
            f"--output {output} is the same file as {name}, whose text would be lost; give another"
        )
    if Path(arguments.run_folder).resolve() in output.resolve().parents:
        raise GammaError(f"--output {output} is a file of the run, which it needs; give another")


def read_input(file: str | None) -> list[str]:
    """Return the lines of a file, or of standard input.

    Raises:
        GammaError: It cannot be read, or is not UTF-8.
    """
    if file is None:
        return text_lines(sys.stdin.buffer.read(), STDIN)
    return text_lines(read_bytes(Path(file)), file)


@dataclass(frozen=True, kw_only=True)
class Translator:
    """Translates lines; a line without words stays an empty line.

    Attributes:
        text: Turns text into ids and back.
        model: Translates ids.
        search: How to search.
        tokens: Leave the translation tokenised.
    """

    text: TranslationText
    model: Any
    search: Search
    tokens: bool

    def check(self, lines: Sequence[str], names: Sequence[str]) -> None:
        """Raise if the model cannot take one of the lines; its name is in the error."""
        self._sources(lines, names)

    def translate(
        self, lines: Sequence[str], names: Sequence[str], progress: Callable[[int], Any]
    ) -> list[str]:
        """Return the translations; the names of the lines are for errors."""
        import torch

        from gamma_nlp.tasks.translation.decode import decode

        filled, sources = self._sources(lines, names)
        try:
            found = self.text.decode(decode(self.model, sources, self.search, progress=progress))
        except torch.OutOfMemoryError as error:
            raise GammaError(
                f"the GPU has too little memory for batches of {self.search.max_tokens} tokens; "
                "give a smaller --max-tokens"
            ) from error
        results = [""] * len(lines)
        for index, line in zip(
            filled, found if self.tokens else self.text.plain(found), strict=True
        ):
            results[index] = line
        return results

    def _sources(
        self, lines: Sequence[str], names: Sequence[str]
    ) -> tuple[list[int], list[list[int]]]:
        from gamma_nlp.tasks.translation.decode import check_sources

        pieces = self.text.subwords(lines)
        filled = [index for index, line in enumerate(pieces) if line.strip()]
        sources = self.text.encode_source([pieces[index] for index in filled])
        check_sources(self.model, sources, [names[index] for index in filled])
        return filled, sources


def in_parts(translator: Translator, lines: Sequence[str], where: str) -> Iterator[list[str]]:
    """Yield the translations of lines, so many at a time; all are checked before the first.

    Args:
        translator: What translates them.
        lines: The lines.
        where: What to call their file in an error.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    def parts() -> Iterator[tuple[Sequence[str], Sequence[str]]]:
        for at in range(0, len(lines), PART):
            part = lines[at : at + PART]
            yield part, [f"{where}:{number}" for number in range(at + 1, at + 1 + len(part))]

    if len(lines) > PART:  # else the part is checked before it is translated
        for part, names in parts():
            translator.check(part, names)
    filled = sum(bool(line.strip()) for line in lines)
    off = filled < 2 or not sys.stderr.isatty()
    with tqdm(total=filled, unit=" sentences", disable=off) as bar:
        for part, names in parts():
            yield translator.translate(part, names, bar.update)


def converse(translator: Translator) -> None:
    """Translate each line of the terminal as it comes; an error ends the line, not the session."""
    note("type a sentence, then Enter; end with Ctrl-D")
    for line in iter(sys.stdin.buffer.readline, b""):
        try:
            typed = line.decode("utf-8", errors="replace").rstrip("\r\n")
            show(translator.translate([typed], ["this line"], lambda _: None))
        except GammaError as error:
            print_error(error)


def show(lines: Sequence[str]) -> None:
    """Print lines in UTF-8, whatever the locale says."""
    sys.stdout.flush()
    sys.stdout.buffer.write(_bytes(lines))
    sys.stdout.buffer.flush()


def _bytes(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")
