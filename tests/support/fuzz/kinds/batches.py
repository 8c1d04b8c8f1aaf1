"""Batches that were saved with torch."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.support.fuzz.inputs import Files
from tests.support.fuzz.kind import Kind, Touch, torch_bytes


def _batch(folder: Path) -> None:
    from gamma_nlp.cli.probe import _saved

    _saved(folder / "batch.pt", _bert())


@cache
def _bert() -> Any:
    from tests.support.tiny_models import tiny_bert

    return tiny_bert()


def _batch_files() -> tuple[dict[str, bytes], ...]:
    batch = {"input_ids": torch.arange(6).view(1, 6), "attention_mask": torch.ones(1, 6)}
    return ({"batch.pt": torch_bytes(batch)},)


def _batch_hostile() -> tuple[Files, ...]:
    return {"batch.pt": torch_bytes(Touch())}, {"batch.pt": pickle.dumps({"input_ids": Touch()})}


BATCHES = Kind(good=_batch_files, read=_batch, share=1.5, hostile=_batch_hostile)
