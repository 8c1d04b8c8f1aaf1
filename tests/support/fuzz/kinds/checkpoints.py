"""Gain tables, and runs whose checkpoints are diagnosed."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from tests.support.fuzz.inputs import Files, Link
from tests.support.fuzz.kind import Kind, Touch, dump, made, torch_bytes
from tests.support.fuzz.kinds.models import BERT


def _gain_table(folder: Path) -> None:
    from gamma_nlp.diagnose.placement import read_table

    read_table(folder / "gain_table.json")


def _gain_table_files() -> dict[str, bytes]:
    from gamma_nlp import categorize
    from tests.support.tiny_models import tiny_bert

    return {"gain_table.json": categorize(tiny_bert()).to_json().encode()}


def _diagnose(folder: Path) -> None:
    from gamma_nlp.diagnose.diagnosis import diagnose
    from gamma_nlp.diagnose.report import report

    report(diagnose([folder / "run"]))


def _diagnose_files() -> tuple[dict[str, bytes], ...]:
    from tests.support.checkpoints import run_of_bert

    state = dump({"global_step": 5, "best_model_checkpoint": "run/checkpoint-5", "log_history": []})
    whole = made(lambda folder: run_of_bert(folder / "run", {5: 1.0, 9: 2.0}, layers=1))
    whole["run/checkpoint-5/trainer_state.json"] = state
    first = {k: v for k, v in whole.items() if "checkpoint-5" in k}
    tensors = {"a.weight": torch.ones(3), "bert.embeddings.LayerNorm.weight": torch.ones(8)}
    place, weights = "run/checkpoint-5", "run/checkpoint-5/model.safetensors"
    index = {"weight_map": {name: "model.safetensors" for name in tensors}}
    config = {f"{place}/config.json": first[f"{place}/config.json"]}
    return (
        whole,
        {**first, **_gain_table_of(place)},
        {**config, f"{place}/pytorch_model.bin": torch_bytes(tensors)},
        {**config, weights: first[weights], f"{place}/model.safetensors.index.json": dump(index)},
    )


def _gain_table_of(place: str) -> dict[str, bytes]:
    return {f"{place}/{name}": data for name, data in _gain_table_files().items()}


def _diagnose_hostile() -> tuple[Files, ...]:
    place = "run/checkpoint-5"
    config = {f"{place}/config.json": dump(BERT)}
    meta = {"x": torch.ones(1).expand(10**6, 10**6)}
    return (
        {**config, f"{place}/pytorch_model.bin": torch_bytes({"a": Touch()})},
        {**config, f"{place}/pytorch_model.bin": pickle.dumps(Touch())},
        {**config, f"{place}/pytorch_model.bin": torch_bytes(meta)},
        {**config, f"{place}/model.safetensors": Link("model.safetensors")},
        {f"{place}/config.json": Link("../../run/checkpoint-5")},
    )


GAIN_TABLES = Kind(good=lambda: (_gain_table_files(),), read=_gain_table, share=3)
CHECKPOINTS = Kind(good=_diagnose_files, read=_diagnose, share=0.8, hostile=_diagnose_hostile)
