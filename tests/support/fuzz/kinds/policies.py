"""Weight-decay policies, in JSON and YAML."""

from __future__ import annotations

from pathlib import Path

import yaml

from gamma_nlp import DecayPolicy
from tests.support.fuzz.kind import Kind, dump, of

POLICY = {
    "base": "all", "name": "mine", "branch_inner": 0.5, "embedding": None,
    "kinds": {"qk_norm": 0}, "patterns": {"*.bias": 0.1, "h.*": 2}, "mode": "coupled",
    "targets": {"branch_last": "one", "*.b": "start"}, "rounding": "keep",
    "schedule": {"kind": "cosine", "end": 0.1}, "schedules": {"head": "lr_squared"},
}  # fmt: skip


def _policy(folder: Path) -> None:
    for file in folder.iterdir():
        found = DecayPolicy.load(file)
        assert all(0 <= value < float("inf") for value in found.patterns.values())


POLICIES = Kind(
    good=of({"p.json": dump(POLICY)}, {"p.yaml": yaml.safe_dump(POLICY).encode()}),
    read=_policy,
    share=5,
)
