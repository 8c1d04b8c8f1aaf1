"""Time what the companion methods add to an AdamW step, and compare it with the goal.

    python scripts/benchmarks/companions.py [unit_norm|strong|all] [--repeats N] [--json FILE]

unit_norm   norms held constant, on BERT-base: the encoder's 72 matrices, or the 24 of q and k
strong      L1 by the rule ``direction`` on the 72 matrices, imposed at every decision

One CPU thread, CPU time. Each repeat draws new gradients, then times the optimizer's step and the
companion's hook, each by itself. The figure is the hook's time as a share of the step's, the median
over the repeats, for each of torch's forms of AdamW: default (one tensor after the other on a CPU),
foreach, fused. Reading every matrix at every step is expensive in itself, so the goal applies to
norms restored after every 16th step, and to L1 with a decision at every 20th (fused: 100th). The
cost at every step and as a share of a whole training step are printed too. BERT's matrices are held
with ``force``, since only their sizes matter here. ``--quick`` runs everything on tiny sizes
and judges nothing. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from table import Bench, Row, build, report, table_parser
from torch import nn

from gamma_nlp.companions.effective_rate.unit_norm import UnitNorm
from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from gamma_nlp.tasks.run.main import run

GOAL = 0.05
SELDOM = 16
DECIDE = {"default": 20, "foreach": 20, "fused": 100}
LR = 1e-4  # BERT's in pre-training; a larger one moves norms further in a step
FORMS: dict[str, dict[str, bool]] = {"default": {}, "foreach": {"foreach": True}}
FORMS["fused"] = {"fused": True}
BATCH, LENGTH = 8, 128


def bert(options: argparse.Namespace) -> tuple[Any, list[str]]:
    """Return BERT-base and the names of its encoder's matrices."""
    model = build("BertForSequenceClassification", options.quick, ())
    parameters = model.named_parameters()
    return model, [name for name, w in parameters if ".layer." in name and w.dim() == 2]


def bench_unit_norm(options: argparse.Namespace) -> Iterator[Row]:
    model, matrices = bert(options)
    attention = [name for name in matrices if ".query." in name or ".key." in name]
    whole = training_step(model, options)
    cases = (
        (attention, "q and k", 1),
        (matrices, "encoder", 1),
        (matrices, "encoder", SELDOM),
    )
    for names, what, every in cases:
        for form, kwargs in FORMS.items():
            optimizer = torch.optim.AdamW(model.named_parameters(), lr=LR, **kwargs)
            held = UnitNorm(optimizer, names, force=True)
            held.remove()  # timed apart from the step
            title = f"UnitNorm, {what}, {len(names)}, every {every}, {form}"
            times = timed(model, optimizer, held.apply, options.repeats, every)
            yield row(title, None if every == 1 else GOAL, times, whole)


def bench_strong(options: argparse.Namespace) -> Iterator[Row]:
    model, matrices = bert(options)
    whole = training_step(model, options)
    for seldom in (False, True):
        for form, kwargs in FORMS.items():
            every = DECIDE[form] if seldom else 1
            optimizer = torch.optim.AdamW(model.named_parameters(), lr=LR, **kwargs)
            strong = StrongRegularizer(
                optimizer,
                names=matrices,
                l1=0.1,
                rule="direction",
                threshold=-1.0,
                every=every,
            )
            strong.remove()  # timed apart from the step

            def hook(strong: StrongRegularizer = strong, every: int = every) -> None:
                for _ in range(every):  # one of these decides
                    strong.before_step()
                    strong.after_step()

            title = f"StrongRegularizer, encoder, {len(matrices)}, every {every}, {form}"
            times = timed(model, optimizer, hook, options.repeats, every)
            yield row(title, GOAL if seldom else None, times, whole)


def row(what: str, goal: float | None, times: np.ndarray, whole: float) -> Row:
    """Make a row from seconds of shape (repeats, step and hook)."""
    step, hook = np.median(times, axis=0)
    part = float(np.median(times[:, 1] / times[:, 0]))
    detail = (
        f"{1000 * hook:.1f} ms to a step's {1000 * step:.1f} ms; "
        f"{hook / (whole + step):.2%} with forward and backward of {BATCH} x {LENGTH} tokens"
    )
    passed = None if goal is None else part <= goal
    text = "" if goal is None else f"<= {goal:.0%}"
    return Row(what, f"{part:.1%}", text, passed, detail, {"seconds": times.tolist()})


def timed(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    hook: Callable[[], Any],
    repeats: int,
    every: int = 1,
) -> np.ndarray:
    """Return CPU seconds per step, of shape (repeats, step and hook): a hook every ``every``."""
    times = np.empty((repeats, 2))
    for i in range(-2, repeats):  # the first two make the states and warm up
        for w in model.parameters():
            w.grad = torch.randn_like(w) if w.grad is None else w.grad.normal_()
        steps = [cpu_seconds(optimizer.step) for _ in range(every)]
        times[i] = [sum(steps) / every, cpu_seconds(hook) / every]
    return times


def training_step(model: Any, options: argparse.Namespace) -> float:
    """Return the CPU seconds of a forward and a backward pass, the median of three."""
    length = min(LENGTH, 16) if options.quick else LENGTH
    tokens = torch.randint(10, 90, (BATCH, length))
    labels = torch.zeros(BATCH, dtype=torch.long)
    model.train()

    def once() -> None:
        model(input_ids=tokens, labels=labels).loss.backward()

    return float(np.median([cpu_seconds(once) for _ in range(3)]))


def cpu_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


BENCHES: dict[str, Bench] = {"unit_norm": bench_unit_norm, "strong": bench_strong}


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = table_parser(__doc__, BENCHES, device=False)
    parser.add_argument("--repeats", type=int, default=15, help="default: %(default)s, at least 5")
    options = parser.parse_args(argv)
    options.repeats = 2 if options.quick else max(5, options.repeats)
    options.threads, options.cuda = 1, False
    return options


def main(argv: Sequence[str]) -> int:
    options = arguments(argv)
    torch.manual_seed(0)
    return report(options, BENCHES)


if __name__ == "__main__":
    sys.exit(run(main))
