"""Studies whose truth is known: seeds and items are drawn anew for each, and so is the design.

The items of a study are the same for all its seeds and arms, and so is what makes them hard
(correlated items). A seed moves all arms (a common draw of the data's order) and each by itself,
some arms more than others (unequal spreads). Noise of an item within a seed is shared in part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special

from gamma_nlp.study.statistics.metrics import statistic
from gamma_nlp.study.statistics.paired import Paired, PairedSet

SEEDS = (3, 4, 5, 6, 8, 10)
ITEMS = (300, 600, 1000, 2000)
LENGTHS = np.arange(6, 31)
HARDER = np.array([-0.4, 0.4, 1.0, 1.5])
"""How much harder longer n-grams are to match, in logits."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a study is drawn; standard deviations in units of an item's noise within a seed.

    Attributes:
        seeds, items, arms: How many; the first arm is the baseline.
        level: Where scores lie: the accuracy, or the logit of a match.
        hard: Of what all arms share about an item.
        item: Of what an arm does to an item, in every seed.
        common: Of what a seed does to all arms.
        own: Of what a seed does to each arm.
        shared: Share of the noise that paired seeds have in common.
        effects: Of each arm, on the latent scale; all 0: a null study.
    """

    seeds: int
    items: int
    arms: int
    level: float
    hard: float
    item: float
    common: float
    own: tuple[float, ...]
    shared: float
    effects: tuple[float, ...]


def draw_design(rng: np.random.Generator, kind: str, null: bool) -> Design:
    """Return a random design: from no seed effects to strong ones, of few or many arms."""
    arms = int(rng.integers(2, 11 if kind == "accuracy" else 5))
    own = rng.choice([0, 0.02, 0.05, 0.15, 0.3]) * rng.uniform(0.5, 2, size=arms)
    effects = np.zeros(arms) if null else rng.normal(scale=0.1, size=arms)
    return Design(
        seeds=int(rng.choice(SEEDS)),
        items=int(rng.choice(ITEMS)),
        arms=arms,
        level=float(rng.choice([0.6, 0.85, 0.95]) if kind == "accuracy" else rng.normal(0, 0.3)),
        hard=float(rng.uniform(0.5, 2)),
        item=float(rng.choice([0, 0.1, 0.3, 0.6])),
        common=float(rng.choice([0, 0.05, 0.2])),
        own=tuple(own) if kind == "accuracy" else (float(own[0]),) * arms,
        shared=float(rng.choice([0, 0.5, 0.9])),
        effects=tuple(effects),
    )


def draw_study(
    rng: np.random.Generator, kind: str, design: Design
) -> tuple[list[Paired], list[float]]:
    """Return each arm against the first, and the true differences."""
    d = design
    hard = d.hard * rng.normal(size=d.items)
    common = d.common * rng.normal(size=(d.seeds, 1))
    noise = np.sqrt(d.shared) * rng.normal(size=(d.seeds, d.items))
    lengths = rng.choice(LENGTHS, size=d.items)
    sums, scores, truths = [], [], []
    for own, effect in zip(d.own, d.effects, strict=True):
        latent = hard + common + own * rng.normal(size=(d.seeds, 1))
        latent = latent + d.item * rng.normal(size=d.items)
        latent = latent + noise
        latent += np.sqrt(1 - d.shared) * rng.normal(size=(d.seeds, d.items))
        if kind == "accuracy":
            # The level is moved by the arm's own spread, so that equal effects are equal scores.
            spread = np.sqrt(1 + d.hard**2 + d.item**2 + d.common**2 + own**2)
            threshold = spread * (special.ndtri(d.level) + effect)
            columns = 1.0 * (latent + threshold > 0)
            truths.append(100 * float(special.ndtr(threshold / spread)))
            sums.append(np.stack([columns, np.ones_like(columns)], axis=-1))
        else:
            sums.append(_matches(rng, latent + d.level + effect, lengths))
            truths.append(_true_bleu(d, own, effect))
        found = SCORES[kind].score(sums[-1].sum(axis=1))
        scores.append(SCALES[kind] * found)
    return [
        Paired(
            arm=f"arm {number}",
            baseline="baseline",
            seeds=tuple(range(1, d.seeds + 1)),
            baseline_scores=scores[0],
            arm_scores=scores[number],
            sets=(
                PairedSet(
                    statistic=SCORES[kind],
                    baseline_sums=sums[0],
                    arm_sums=sums[number],
                    scale=SCALES[kind],
                ),
            ),
        )
        for number in range(1, d.arms)
    ], [truth - truths[0] for truth in truths[1:]]


SCORES = {"accuracy": statistic("mean"), "bleu": statistic("sacrebleu")}
SCALES = {"accuracy": 100.0, "bleu": 1.0}


def _matches(rng: np.random.Generator, latent: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return sacrebleu's ten counts of sentences that match as well as ``latent`` says."""
    totals = np.broadcast_to(lengths[:, None] - np.arange(4), (*latent.shape, 4))
    matches = rng.binomial(totals, special.expit(latent[..., None] - HARDER))
    same = np.broadcast_to(lengths[:, None], (*latent.shape, 1))
    return np.concatenate([same, same, matches, totals], axis=-1).astype(np.float64)


def _true_bleu(design: Design, own: float, effect: float) -> float:
    """Return the mean over seeds of BLEU on items without end."""
    d = design
    seed = np.hypot(d.common, own) * NODES
    item = np.sqrt(1 + d.hard**2 + d.item**2) * NODES
    latent = d.level + effect + seed[:, None, None] + item[:, None] - HARDER
    precision = np.einsum("i,sin->sn", WEIGHTS, special.expit(latent))
    return float(100 * WEIGHTS @ np.exp(np.log(precision).mean(axis=1)))


def studies(
    kind: str, count: int, *, null: bool, seed: int
) -> Iterator[tuple[Design, list[Paired], list[float]]]:
    """Yield so many designs, each with its study and its truth."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        design = draw_design(rng, kind, null)
        yield design, *draw_study(rng, kind, design)


def naive_interval(pair: Paired, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % of a plain two-level bootstrap of an accuracy, to compare with."""
    (one,) = pair.sets
    matrix = one.scale * (one.arm_sums - one.baseline_sums)[..., 0]
    seeds, items = matrix.shape
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    drawn = rng.integers(items, size=(resamples, items)) + items * np.arange(resamples)[:, None]
    by_item = np.bincount(drawn.ravel(), minlength=resamples * items).reshape(resamples, items)
    means = np.einsum("rs,rs->r", by_seed, by_item @ matrix.T / items)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
