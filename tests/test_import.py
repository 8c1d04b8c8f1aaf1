"""torch alone must be enough for the core; each check needs an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gamma_nlp

HEAVY = (
    "transformers", "datasets", "evaluate", "accelerate", "huggingface_hub", "matplotlib", "yaml",
    "peft", "tensorboard", "pandas", "sacrebleu", "sacremoses", "subword_nmt",
)  # fmt: skip

BLOCK = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None
"""

CORE = """
import torch
from torch import nn
import gamma_nlp

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.linear(self.norm(x))

model = Block()
table = gamma_nlp.categorize(model, torch.randn(2, 3, 4))
assert [str(g.category) for g in table] == ["branch_inner"], table
groups = gamma_nlp.param_groups(model, weight_decay=0.1, table=table)
assert sorted(g["weight_decay"] for g in groups) == [0.0, 0.1], groups
"""


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_brings_in_no_extra() -> None:
    loaded = python(f"import sys, gamma_nlp; print(*[m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded.split() == []


def test_core_works_with_torch_alone() -> None:
    python(BLOCK + CORE)


@pytest.mark.parametrize("name", ["GammaTrainer", "TokenBudgetMixin"])
def test_trainer_without_transformers_names_the_extra(name: str) -> None:
    code = f"""
import gamma_nlp
try:
    gamma_nlp.{name}
except gamma_nlp.GammaError as error:
    print(error)
"""
    assert "pip install 'gamma_nlp[hf]'" in python(BLOCK + code)


def test_every_public_name_is_there() -> None:
    assert [name for name in gamma_nlp.__all__ if getattr(gamma_nlp, name, None) is None] == []
    assert set(gamma_nlp.__all__) <= set(dir(gamma_nlp))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'GamaTrainer'"):
        gamma_nlp.GamaTrainer  # noqa: B018
