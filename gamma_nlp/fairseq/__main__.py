"""``python -m gamma_nlp.fairseq COMMAND ...``: the commands where there is no entry point."""

from __future__ import annotations

import sys

from gamma_nlp.fairseq import commands
from gamma_nlp.fairseq.convert import commands as convert_commands

_CONVERT = {
    "to_transformers": convert_commands.to_transformers,
    "from_transformers": convert_commands.from_transformers,
}


def main() -> int:
    """Run the command that the first word names."""
    command = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else ""
    if command not in (*commands.COMMANDS, *_CONVERT):
        names = ", ".join((*commands.COMMANDS, *_CONVERT)).replace("_", "-")
        print(f"error: expected a command: one of {names}", file=sys.stderr)
        return 2
    del sys.argv[1]
    return _CONVERT[command]() if command in _CONVERT else commands.run(command)


if __name__ == "__main__":
    sys.exit(main())
