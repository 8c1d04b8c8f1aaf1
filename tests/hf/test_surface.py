"""What ``gamma_nlp.hf`` hands on, with and without the packages of its extra."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import pytest

import gamma_nlp.hf

NAMES = {
    "AuditCallback",
    "PairCollator",
    "TokenBatches",
    "TokenBudget",
    "TokenBudgetMixin",
    "keep_positions",
    "load_regrouped",
}


@pytest.mark.needs("transformers", "accelerate")
def test_every_name_is_listed_and_found() -> None:
    assert set(gamma_nlp.hf.__all__) == NAMES <= set(dir(gamma_nlp.hf))
    assert set(dict(inspect.getmembers(gamma_nlp.hf))) >= NAMES
    assert {getattr(gamma_nlp.hf, name).__name__ for name in NAMES} == NAMES
    namespace: dict[str, object] = {}
    exec("from gamma_nlp.hf import *", namespace)
    assert namespace.keys() >= NAMES
    assert "TokenBudgetMixin" in pydoc.render_doc(gamma_nlp.hf)
    assert not hasattr(gamma_nlp.hf, "Trainer")


def without(packages: str, script: str) -> str:
    """Run a script where packages cannot be imported, and return what it prints."""
    block = f"import sys; sys.modules.update(dict.fromkeys({packages.split()}))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{block}\n{script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


SHOW = """
import inspect, pydoc
import gamma_nlp.hf
inspect.getmembers(gamma_nlp.hf)
pydoc.render_doc(gamma_nlp.hf)
from gamma_nlp.hf import *
assert callable(load_regrouped) and callable(keep_positions)
missing = []
for name in NAMES:
    try:
        exec(f"from gamma_nlp.hf import {name}")
        assert name in dir(gamma_nlp.hf) and name in gamma_nlp.hf.__all__ and name in globals()
    except ImportError as error:
        assert name not in dir(gamma_nlp.hf) and name not in gamma_nlp.hf.__all__
        missing.append(str(error))
print(*missing, sep="\\n")
"""


@pytest.mark.parametrize(
    ("packages", "messages"),
    [
        (
            "transformers",
            [
                f"{name} needs transformers: pip install 'gamma_nlp[hf]'"
                for name in ("AuditCallback", "TokenBudgetMixin")
            ],
        ),
        (
            "transformers numpy",
            [
                "AuditCallback needs transformers: pip install 'gamma_nlp[hf]'",
                *(
                    f"{name} needs numpy: pip install 'gamma_nlp[hf]'"
                    for name in sorted(
                        NAMES - {"AuditCallback", "keep_positions", "load_regrouped"}
                    )
                ),
            ],
        ),
    ],
)
def test_a_missing_package_costs_the_names_that_need_it(packages: str, messages: list[str]) -> None:
    script = f"NAMES = {sorted(NAMES)}\n{SHOW}"
    assert without(packages, script).splitlines() == messages
