"""What a run runs on."""

from __future__ import annotations

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.machine import check_processes


def test_a_launch_that_lost_its_processes_is_refused() -> None:
    launched = {"ACCELERATE_MIXED_PRECISION": "no"}
    check_processes(launched)
    check_processes({"MASTER_ADDR": "x"})
    check_processes({**launched, "MASTER_ADDR": "x", "WORLD_SIZE": "2"})
    with pytest.raises(GammaError, match=r"started one.*torchrun --nproc_per_node"):
        check_processes({**launched, "MASTER_ADDR": "127.0.0.1"})
