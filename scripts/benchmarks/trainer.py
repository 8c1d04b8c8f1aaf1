"""Time training with GammaTrainer against the stock Trainer, with equal settings.

    python scripts/benchmarks/trainer.py [speed|memory|all] [--json FILE] [--threads N]

speed    two trainings at once in one process, a step of each in turn; only the steps count
memory   the peak of a process of its own each, in turn

Times mean something on a quiet machine only. ``--quick`` runs everything on tiny sizes, to check
that it works, and judges nothing. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import copy
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from table import Bench, Row, build, report, set_device, table_parser
from transformers import PrinterCallback, Trainer, TrainingArguments
from turns import in_turns

from gamma_nlp.hf.trainer import GammaTrainer
from gamma_nlp.tasks.run.main import run

# The last one's gains are stored as 1 + weight and decayed by the step hook.
MODELS: dict[str, tuple[str, tuple[int, ...]]] = {
    "BERT, 6 x 256": ("BertForSequenceClassification", (6, 256, 1024, 4, 4, 8192)),
    "GPT-2, 6 x 256": ("GPT2LMHeadModel", (6, 256, 1024, 4, 4, 8192)),
    "Gemma 3, 6 x 256": ("Gemma3ForCausalLM", (6, 256, 1024, 4, 1, 8192)),
}
KINDS: dict[str, type[Trainer]] = {"stock": Trainer, "ours": GammaTrainer}
POLICY: dict[str, Any] = {"ours": {"decay_policy": "all"}}  # the one with most to do
BATCH, WIDTH = 8, 64


def rows(model: Any, steps: int) -> list[dict[str, torch.Tensor]]:
    """Return the examples of a training, random and the same each time."""
    draw = torch.Generator().manual_seed(0)
    size = (steps * BATCH, WIDTH)
    ids = torch.randint(1, model.config.vocab_size, size, generator=draw)
    labels = ids if "LM" in type(model).__name__ else torch.zeros(len(ids), dtype=torch.long)
    return [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]


def make_trainer(kind: str, model: Any, folder: str, options: argparse.Namespace) -> Trainer:
    args = TrainingArguments(
        folder,
        per_device_train_batch_size=BATCH,
        max_steps=options.steps,
        learning_rate=1e-4,  # with this decay no rounding defers anything
        weight_decay=0.1,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not options.cuda,
    )
    data: Any = rows(model, options.steps)
    trainer = KINDS[kind](model, args, train_dataset=data, **POLICY.get(kind, {}))
    trainer.remove_callback(PrinterCallback)
    return trainer


def new_model(name: str, options: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    kind, sizes = MODELS[name]
    return build(kind, options.quick, sizes, pad_token_id=0)


def bench_speed(options: argparse.Namespace) -> Iterator[Row]:
    for name in options.models:
        model = new_model(name, options)
        times: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
        for index in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                trainers = {
                    kind: make_trainer(kind, copy.deepcopy(model), folder, options)
                    for kind in KINDS
                }
                for kind, found in in_turns(trainers, list(KINDS)[index % 2]).items():
                    times[kind].append(found[2:])  # the first ones find the memory
        medians = {kind: np.median(found, axis=1) for kind, found in times.items()}
        ratios = np.median(np.divide(times["stock"], times["ours"]), axis=1)
        speed = float(np.median(ratios))
        before, after = (1e3 * float(np.median(medians[kind])) for kind in KINDS)
        detail = (
            f"median of {options.rounds} rounds of {options.steps} steps, "
            f"{ratios.min():.3f} to {ratios.max():.3f}; {before:.1f} -> {after:.1f} ms a step"
        )
        yield Row(f"speed, {name}", f"{speed:.3f} x", ">= 0.99", speed >= 0.99, detail, times)


def bench_memory(options: argparse.Namespace) -> Iterator[Row]:
    for name in options.models:
        peaks: dict[str, list[int]] = {kind: [] for kind in KINDS}
        for turn in range(options.rounds_of_memory):
            for kind in list(KINDS) if turn % 2 == 0 else list(KINDS)[::-1]:
                command = [sys.executable, __file__, "memory", "--one", kind, name]
                command += ["--steps", str(options.steps), "--device", options.device]
                command += ["--threads", str(torch.get_num_threads())]
                command += ["--quick"] * options.quick
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                peaks[kind].append(int(done.stdout.split()[-1]))
        before, after = (float(np.median(peaks[kind])) for kind in KINDS)
        found = after / before
        detail = (
            f"medians of {options.rounds_of_memory} processes each, {before / 2**20:.0f} -> "
            f"{after / 2**20:.0f} MB"
        )
        yield Row(f"peak memory, {name}", f"{found:.4f} x", "<= 1.01", found <= 1.01, detail, peaks)


BENCHES: dict[str, Bench] = {"speed": bench_speed, "memory": bench_memory}


def peak(kind: str, name: str, options: argparse.Namespace) -> int:
    """Train once in this process; return its peak memory in bytes."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        make_trainer(kind, new_model(name, options), folder, options).train()
    if options.cuda:
        return torch.cuda.max_memory_allocated()
    scale = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = table_parser(__doc__, BENCHES)
    parser.add_argument("--rounds", type=int, default=10, help="trainings of each, for the speed")
    parser.add_argument("--steps", type=int, default=30, help="of one training")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    set_device(options)
    if options.quick:
        options.rounds, options.steps = 2, 4
    options.rounds_of_memory = 1 if options.quick else 3
    return options


def main(argv: Sequence[str]) -> int:
    options = arguments(argv)
    if options.one:
        print(peak(*options.one, options))
        return 0
    return report(options, BENCHES)


if __name__ == "__main__":
    sys.exit(run(main))
