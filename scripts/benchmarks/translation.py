"""Time translation: training by a token budget and decoding in batches, against the goals.

    python scripts/benchmarks/translation.py [train|decode|all] --data FOLDER [--threads N]

train   our trainer against transformers' Seq2SeqTrainer on random batches padded to the longest:
        target tokens, without padding, per second of training steps, once that is steady: when
        three windows of --steps steps in a row agree within 5 %; and the seconds until step
        --first, with all that a user waits for from making the trainer on
decode  beam search in batches sorted by length, against one sentence at a time

FOLDER is one that scripts/prepare_iwslt14 wrote. Both sides have the same model, data, loss,
optimizer and threads, and take turns. Figures mean something on a quiet machine only. A speed that
never gets steady is printed and not judged. ``--quick`` runs everything on tiny sizes and judges
nothing. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import transformers
from flops import count_flops, matmul_rate
from pair_batches import Batch, Recorder, padding, sentences_like
from steady import AGREE, TOGETHER, Clock, Windows
from table import Bench, Row, now, report, set_device, table_parser
from translators import build, our_trainer, read_text, settings, token_budget

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.batches.by_tokens import PairCollator, TokenBatches
from gamma_nlp.tasks.run.main import run
from gamma_nlp.tasks.translation.checkpoints import find_model, load_saved
from gamma_nlp.tasks.translation.data import PairData, load_splits
from gamma_nlp.tasks.translation.decode import Search, decode
from gamma_nlp.tasks.translation.text import TranslationText


class Timed(NamedTuple):
    """A timed run: seconds and batches of the steps that count, and how it came to them."""

    seconds: float
    batches: list[Batch]
    windows: Windows
    first_seconds: float
    first_tokens: int


def train_once(
    options: argparse.Namespace,
    text: TranslationText,
    data: PairData,
    sentences: int | None,
    seed: int,
    *,
    first: int = 0,
) -> Timed:
    """Train until the speed is steady, and to step ``first``; our trainer if no ``sentences``."""
    model = build(options.size, text)
    stock = transformers.DataCollatorForSeq2Seq(text.source, model=model)
    recorder = Recorder(stock if sentences else PairCollator(text.source.pad_token_id))
    most = max(options.windows, TOGETHER)
    windows = Windows(steps=options.steps, most=most)
    clock = Clock(windows, recorder.target_tokens, first=first)
    with tempfile.TemporaryDirectory() as folder:
        limits = {"max_steps": max(most * options.steps, first), "seed": seed}
        if sentences is None:
            trainer: Any = our_trainer(options, model, text, data, folder, recorder, **limits)
        else:
            args = settings(options, folder, per_device_train_batch_size=sentences, **limits)
            lists = [{name: ids.tolist() for name, ids in pair.items()} for pair in data]
            trainer = transformers.Seq2SeqTrainer(model, args, recorder, lists)
        trainer.add_callback(clock)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return Timed(
        windows.counted_seconds,
        recorder.batches[slice(*windows.counted_steps)],
        windows,
        clock.first_seconds,
        recorder.target_tokens(0, first),
    )


def bench_train(options: argparse.Namespace) -> Iterator[Row]:
    text = read_text(options.data)
    data = load_splits(options.data, text)["train"]
    lengths = np.array(data.lengths).T
    whole = TokenBatches(*lengths.T, token_budget(options)).order()
    tokens = float(np.mean([len(batch) * lengths[batch].max() for batch in whole]))
    ways = (None, sentences_like(lengths, tokens))
    runs: tuple[list[Timed], list[Timed]] = ([], [])
    for index in range(options.rounds):
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            first = options.first if index == 0 else 0
            runs[which].append(train_once(options, text, data, ways[which], index, first=first))
    times = np.array([[run.seconds for run in side] for side in runs]).T
    batches = [[run.batches for run in side] for side in runs]
    real = np.array([[sum(b.target for b in done) for done in side] for side in batches]).T
    speed = real / times
    each, (ours, stock) = speed[:, 0] / speed[:, 1], np.median(speed, axis=0)
    ratio = float(np.median(each))
    flat = [list(chain.from_iterable(side)) for side in batches]
    sizes = [np.mean([batch.tokens for batch in side]) for side in flat]
    detail = (
        f"{each.min():.2f}..{each.max():.2f} in {options.rounds} rounds, {stock:.0f} -> {ours:.0f} "
        f"target tokens/s, {steadiness(runs)}, {sizes[1]:.0f} and {sizes[0]:.0f} tokens a step "
        f"with padding, stock batch {ways[1]} sentences"
    )
    figures: dict[str, Any] = {"seconds": times.tolist(), "target_tokens": real.tolist()}
    figures |= {"stock_batch": ways[1], "batch_tokens": [float(size) for size in sizes]}
    figures |= {"windows": [[run.windows.speeds for run in side] for side in runs]}
    steady = all(run.windows.steady for run in chain(*runs))
    what = f"train {options.size}, ours to stock"
    yield Row(what, f"{ratio:.2f} x", ">= 1.5 x", ratio >= 1.5 if steady else None, detail, figures)
    yield first_steps(options, [side[0] for side in runs], (ours, stock))
    shares = [padding(side) for side in flat]
    for name, mine, theirs in zip(("source", "target"), *shares, strict=True):
        figures = {"ours": mine, "stock": theirs}
        what, detail = f"padding of the {name}", f"stock {theirs:.1%}"
        yield Row(what, f"{mine:.1%}", "< 8 %", bool(mine < 0.08), detail, figures)
    if options.cuda:
        yield matrix_rate(options, text, times, batches)


def steadiness(runs: tuple[list[Timed], list[Timed]]) -> str:
    """Say after how many steps the speed of both sides was steady, or how far it was from that."""
    said = []
    for name, side in zip(("ours", "stock"), runs, strict=True):
        all_windows = [run.windows for run in side]
        restless = [one.speeds for one in all_windows if not one.steady]
        if restless:
            last = [speeds[-TOGETHER:] for speeds in restless]
            apart = max(max(speeds) / min(speeds) for speeds in last) - 1
            made = max(len(speeds) for speeds in restless)
            said.append(f"{name} NOT steady: {apart:.0%} apart after {made} windows")
        else:
            said.append(f"{name} steady at step {max(one.counted_steps[1] for one in all_windows)}")
    return f"{', '.join(said)} ({TOGETHER} windows within {AGREE:.0%})"


def first_steps(
    options: argparse.Namespace, runs: Sequence[Timed], steady: tuple[float, float]
) -> Row:
    """Tell how long a user waits for the first steps, the making of the trainer included."""
    waits = [run.first_seconds for run in runs]
    speeds = [run.first_tokens / wait for run, wait in zip(runs, waits, strict=True)]
    detail = (
        f"stock {waits[1]:.1f} s; from making the trainer on, {speeds[0]:.0f} target tokens/s "
        f"(stock {speeds[1]:.0f}), {speeds[0] / steady[0]:.0%} of the steady speed (stock "
        f"{speeds[1] / steady[1]:.0%})"
    )
    figures = {"seconds": waits, "target_tokens": [run.first_tokens for run in runs]}
    return Row(f"ours to step {options.first}", f"{waits[0]:.1f} s", "", None, detail, figures)


def matrix_rate(
    options: argparse.Namespace, text: TranslationText, times: np.ndarray, batches: Sequence[Any]
) -> Row:
    """Compare the operations per second of our training with those of a large matrix product."""
    model = build(options.size, text).to(options.device)
    rates = [
        [count_flops(model, done) / time for done, time in zip(side, times[:, i], strict=True)]
        for i, side in enumerate(batches)
    ]
    best = matmul_rate(options.device)
    ours, stock = (float(np.median(side)) for side in rates)
    detail = (
        f"{ours / 1e12:.1f} of {best / 1e12:.0f} Tflop/s in bf16, stock {stock / best:.1%}; "
        "products of matrices and attention, padding included"
    )
    figures = {"flops_per_second": rates, "matmul_flops_per_second": best}
    return Row("matrix rate of ours", f"{ours / best:.1%}", "", None, detail, figures)


def bench_decode(options: argparse.Namespace) -> Iterator[Row]:
    if options.run is None:
        # Random weights end no sentence before the length limit: equal work for both ways.
        text, load = read_text(options.data), "random weights, full length"
        model = build(options.size, text)
    else:
        text, load = TranslationText.load(options.run), "trained model"
        model = load_saved(find_model(options.run))
    model.to(options.device)
    data = load_splits(options.data, text)["valid"].source
    chosen = np.random.default_rng(0).permutation(len(data))[: options.sentences]
    sources = [data[index].tolist() for index in chosen]
    search = Search(beams=5)

    def singly() -> list[list[int]]:
        return [ids for source in sources for ids in decode(model, [source], search)]

    ways = (partial(decode, model, sources, search), singly)
    for work in (partial(decode, model, sources[:2], search),) * 2:
        work()  # warms up
    times = np.empty((options.rounds, 2))
    found: list[Any] = [None, None]
    for index in range(options.rounds):
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            start = now()
            found[which] = ways[which]()
            times[index, which] = now() - start
    each, (ours, single) = times[:, 1] / times[:, 0], len(sources) / np.median(times, axis=0)
    ratio = float(np.median(each))
    alike = sum(one == two for one, two in zip(*found, strict=True))
    detail = (
        f"{each.min():.2f}..{each.max():.2f} in {options.rounds} rounds, {single:.1f} -> "
        f"{ours:.1f} sentences/s, beam {search.beams}, {len(sources)} sentences ({alike} alike), "
        f"{load}"
    )
    figures = {"seconds": times.tolist(), "sentences": len(sources), "alike": alike}
    what = "decode, batches to one by one"
    yield Row(what, f"{ratio:.2f} x", ">= 3 x", ratio >= 3, detail, figures)


BENCHES: dict[str, Bench] = {"train": bench_train, "decode": bench_decode}


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = table_parser(__doc__, BENCHES)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder that scripts/prepare_iwslt14 wrote")
    add("--size", choices=("tiny", "base"), default="tiny", help="of the model")
    add("--rounds", type=int, default=3, help="how often each side runs")
    add("--steps", type=int, default=50, help="train: steps of a window")
    add("--windows", type=int, default=20, help="train: most windows until three agree")
    add("--first", type=int, default=500, help="train: time the way to this step as well")
    add("--max-tokens", type=int, default=4096, help="train: size of a batch, with padding")
    shapes = ("auto", "few", "any")
    add("--batch-shapes", choices=shapes, default="auto", help="train: auto: few on CUDA")
    add("--sentences", type=int, default=100, help="decode: how many")
    add("--run", type=Path, help="decode: folder of a run with a model; default: random weights")
    options = parser.parse_args(argv)
    for name in ("rounds", "steps", "windows", "first", "sentences"):
        if getattr(options, name) < 1:
            raise GammaError(f"--{name} must be at least 1, not {getattr(options, name)}")
    set_device(options)
    if options.batch_shapes == "auto":
        options.batch_shapes = "few" if options.cuda else "any"
    if options.quick:
        options.size, options.rounds, options.windows = "quick", 1, TOGETHER
        options.first = min(options.first, 4)
        options.steps, options.sentences = min(options.steps, 3), min(options.sentences, 4)
    return options


def main(argv: Sequence[str]) -> int:
    return report(arguments(argv), BENCHES)


if __name__ == "__main__":
    sys.exit(run(main))
