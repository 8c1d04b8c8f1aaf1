"""Time what gamma_nlp adds to a training run, and compare it with the goals.

    python scripts/benchmarks/core.py [table|graph|step|sst2|all] [--json FILE] [--threads N]

table   categorize() by name table, for a Llama of 70 B parameters on the meta device
graph   categorize() by residual graph, for Llamas of hidden size 4096 on the meta device
step    an AdamW step with ``guidelines`` groups, against the stock Trainer's two groups
sst2    training on SST-2 as the recipe batches it, against padding each sentence to 128 tokens

Times mean something on a quiet machine only. ``--quick`` runs everything on tiny sizes, to check
that it works, and judges nothing. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from table import Bench, Row, build, report, seconds, set_device, table_parser

import gamma_nlp
from gamma_nlp.hf.batches.by_length import Encoded, Padder
from gamma_nlp.tasks.glue.data import load_glue
from gamma_nlp.tasks.glue.opinions import opinions
from gamma_nlp.tasks.glue.tokenizer import encode, load_tokenizer, train_tokenizer
from gamma_nlp.tasks.glue.train import FinetuneTrainer
from gamma_nlp.tasks.run.main import run

# Without sizes: those of the default config.
STEP_MODELS: tuple[tuple[str, float, str, tuple[int, ...]], ...] = (
    ("BERT-base", 1.02, "BertForSequenceClassification", ()),
    ("GPT-2 small", 1.02, "GPT2LMHeadModel", ()),
    ("Gemma 3, 26 x 640", 1.05, "Gemma3ForCausalLM", (26, 640, 2048, 4, 1, 32768)),
    ("BERT, 24 x 512", 1.05, "BertForSequenceClassification", (24, 512, 2048, 8, 8, 30522)),
)
BATCH, PAD_TO = 32, 128
RATE, DECAY = 1e-4, 0.1  # large enough that rounding leaves the decay alone, so none is deferred


def bench_table(options: argparse.Namespace) -> Iterator[Row]:
    with torch.device("meta"):
        model = build("LlamaForCausalLM", options.quick, (80, 8192, 28672, 64, 8, 128256))
    times = [seconds(lambda: gamma_nlp.categorize(model, method="table")) for _ in range(5)]
    size = sum(p.numel() for p in model.parameters())
    what, worst = f"table, Llama of {size / 1e9:.1f} B", max(times)
    yield Row(what, f"{worst:.3f} s", "< 1 s", worst < 1, "slowest of 5", {"seconds": times})


def bench_graph(options: argparse.Namespace) -> Iterator[Row]:
    depths = (1, 2, 4) if options.quick else (8, 32, 128)

    def once(depth: int) -> float:
        with torch.device("meta"):
            sizes = (depth, 4096, 11008, 32, 32, 32000)
            model = build("LlamaForCausalLM", options.quick, sizes)
        return seconds(lambda: gamma_nlp.categorize(model, method="graph"))

    first = once(depths[1])  # with imports and cold caches, like a user's first call
    what, detail = f"graph, Llama, {depths[1]} layers", "first call of the process"
    yield Row(what, f"{first:.2f} s", "< 10 s", first < 10, detail, {"seconds": first})
    times = {depth: float(np.median([once(depth) for _ in range(3)])) for depth in depths}
    exponent = float(np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0])
    what = f"graph, {' / '.join(map(str, times))} layers"
    detail = f"{' / '.join(f'{t / n:.4f}' for n, t in times.items())} s per layer, median of 3"
    yield Row(what, f"layers^{exponent:.2f}", "", None, detail, {"seconds": times})


def stock_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the stock Trainer's two groups, by its own rule."""
    decayed = set(transformers.Trainer.get_decay_parameter_names(None, model))
    split: tuple[list[Any], list[Any]] = ([], [])
    for name, parameter in model.named_parameters():
        split[name not in decayed].append(parameter)
    return [{"params": split[i], "weight_decay": (weight_decay, 0.0)[i]} for i in range(2)]


def paired_steps(models: Sequence[Any], repeats: int, **kwargs: Any) -> tuple[np.ndarray, Any]:
    """Return step times of shape (2 halves, pairs, stock and ours), and our optimizer.

    The two take turns, each on its own copy of the model, and alternate who goes first. For the
    second half they swap copies, since a copy's place in memory alone changes times by per cents.
    """
    times = np.empty((2, -(-repeats // 2), 2))
    for half in range(2):
        adamw, copied = torch.optim.AdamW, models[1 - half]
        stock = adamw(stock_groups(models[half], DECAY), lr=RATE, **kwargs)
        ours = gamma_nlp.make_optimizer(adamw, copied, weight_decay=DECAY, lr=RATE, **kwargs)
        both = (stock, ours)
        gc.collect()
        gc.disable()
        for optimizer in both * 3:  # makes the states, warms up
            optimizer.step()
        for pair in range(times.shape[1]):
            for which in (0, 1) if pair % 2 == 0 else (1, 0):
                times[half, pair, which] = seconds(both[which].step)
        gc.enable()
    return times, ours


def ratio(times: np.ndarray) -> float:
    """Return our median time over stock's; the mean over both halves cancels the copies' bias."""
    medians = np.median(times, axis=1)
    return float(np.sqrt(np.prod(medians[:, 1] / medians[:, 0])))


def pass_seconds(model: Any, options: argparse.Namespace) -> float:
    """Return the time of a forward and a backward pass of 8 x 128 tokens, the shorter of two."""
    size = (2, 8) if options.quick else (8, 128)
    ids = torch.randint(model.config.vocab_size, size, device=options.device)
    labels = ids if "LM" in type(model).__name__ else torch.zeros(len(ids), dtype=torch.long)
    batch = {"input_ids": ids, "labels": labels.to(options.device)}

    def both() -> None:
        model(**batch).loss.backward()
        if options.device == "cuda":
            torch.cuda.synchronize()

    return min(seconds(both) for _ in range(2))


def bench_step(options: argparse.Namespace) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    for name, goal, kind, sizes in STEP_MODELS:
        torch.manual_seed(0)
        model = build(kind, options.quick, sizes).to(options.device)
        passes = pass_seconds(model, options)
        model.zero_grad()
        models = (model, copy.deepcopy(model))
        for one, other in zip(*(m.parameters() for m in models), strict=True):
            one.grad = torch.randn_like(one) * 1e-3
            other.grad = one.grad.clone()
        for way in ("foreach", "fused"):
            times, ours = paired_steps(models, options.repeats, **{way: True})
            found, pairs = ratio(times), times.shape[1]
            draws = rng.integers(pairs, size=(1000, pairs))
            low, high = np.quantile([ratio(times[:, draw]) for draw in draws], (0.025, 0.975))
            first, third = np.quantile(times[..., 1] / times[..., 0], (0.25, 0.75))
            before, after = 1e3 * np.median(times.reshape(-1, 2), axis=0)
            groups = ours.param_groups
            hooked = sum(len(g["params"]) for g in groups if "gamma_part" in g)
            detail = (
                f"95 % {low:.3f}..{high:.3f}, IQR of {2 * pairs} pairs {first:.3f}..{third:.3f}, "
                f"{before:.2f} -> {after:.2f} ms, {len(list(model.parameters()))} tensors, "
                f"{len(groups)} groups, {hooked} gains by hook, step and hook are "
                f"{after / (after + 1e3 * passes):.0%} of training on 8 x 128 tokens"
            )
            what, want, raw = f"step {way}, {name}", f"<= {goal:.2f}", {"seconds": times.tolist()}
            yield Row(what, f"{found:.4f}", want, found <= goal, detail, raw)
        del model, models, one, other, ours, groups  # gigabytes that the next model needs


def read_sentences(options: argparse.Namespace, count: int) -> tuple[list[str], list[int]]:
    if options.data is None:
        texts, labels = zip(*opinions(count), strict=True)
        return list(texts), list(labels)
    rows = load_glue("sst2", options.data, splits=("train",))["train"]
    rows = rows.select(np.random.default_rng(0).permutation(len(rows))[:count])
    return rows["sentence"][:], rows["label"][:]


def train_once(options: argparse.Namespace, vocab: int, kind: Any, order: str, parts: Any) -> float:
    """Return the seconds of one epoch with the trainer class ``kind``, without start-up."""
    torch.manual_seed(0)
    sizes = (6, 384, 1536, 12, 12)  # of MiniLM-L6
    model = build("BertForSequenceClassification", options.quick, sizes, vocab_size=vocab)
    with tempfile.TemporaryDirectory() as folder:
        args = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            weight_decay=0.01,
            bf16=options.precision == "bf16",
            train_sampling_strategy=order,
            use_cpu=options.device == "cpu",
            dataloader_pin_memory=options.device == "cuda",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = kind(model=model, args=args, **parts)
        trainer.remove_callback(transformers.PrinterCallback)
        return float(trainer.train().metrics["train_runtime"])


def bench_sst2(options: argparse.Namespace) -> Iterator[Row]:
    texts, labels = read_sentences(options, 96 if options.quick else options.sentences)
    saved = options.tokenizer
    tokenizer = load_tokenizer(saved) if saved else train_tokenizer(texts, 30522)
    vocab = max(len(tokenizer), 30522)
    bucketed = Encoded(encode(tokenizer, [texts], PAD_TO), labels)
    columns = tokenizer(texts, padding="max_length", truncation=True, max_length=PAD_TO)
    columns["labels"] = labels
    padded = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    collate = Padder({"input_ids": tokenizer.pad_token_id}, multiple=8 if options.cuda else 1)
    ours: Any = {"train_dataset": bucketed, "data_collator": collate}
    ways = [(transformers.Trainer, "random", {"train_dataset": padded})]
    ways.append((FinetuneTrainer, "group_by_length", ours))
    rounds = 1 if options.quick else 3
    times = np.empty((rounds, 2))
    train_once(options, vocab, *ways[1])  # warms up
    for i in range(rounds):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            times[i, which] = train_once(options, vocab, *ways[which])
    count, tokens = len(texts), int(bucketed.lengths.sum())  # no padding
    each, (stock, mine) = times[:, 0] / times[:, 1], np.median(times, axis=0)
    detail = (
        f"{each.min():.2f}..{each.max():.2f} in {rounds} rounds, {count / stock:.1f} -> "
        f"{count / mine:.1f} sentences/s, {tokens / stock:.0f} -> {tokens / mine:.0f} tokens/s, "
        f"{count} {'SST-2' if options.data else 'generated'} sentences, mean of "
        f"{tokens / count:.1f} tokens, batch {BATCH}, {options.precision}"
    )
    figures = {"seconds": times.tolist(), "sentences": count, "tokens": tokens}
    what, faster = f"sst2, recipe to padding to {PAD_TO}", float(stock / mine)
    yield Row(what, f"{faster:.2f} x", ">= 3 x", faster >= 3, detail, figures)


BENCHES: dict[str, Bench] = {
    "table": bench_table,
    "graph": bench_graph,
    "step": bench_step,
    "sst2": bench_sst2,
}


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = table_parser(__doc__, BENCHES)
    add = parser.add_argument
    add("--repeats", type=int, default=40, help="step: timed pairs, at least 30")
    add("--data", default=os.environ.get("GAMMA_NLP_DATA"), help="sst2: folder with GLUE's files")
    add("--tokenizer", help="sst2: folder or vocab.txt; default: trained on the sentences")
    add("--sentences", type=int, default=3200, help="sst2: how many to train on")
    add("--precision", choices=("fp32", "bf16"), help="sst2: default: bf16 on a GPU that has it")
    options = parser.parse_args(argv)
    set_device(options)
    fast = options.cuda and torch.cuda.is_bf16_supported()
    options.precision = options.precision or ("bf16" if fast else "fp32")
    options.repeats = 4 if options.quick else max(30, options.repeats)
    return options


def main(argv: Sequence[str]) -> int:
    return report(arguments(argv), BENCHES)


if __name__ == "__main__":
    sys.exit(run(main))
