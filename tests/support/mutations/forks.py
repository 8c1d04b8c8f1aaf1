"""Run test files in forks of this process, which has loaded what takes long to load.

Reads a run's words and the file for its output from a line, as JSON; answers with its exit code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback

import hypothesis  # noqa: F401
import pytest
import transformers.trainer  # noqa: F401

LONGEST = 600
"""Seconds that a run may take: a mutant may never end."""


def run(words: list[str], output: str) -> int:
    signal.alarm(LONGEST)
    shown = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(shown, sys.stdout.fileno())
    os.dup2(shown, sys.stderr.fileno())
    try:
        return int(pytest.main(words))
    except BaseException:
        traceback.print_exc()
        return int(pytest.ExitCode.INTERNAL_ERROR)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def main() -> None:
    for line in sys.stdin:
        words, output = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(run(words, output))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
