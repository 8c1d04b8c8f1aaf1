"""What every recipe's command line shares: errors in one line, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from gamma_nlp.errors import GammaError


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
        argv: The words; default: those the process was started with.
        extra: The extra of this package that brings what the recipe imports.

    Returns:
        What ``main`` returns (``None`` is 0); 2 after an error of the user's; 130 after Ctrl-C.
    """
    try:
        return main(sys.argv[1:] if argv is None else argv) or 0
    except GammaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "gamma_nlp", "recipes"):  # a mistake of ours, not a missing package
            raise
        print(f"error: this needs {name}: pip install 'gamma_nlp[{extra}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
