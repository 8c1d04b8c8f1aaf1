"""What every recipe's command line shares: errors in one line, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from gamma_nlp.errors import FULL, GammaError, about_file, one_line, print_error
from gamma_nlp.tasks.run.signals import INTERRUPTED, TERMINATED, Terminated, signals_raise

_OURS = ("", "gamma_nlp", "recipes")
_BROUGHT = {
    *("transformers", "tokenizers", "safetensors", "huggingface_hub", "accelerate", "datasets"),
    *("evaluate", "numpy", "pandas", "pyarrow", "matplotlib", "yaml", "tensorboard"),
    *("sacrebleu", "sacremoses", "subword_nmt"),
}
"""Packages that the extras of this package bring; no extra helps where another one is missing."""


def run(
    main: Callable[[Sequence[str]], int | None],
    argv: Sequence[str] | None = None,
    *,
    extra: str = "recipes",
) -> int:
    """Run a recipe's ``main`` and return its exit code.

    Args:
        main: Takes the words of the command line. Import heavy packages inside it, so that a
            missing one is reported here.
        argv: The words; default: those the process was started with, and it ends with this run.
        extra: The extra of this package that brings what the recipe imports.

    Returns:
        What ``main`` returns (``None`` is 0); 2 after a user error; 130 after Ctrl-C; 143 after
        SIGTERM.
    """
    try:
        with signals_raise(to_the_end=argv is None):
            return main(sys.argv[1:] if argv is None else argv) or 0
    except GammaError as error:
        return _say(str(error), 2)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in _OURS:  # a bug of ours, not a missing package
            raise
        what = f"'gamma_nlp[{extra}]'" if name in _BROUGHT else name
        return _say(f"this needs {name}: pip install {what}", 2)
    except OSError as error:
        if error.filename is None and error.errno in FULL:
            return _say(f"the output cannot be written: {one_line(error)}", 2)
        return _say(about_file(error), 2)
    except KeyboardInterrupt as error:
        ended = isinstance(error, Terminated)
        if os.environ.get("RANK", "0") == "0":  # one line, however many processes
            _say(str(error) or ("terminated" if ended else "interrupted"), 0)
        return TERMINATED if ended else INTERRUPTED


def _say(text: str, code: int) -> int:
    print_error(text)
    return code
