"""Run a test file as a script in several processes on this machine, as torchrun would.

The file is imported once, before the processes part: torchrun imports torch in each of them and in
itself, which takes longer than most of these tests.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence

from tests.support.paths import ROOT


def two_processes(script: str, *words: str, processes: int = 2) -> None:
    """Run ``script`` in processes with gloo on the CPU; a failure shows what it printed."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(processes), script, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240 * processes,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def main(processes: int, script: str, words: Sequence[str]) -> int:
    """Part into processes; when one fails, end the others and return 1."""
    runpy.run_path(script, run_name="imported")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = {_fork(rank, processes, port, script, words) for rank in range(processes)}
    failed = 0
    while ranks:
        pid, status = os.wait()
        ranks.remove(pid)
        if status and not failed:
            failed = 1
            for other in ranks:  # they wait for the one that is gone
                os.kill(other, signal.SIGKILL)
    return failed


def _fork(rank: int, processes: int, port: int, script: str, words: Sequence[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for name in ("RANK", "LOCAL_RANK"):
            os.environ[name] = str(rank)
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            os.environ[name] = str(processes)
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        sys.argv = [script, *words]
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
