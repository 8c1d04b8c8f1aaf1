"""Fine-tune a small BERT on SST-2 under L1, and write it as a compressed file.

[D] L1 can zero the weights that are smaller than its dose, l1 times the sum of the learning rates:
weights of size 0.04 in 125 steps at a mean rate of 1.5e-4 need an l1 of about 2. Adam moves a
weight by at most about its learning rate per step, so at an l1 near 1 the two are equally strong.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gamma_nlp.companions.strong.compressed import load_compressed, save_compressed
from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from gamma_nlp.errors import need
from gamma_nlp.tasks.glue.tasks import glue_task
from recipes.common.grid_runner import run_cells

SETTINGS: dict[str, Any] = {
    "sentences": 4_000,
    "epochs": 1,
    "batch": 32,
    "lr": 3e-4,
    "max_length": 64,
    "threshold": 0.0,
    "ratio": 4.0,
    "delay": 0.3,
}
CELLS: tuple[dict[str, Any], ...] = (
    {"rule": "none", "l1": 0.0, "seed": 0},
    {"rule": "always", "l1": 1.0, "seed": 0},
    {"rule": "always", "l1": 3.0, "seed": 0},
    {"rule": "delayed", "l1": 3.0, "seed": 0},
)


def train_cell(
    cell: Mapping[str, Any], settings: Mapping[str, Any], model: str, data: str, output: str
) -> dict[str, Any]:
    """Fine-tune once, write the compressed file, load it back and measure the accuracy of both.

    Args:
        cell: ``rule`` (or ``none``), ``l1``, ``seed``.
        settings: Like :data:`SETTINGS`.
        model: Folder of the pretrained model.
        data: Folder of SST-2.
        output: Folder for the compressed files.
    """
    import transformers

    from gamma_nlp.tasks.glue.data import load_glue
    from gamma_nlp.tasks.glue.model import load_classifier
    from gamma_nlp.tasks.glue.tokenizer import encode, load_tokenizer

    transformers.logging.set_verbosity_error()
    start = time.process_time()
    seed = int(cell["seed"])
    torch.manual_seed(seed)
    task, tokenizer = glue_task("sst2"), load_tokenizer(model)
    network = load_classifier(model, task, tokenizer)
    splits = load_glue("sst2", data, splits=("train", "validation"))
    chosen = torch.randperm(len(splits["train"]), generator=torch.Generator().manual_seed(seed))
    rows = splits["train"].select(chosen[: int(settings["sentences"])].tolist())
    length = int(settings["max_length"])
    train = encode(tokenizer, [rows["sentence"][:]], length), rows["label"][:]
    dev_rows = splits["validation"]
    dev = encode(tokenizer, [dev_rows["sentence"][:]], length), dev_rows["label"][:]
    optimizer = torch.optim.AdamW(
        network.named_parameters(), lr=float(settings["lr"]), weight_decay=0.0
    )
    steps = int(settings["epochs"]) * (len(train[1]) // int(settings["batch"]))
    strong = None
    if cell["rule"] != "none":
        strong = StrongRegularizer(
            optimizer,
            model=network,
            l1=float(cell["l1"]),
            rule=cell["rule"],
            delay_steps=round(settings["delay"] * steps) if cell["rule"] == "delayed" else 0,
            threshold=float(settings["threshold"]),
            ratio=float(settings["ratio"]),
        )
    dose = _train(network, optimizer, train, settings, steps)
    accuracy = _accuracy(network, dev, tokenizer.pad_token_id)
    path = Path(output) / f"{cell['rule']}-{cell['l1']:g}-{seed}.safetensors"
    file = save_compressed(network, path)
    report = None if strong is None else strong.report()
    again = load_classifier(model, task, tokenizer)
    load_compressed(path, again)
    return {
        "accuracy": accuracy,
        "loaded_accuracy": _accuracy(again, dev, tokenizer.pad_token_id),
        "sum_of_rates": dose,
        "dense_bytes": file.dense_bytes,
        "file_bytes": file.file_bytes,
        "compression": file.compression,
        "sparsity": file.sparsity,
        "weights": report and report.sparsity,
        "weights_elements": report and sum(row.elements for row in report.rows),
        "acted": report and report.acted,
        "coherence": report and report.coherence,
        "steps": steps,
        "cpu_seconds": round(time.process_time() - start, 2),
    }


Encoded = tuple[dict[str, Any], list[int]]


def _batch(data: Encoded, rows: Sequence[int], pad: int) -> dict[str, torch.Tensor]:
    """Pad to the longest; there is one segment, so the model sets the token types."""
    ids = [torch.as_tensor(data[0]["input_ids"][i]) for i in rows]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad)
    lengths = torch.tensor([len(one) for one in ids])
    mask = torch.arange(padded.shape[1]) < lengths[:, None]
    labels = torch.tensor([data[1][i] for i in rows])
    return {"input_ids": padded.long(), "attention_mask": mask.long(), "labels": labels}


def _train(
    network: Any,
    optimizer: torch.optim.Optimizer,
    data: Encoded,
    settings: Mapping[str, Any],
    steps: int,
) -> float:
    """Train; return the sum of the learning rates."""
    network.train()
    batch, pad = int(settings["batch"]), network.config.pad_token_id
    lengths = [len(ids) for ids in data[0]["input_ids"]]
    total, per_epoch = 0.0, steps // int(settings["epochs"])
    for step in range(steps):
        at = step % per_epoch
        if at == 0:  # similar lengths within a batch, batches in random order
            order = sorted(torch.randperm(len(lengths)).tolist(), key=lengths.__getitem__)
            first = torch.randperm(per_epoch).tolist()
        rows = order[first[at] * batch : (first[at] + 1) * batch]
        rate = float(settings["lr"]) * min((step + 1) / (0.1 * steps), (steps - step) / steps, 1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        total += rate
        optimizer.zero_grad()
        network(**_batch(data, rows, pad)).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return total


@torch.no_grad()
def _accuracy(network: Any, data: Encoded, pad: int) -> float:
    network.eval()
    lengths = [len(ids) for ids in data[0]["input_ids"]]
    order, right = sorted(range(len(lengths)), key=lengths.__getitem__), 0
    for start in range(0, len(order), 64):
        batch = _batch(data, order[start : start + 64], pad)
        labels = batch.pop("labels")
        right += int((network(**batch).logits.argmax(1) == labels).sum())
    return 100 * right / len(order)


def run_finetuning(texts: Sequence[str], output: Path, jobs: int | None) -> dict[str, Any]:
    """Fine-tune every cell and print a table; return what goes into results.json.

    Args:
        texts: Folders of the model and of SST-2.
        output: Folder of the whole experiment.
        jobs: Worker processes.

    Raises:
        GammaError: transformers or datasets is not installed, or a cell failed.
    """
    need("datasets", "recipes", "--minilm needs")
    need("transformers", "recipes", "--minilm needs")
    folder = output / "sst2"
    done = run_cells(
        train_cell,
        CELLS,
        folder,
        settings=SETTINGS,
        arguments=[*texts, str(folder)],
        jobs=jobs,
    )
    print(
        f"\nfine-tuned on {SETTINGS['sentences']:,} sentences of SST-2, accuracy on its 872 dev "
        f"sentences; dense {done[0].result['dense_bytes'] / 1e6:.1f} MB",
        f"{'rule':<10} {'l1':>5}  {'accuracy':>8}  {'loaded':>6}  {'zeros, weights':>14}  "
        f"{'on disk':>9}  {'dense / file':>12}",
        sep="\n",
    )
    for one in done:
        r = one.result
        print(
            f"{one.cell['rule']:<10} {one.cell['l1']:>5g}  {r['accuracy']:>8.2f}  "
            f"{r['loaded_accuracy']:>6.2f}  {(r['weights'] or 0):>14.1%}  "
            f"{r['file_bytes'] / 1e6:>6.1f} MB  {r['compression']:>12.2f}"
        )
    return {
        "settings": dict(SETTINGS),
        "cells": [{"cell": one.cell, "result": one.result} for one in done],
        "cpu_seconds": round(sum(one.result["cpu_seconds"] for one in done), 1),
    }
