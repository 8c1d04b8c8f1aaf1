"""Run a test file as a script in several processes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.paths import ROOT


def two_processes(script: str, *words: str, processes: int = 2) -> None:
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
        [*command, "--nproc_per_node", str(processes), script, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240 * processes,
    )
    said = done.stderr.split("torch.distributed.elastic")[0]  # its own report comes behind
    assert done.returncode == 0, said[-4000:]
