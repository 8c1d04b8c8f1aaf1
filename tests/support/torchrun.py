"""Run a test file as a script in two processes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.paths import ROOT


def two_processes(script: str, *words: str) -> None:
    """Run ``script`` under torchrun with gloo on the CPU; a failure shows what it printed."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc_per_node", "2", script, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
