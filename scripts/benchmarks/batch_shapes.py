"""Batches of few shapes against batches of any: padding, number of shapes, and speed.

    python scripts/benchmarks/batch_shapes.py [padding|speed|all] --data FOLDER... [--glue FOLDER]

padding  shapes and padding of an epoch; of all positions, source and target together
speed    tokens without padding per second of training over a whole epoch, few to any

FOLDER is one that scripts/prepare_iwslt14 wrote; --glue is a folder with GLUE's files, for SST-2.
Both ways see every pair once and take turns. ``--pairs`` and ``--sentences`` train on so many of
them, drawn at random; then give a smaller --max-tokens too, or the last batch of each shape weighs
more than it would. ``--quick`` runs everything on tiny sizes and judges nothing. The exit code is 1
if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import core
import numpy as np
import transformers
from table import Bench, Row, report, set_device, table_parser
from translators import SIZES, build, our_trainer, read_text, token_budget
from turns import in_turns

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.batches.by_length import BucketSampler, Encoded, Padder
from gamma_nlp.hf.batches.by_tokens import PairCollator, TokenBatches
from gamma_nlp.hf.batches.shapes import MOST_SHAPES, Shape, length_shapes
from gamma_nlp.tasks.glue.tokenizer import encode, load_tokenizer, train_tokenizer
from gamma_nlp.tasks.glue.trainer import FinetuneTrainer
from gamma_nlp.tasks.run.main import run
from gamma_nlp.tasks.translation.data import PairData, load_splits

WAYS = ("few", "any")


def bench_padding(options: argparse.Namespace) -> Iterator[Row]:
    for folder in options.data:
        data = read_pairs(options, folder)[1]
        few, every = (batches_of(options, data, way) for way in WAYS)
        detail = (
            f"source {few.padding.source:.1%}, target {few.padding.target:.1%}, "
            f"{len(few.shapes)} shapes, {few.batches} batches; any: {every.padding.together:.1%}, "
            f"{len(every.shapes)} shapes, {every.batches} batches"
        )
        figures = {
            way: {"shapes": one.shapes, "padding": one.padding, "batches": one.batches}
            for way, one in zip(WAYS, (few, every), strict=True)
        }
        what = f"padding {folder.name}, {options.max_tokens}"
        yield padding_row(what, few.padding.together, len(few.shapes), detail, figures)
    if options.glue:
        encoded = read_sentences(options)[0]
        shapes = length_shapes(encoded.lengths, core.BATCH)
        real, batches = int(encoded.lengths.sum()), -(-len(encoded) // core.BATCH)
        share = {way: 1 - real / filled(encoded, shapes if way == "few" else None) for way in WAYS}
        detail = f"{len(shapes)} shapes, {batches} batches; any: {share['any']:.1%}"
        figures = {"shapes": shapes, "padding": share, "batches": batches}
        yield padding_row(
            f"padding sst2, {core.BATCH} sentences", share["few"], len(shapes), detail, figures
        )


def padding_row(what: str, share: float, shapes: int, detail: str, figures: dict[str, Any]) -> Row:
    passed = share < 0.08 and shapes <= MOST_SHAPES
    return Row(what, f"{share:.1%}", "< 8 %", passed, detail, figures)


def filled(encoded: Encoded, shapes: Sequence[Shape] | None) -> int:
    """Return the positions of an epoch's batches, padding included."""
    order = list(BucketSampler(encoded.lengths, core.BATCH, 0, shapes))
    collate: Any = Padder({"input_ids": 0})
    if shapes is not None:
        collate = collate.shaped(shapes)
    total = 0
    for start in range(0, len(order), core.BATCH):
        batch = [encoded[index] for index in order[start : start + core.BATCH]]
        total += collate(batch)["input_ids"].numel()
    return total


def bench_speed(options: argparse.Namespace) -> Iterator[Row]:
    for folder in options.data:
        text, data = read_pairs(options, folder)

        def make(way: str, seed: int, out: str) -> Any:
            collate = PairCollator(text.source.pad_token_id)  # noqa: B023
            options.batch_shapes = way
            model = build(options.size, text)  # noqa: B023
            limits = {"num_train_epochs": 1, "seed": seed}
            return our_trainer(options, model, text, data, out, collate, **limits)  # noqa: B023

        tokens = sum(data.lengths[1])
        what = f"speed {folder.name}, {options.max_tokens}, {options.size}"
        detail = f"{len(data)} pairs"
        yield speed_row(options, what, make, tokens, "target tokens/s", detail)
    if options.glue:
        encoded, vocabulary, pad_id = read_sentences(options)

        def finetuner(way: str, seed: int, out: str) -> Any:
            shapes = length_shapes(encoded.lengths, core.BATCH) if way == "few" else None
            sizes = (6, 384, 1536, 12, 12)  # of MiniLM-L6
            model = core.build(
                "BertForSequenceClassification", options.quick, sizes, vocab_size=vocabulary
            )
            args = transformers.TrainingArguments(
                output_dir=out,
                num_train_epochs=1,
                per_device_train_batch_size=core.BATCH,
                weight_decay=0.01,
                bf16=options.cuda,
                train_sampling_strategy="group_by_length",
                use_cpu=not options.cuda,
                dataloader_pin_memory=options.cuda,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=seed,
            )
            collate = Padder({"input_ids": pad_id})
            return FinetuneTrainer(model, args, collate, encoded, shapes=shapes)

        tokens, detail = int(encoded.lengths.sum()), f"{len(encoded)} sentences"
        yield speed_row(options, "speed sst2, MiniLM's size", finetuner, tokens, "tokens/s", detail)


def speed_row(
    options: argparse.Namespace,
    what: str,
    make: Callable[[str, int, str], Any],
    tokens: int,
    unit: str,
    detail: str,
) -> Row:
    """Train an epoch in both ways, a step of each in turn, and compare."""
    times = np.empty((options.rounds, 2))
    for index in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            trainers = {way: make(way, index, folder) for way in WAYS}
            for trainer in trainers.values():
                trainer.remove_callback(transformers.PrinterCallback)
            found = in_turns(trainers, WAYS[index % 2])
        times[index] = [sum(found[way]) for way in WAYS]
    each, (few, every) = times[:, 1] / times[:, 0], tokens / np.median(times, axis=0)
    ratio = float(np.median(each))
    detail = (
        f"{each.min():.3f}..{each.max():.3f} in {options.rounds} rounds, {every:.0f} -> {few:.0f} "
        f"{unit}, {detail}"
    )
    figures = {"seconds": times.tolist(), "tokens": tokens}
    return Row(what, f"{ratio:.3f} x", ">= 0.97 x", ratio >= 0.97, detail, figures)


def read_pairs(options: argparse.Namespace, folder: Path) -> tuple[Any, PairData]:
    text = read_text(folder)
    data = load_splits(folder, text)["train"]
    if options.pairs:
        chosen = np.random.default_rng(0).permutation(len(data))[: options.pairs]
        sides = ([side[index] for index in chosen] for side in (data.source, data.target))
        data = PairData(*sides, data.references)
    return text, data


def batches_of(options: argparse.Namespace, data: PairData, way: str) -> TokenBatches:
    options.batch_shapes = way
    return TokenBatches(*data.lengths, token_budget(options))


def read_sentences(options: argparse.Namespace) -> tuple[Encoded, int, int]:
    """Return sentences of SST-2, the size of their vocabulary and the id that pads them."""
    given = argparse.Namespace(data=options.glue)
    texts, labels = core.read_sentences(given, options.sentences or 67_349)
    saved = options.tokenizer
    tokenizer = load_tokenizer(saved) if saved else train_tokenizer(texts, 30522)
    columns = encode(tokenizer, [texts], core.PAD_TO)
    encoded = Encoded({"input_ids": columns["input_ids"]}, labels)
    return encoded, max(len(tokenizer), 30522), tokenizer.pad_token_id


BENCHES: dict[str, Bench] = {"padding": bench_padding, "speed": bench_speed}


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = table_parser(__doc__, BENCHES)
    add = parser.add_argument
    add("--data", type=Path, nargs="+", default=[], help="folders that prepare_iwslt14 wrote")
    add("--glue", help="folder with GLUE's files")
    add("--tokenizer", help="of SST-2: folder or vocab.txt; default: trained on the sentences")
    add("--max-tokens", type=int, default=4096, help="size of a batch of pairs, with padding")
    add("--pairs", type=int, help="take so many; default: all")
    add("--sentences", type=int, help="of SST-2: take so many; default: all")
    add("--size", choices=tuple(SIZES), default="tiny", help="speed: of the translation model")
    add("--rounds", type=int, default=2, help="speed: how often each way runs")
    options = parser.parse_args(argv)
    for name in ("rounds", "max_tokens", "pairs", "sentences"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise GammaError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if not (options.data or options.glue):
        raise GammaError("give --data FOLDER..., or --glue FOLDER")
    set_device(options)
    if options.quick:
        options.size, options.rounds = "quick", 1
        options.pairs, options.sentences = options.pairs or 40, options.sentences or 96
    return options


def main(argv: Sequence[str]) -> int:
    return report(arguments(argv), BENCHES)


if __name__ == "__main__":
    sys.exit(run(main))
