"""What a run runs on."""

from __future__ import annotations

import sys

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.machine import check_packages, check_processes


def test_a_launch_that_lost_its_processes_is_refused() -> None:
    launched = {"ACCELERATE_MIXED_PRECISION": "no"}
    check_processes(launched)
    check_processes({"MASTER_ADDR": "x"})
    check_processes({**launched, "MASTER_ADDR": "x", "WORLD_SIZE": "2"})
    with pytest.raises(GammaError, match=r"started one.*torchrun --nproc_per_node"):
        check_processes({**launched, "MASTER_ADDR": "127.0.0.1"})


def test_the_first_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(GammaError, match=r"this needs matplotlib: pip install 'gamma_nlp\[x\]'"):
        check_packages(("json", "matplotlib", "nothing_at_all"), "x", "this needs")
