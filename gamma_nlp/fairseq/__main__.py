"""``python -m gamma_nlp.fairseq COMMAND ...``: the commands where there is no entry point."""

from __future__ import annotations

import sys

from gamma_nlp.fairseq import commands


def main() -> int:
    """Run the command that the first word names."""
    command = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else ""
    if command not in commands.COMMANDS:
        names = ", ".join(commands.COMMANDS).replace("_", "-")
        print(f"error: expected a command: one of {names}", file=sys.stderr)
        return 2
    del sys.argv[1]
    return commands.run(command)


if __name__ == "__main__":
    sys.exit(main())
