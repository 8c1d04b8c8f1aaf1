"""Check a study's statistics on simulated studies, whose truth is known.

    python scripts/benchmarks/study_statistics.py [accuracy|bleu|seeds|all] [--studies N]

accuracy    intervals, and false verdicts of null studies, over 2 to 10 arms
bleu        the same for BLEU, which is no mean of items
seeds       whether "N more seeds would decide" is the number that does

Half of the studies are null studies: no arm differs from the baseline, though seeds and items move
each of them. Coverage of the 95 % intervals is over all arms of all studies, by seeds, items, level
and spread of the seeds; a false verdict is any *better* or *worse* in a null study. Beside it what
a t interval over seeds and a plain two-level bootstrap cover. ``--quick`` runs few studies and
judges nothing. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from simulated_studies import Design, naive_interval, studies
from table import Bench, Row, report, table_parser

from gamma_nlp.study.statistics.compare import compare
from gamma_nlp.study.statistics.comparison import Verdict
from gamma_nlp.study.statistics.interval import Estimate
from gamma_nlp.study.statistics.power import Plan, more_seeds
from gamma_nlp.study.statistics.spread import Spread
from gamma_nlp.tasks.run.main import run

RESAMPLES = 1_000
LOW, HIGH, FALSE = 0.93, 0.97, 0.05
FOUND = (Verdict.BETTER, Verdict.WORSE)


class Share:
    """A share that is counted, with its standard error in the text."""

    def __init__(self) -> None:
        self.hits = self.all = 0

    def add(self, hit: bool) -> None:
        self.hits += bool(hit)
        self.all += 1

    @property
    def value(self) -> float:
        return self.hits / max(self.all, 1)

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} %"


def cells(kind: str, design: Design) -> Iterator[str]:
    """Yield the groups in which a study is counted."""
    yield "all"
    yield f"{design.seeds} seeds"
    yield f"{design.items} items"
    few = "3-4" if design.seeds < 5 else "5-6" if design.seeds < 8 else "8-10"
    yield f"{few} seeds x {'300-600' if design.items < 1000 else '1000-2000'} items"
    if kind == "accuracy":
        yield f"level {design.level:.2f}"
    own = max(design.own)
    yield f"seeds' spread {'0' if not own else 'small' if own < 0.1 else 'large'}"
    yield f"items' spread {design.item}"


def bench(kind: str, options: argparse.Namespace) -> Iterator[Row]:
    covered, by_t, plain = (defaultdict(Share) for _ in range(3))
    false = defaultdict(Share)
    rng = np.random.default_rng(1)
    for null in (True, False):
        half = options.studies // 2
        for design, pairs, truths in studies(kind, half, null=null, seed=10 * options.seed + null):
            found = compare(pairs, margin=None, higher_is_better=True, resamples=RESAMPLES)
            for cell in cells(kind, design):
                for one, truth in zip(found, truths, strict=True):
                    covered[cell].add(one.low <= truth <= one.high)
                    by_t[cell].add(one.t_low <= truth <= one.t_high)
                if null:
                    false[cell].add(any(one.verdict in FOUND for one in found))
            if kind == "accuracy":
                low, high = naive_interval(pairs[0], RESAMPLES // 2, rng)
                for cell in cells(kind, design):
                    plain[cell].add(low <= truths[0] <= high)
    for cell in sorted(covered, key=lambda name: (name != "all", name)):
        inside = LOW <= covered[cell].value <= HIGH
        detail = f"t over seeds {by_t[cell]}"
        detail += f", plain two-level bootstrap {plain[cell]}" if kind == "accuracy" else ""
        detail += f"; false verdicts {false[cell]} of {false[cell].all}"
        yield Row(
            f"{kind}: {cell}",
            str(covered[cell]),
            "93-97 %",
            inside if cell == "all" else None,
            detail,
            {
                "covered": covered[cell].value,
                "t": by_t[cell].value,
                "plain": plain[cell].value,
                "false": false[cell].value,
                "intervals": covered[cell].all,
            },
        )
    wrong = false["all"]
    yield Row(
        f"{kind}: false verdicts",
        str(wrong),
        "<= 5 %",
        wrong.value <= FALSE,
        f"in {wrong.all} null studies, over all arms",
        {"false": wrong.value, "studies": wrong.all},
    )


SETTINGS: tuple[tuple[float, float, float, float | None], ...] = (
    (0.0, 0.6, 0.0, 0.5),
    (0.0, 0.6, 0.1, 0.5),
    (0.0, 1.0, 0.0, 0.5),
    (0.2, 0.6, 0.05, 0.5),
    (0.5, 1.0, 0.0, 0.5),
    (1.0, 1.0, 0.1, 0.5),
    (0.5, 0.6, 0.0, None),
    (0.5, 1.0, 0.05, None),
)
"""True difference, deviation of the paired seeds, error by the items, margin; in points."""


def bench_seeds(options: argparse.Namespace) -> Iterator[Row]:
    rng = np.random.default_rng(options.seed)
    for true, seeds_sd, items_sd, margin in SETTINGS:
        needed = seeds_that_decide(rng, options.studies, true, seeds_sd, items_sd, margin)
        plan = Plan(difference_level=0.05, equivalence_level=0.05, margin=margin)
        for now in (3, 5, 8):
            if now >= needed:
                continue
            ratios, later = [], {0.5: Share(), 1.0: Share(), 2.0: Share()}
            for _ in range(options.studies // 5):
                moved = true + items_sd * rng.normal()
                seen = moved + seeds_sd * rng.normal(size=now)
                guess = _estimate(seen, items_sd)
                if _decided(guess, margin):
                    continue
                more = more_seeds(guess, now, plan) or 1000
                ratios.append((now + more) / needed)
                for factor, share in later.items():
                    added = seeds_sd * rng.normal(size=max(1, min(1000, round(factor * more))))
                    grown = np.concatenate([seen, moved + added])
                    share.add(_decided(_estimate(grown, items_sd), margin))
            if not ratios:
                continue
            middle = float(np.median(ratios))
            within = float(np.mean([0.5 <= ratio <= 2 for ratio in ratios]))
            yield Row(
                f"seeds: {true:g} +- {seeds_sd:g}, items {items_sd:g}, margin {margin}, now {now}",
                f"{middle:.2f} x",
                "0.5-2 x",
                0.5 <= middle <= 2,
                f"{needed} decide in 80 %; within a factor of 2: {within:.0%} of {len(ratios)}; "
                f"with N/2, N, 2N more: {', '.join(map(str, later.values()))} are decided",
                {"needed": needed, "median": middle, "within": within},
            )


def seeds_that_decide(
    rng: np.random.Generator,
    studies: int,
    true: float,
    seeds_sd: float,
    items_sd: float,
    margin: float | None,
) -> int:
    """Return the number of seeds with which 80 % of new studies are decided."""
    seeds = 2
    while seeds < 1000:
        found = Share()
        for _ in range(studies):
            seen = true + items_sd * rng.normal() + seeds_sd * rng.normal(size=seeds)
            found.add(_decided(_estimate(seen, items_sd), margin))
        if found.value >= 0.8:
            break
        seeds += max(1, seeds // 12)
    return seeds


def _estimate(seen: np.ndarray, items_sd: float) -> Estimate:
    return Estimate(
        difference=float(seen.mean()),
        spread=Spread(
            seeds=float(seen.var(ddof=1)) / len(seen),
            seeds_df=len(seen) - 1,
            items=items_sd**2,
            items_df=999,
            rest=0.0,
        ),
    )


def _decided(guess: Estimate, margin: float | None) -> bool:
    low, high = guess.interval(0.95)
    if low > 0 or high < 0:
        return True
    near, far = guess.interval(0.9)
    return margin is not None and -margin < near and far < margin


BENCHES: dict[str, Bench] = {
    "accuracy": lambda options: bench("accuracy", options),
    "bleu": lambda options: bench("bleu", options),
    "seeds": bench_seeds,
}


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = table_parser(__doc__, BENCHES, device=False)
    parser.add_argument("--studies", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args(argv)
    options.studies = 40 if options.quick else options.studies
    options.threads, options.cuda = 1, False
    return options


def main(argv: Sequence[str]) -> int:
    gc.freeze()  # Holm's correction in statsmodels collects garbage at every call
    return report(arguments(argv), BENCHES)


if __name__ == "__main__":
    sys.exit(run(main))
