"""``python -m gamma_nlp.fairseq COMMAND ...``: every command, for torchrun and without a PATH."""

from __future__ import annotations

import sys

from gamma_nlp.errors import close_to, print_error
from gamma_nlp.fairseq import commands
from gamma_nlp.fairseq.convert.commands import from_transformers, to_transformers

_CONVERSIONS = {"to_transformers": to_transformers, "from_transformers": from_transformers}


def main() -> int:
    """Run the command that the first argument names."""
    names = (*commands.COMMANDS, *_CONVERSIONS)
    typed = [name.replace("_", "-") for name in names]
    usage = f"one of {', '.join(typed)}"
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first in ("-h", "--help"):
        print(f"usage: python -m gamma_nlp.fairseq COMMAND ...\nCOMMAND: {usage}")
        return 0
    command = first.replace("-", "_")
    if command not in names:
        got = f"{first!r} is no command{close_to(first, typed)}" if first else "which command?"
        print_error(f"{got} ({usage})")
        return 2
    # fairseq and hydra read sys.argv themselves, and print its first word in their usage.
    sys.argv[:2] = [f"gamma-fairseq-{command.replace('_', '-')}"]
    return _CONVERSIONS[command]() if command in _CONVERSIONS else commands.run(command)


if __name__ == "__main__":
    sys.exit(main())
