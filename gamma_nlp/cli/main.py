"""The ``gamma-nlp`` command: find the command, run it, print errors without a traceback.

Nothing here imports torch, so that help and mistyped options answer at once. A command imports
what it needs when it runs.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib
import io
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence

import gamma_nlp
from gamma_nlp.cli.common import COMMANDS
from gamma_nlp.errors import FULL, GammaError, about_file, close_to, one_line, print_error
from gamma_nlp.tasks.run.parser import Parser
from gamma_nlp.tasks.run.signals import INTERRUPTED, end_at_interrupt, interrupts_raise

ABOUT = "Weight decay for normalisation gains, by where each gain sits in the model."
EPILOG = """\
Start with: gamma-nlp table MODEL (a hub name, a folder or a config.json).
Options and examples of a command: gamma-nlp COMMAND --help.
Exit codes: 0 fine, 1 the answer is no, 2 wrong use, 130 interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; 2 means a user error."""
    if sys.stdout is None:  # closed by the shell: >&-
        return _refuse("standard output is closed; send it to a file, or to /dev/null")
    if argv is None:
        interrupts_raise()
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except GammaError as error:
        return _refuse(str(error))
    except BrokenPipeError:  # the reader (head, less) has what it wanted
        _drop_output()
        return 0
    except OSError as error:
        if error.filename is None and error.errno in FULL:
            _drop_output()
            return _refuse(f"the output cannot be written: {one_line(error)}")
        return _refuse(about_file(error))
    except UnicodeEncodeError as error:
        return _refuse(
            f"standard output, which is {error.encoding}, cannot show {error.object[error.start]!r}"
            "; set PYTHONIOENCODING=utf-8"
        )
    except KeyboardInterrupt:
        _refuse("interrupted")
        return INTERRUPTED
    finally:
        if argv is None:
            end_at_interrupt()


def _refuse(text: str) -> int:
    print_error(text)
    return 2


def _drop_output() -> None:
    """Keep Python from writing the rest, and complaining, at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    command = next((word for word in words if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        hint = close_to(command, COMMANDS)
        hint = hint or f"; the commands are {', '.join(COMMANDS)}"
        raise GammaError(f"gamma-nlp has no command {command!r}{hint}")
    said = io.StringIO()  # argparse itself ignores a device that is full
    try:
        with contextlib.redirect_stdout(said):
            arguments, unknown = parser([command] if command else []).parse_known_args(words)
    except SystemExit as stop:  # --help and --version end like this
        print(said.getvalue(), end="")
        return int(stop.code or 0)
    if unknown:
        arguments.parser.refuse(unknown)
    with warnings.catch_warnings(), _few_collections():  # a command may silence other libraries
        code: int = arguments.run(arguments)
    return code


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Collect garbage seldom: the imports of torch and transformers make none to speak of.

    At exit the collector would walk all that they made, for a second, only to free it.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    before = gc.get_threshold()
    gc.set_threshold(50_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def parser(wanted: Iterable[str] = COMMANDS) -> argparse.ArgumentParser:
    """Make the argument parser, with the options of the commands that are wanted."""
    questions = "\n".join(f"  {name:11}{question}" for name, question in COMMANDS.items())
    top = Parser(
        prog="gamma-nlp",
        usage="gamma-nlp [--help] [--version] COMMAND ...",
        description=f"{ABOUT}\n\ncommands, and the question that each answers:\n{questions}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"gamma-nlp {gamma_nlp.__version__}")
    commands = top.add_subparsers(
        prog="gamma-nlp", required=True, metavar="COMMAND", help=argparse.SUPPRESS
    )
    for name in sorted(COMMANDS.keys() & set(wanted)):
        importlib.import_module(f"gamma_nlp.cli.{name}").add_parser(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
