"""Gains stand where they stand on the CPU, in float32 and in bfloat16."""

from __future__ import annotations

import pytest
import torch

from gamma_nlp import categorize, probe
from tests.support.families import FAMILIES

pytestmark = pytest.mark.cuda
NAMES = ("bert_cls", "gpt2", "gemma3", "modernbert_mlm", "t5", "bart", "olmo2")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_the_graph_on_the_device_says_what_the_name_table_says(
    name: str, dtype: torch.dtype, device: torch.device
) -> None:
    family = FAMILIES[name]
    known = categorize(family.build(), method="table")
    inputs = {key: value.to(device) for key, value in family.inputs().items()}
    found = categorize(family.build().to(device, dtype), inputs, method="graph")
    assert len(found.gains) > 3
    assert {gain.name: (gain.category, gain.offset) for gain in found} == {
        gain.name: (gain.category, gain.offset) for gain in known
    }
    assert dict(found.roles) == dict(known.roles)


@pytest.mark.parametrize("name", NAMES)
def test_the_probe_on_the_device_agrees(name: str, device: torch.device) -> None:
    family = FAMILIES[name]
    model = family.build().to(device)
    report = probe(model, {key: value.to(device) for key, value in family.inputs().items()})
    assert {finding.verdict for finding in report} == {"agrees"}
