"""The tables of a report, for text, Markdown, LaTeX and the page alike."""

from __future__ import annotations

from collections.abc import Sequence

from gamma_nlp.study.report.findings import Findings, Summary
from gamma_nlp.study.report.table import Table, capital, interval, number, probability
from gamma_nlp.study.results.found import cell_label
from gamma_nlp.study.statistics.comparison import Comparison
from gamma_nlp.study.statistics.sentence import amount, count

SEEDS_A_TABLE = 8
"""More are told in further tables, so that a line fits a terminal."""

VERDICTS = {
    "better": "better",
    "worse": "worse",
    "no_difference": "no difference",
    "undecided": "undecided",
}


def all_tables(results: Findings) -> list[Table]:
    """Return the tables of a report, in order; those without lines are left out."""
    tables = [
        against(results),
        *scores(results),
        by_items(results),
        floor(results),
        slopes(results),
        *effects(results),
    ]
    return [table for table in tables if table.lines]


def scores(results: Findings) -> list[Table]:
    """Return mean, spread and every seed's score of each cell."""
    seeds = results.seeds
    parts = [seeds[i : i + SEEDS_A_TABLE] for i in range(0, len(seeds), SEEDS_A_TABLE)]
    return [_scores(results, part, first=part is parts[0]) for part in parts]


def _scores(results: Findings, seeds: Sequence[int], *, first: bool) -> Table:
    unit = f" ({results.metric.unit})" if results.metric.unit else ""
    which = f", seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f", seed {seeds[0]}"
    which = "" if len(seeds) == len(results.seeds) else which
    head = ("arm", *(("n", "mean", "sd") if first else ()), *(f"seed {seed}" for seed in seeds))
    lines = [_score_line(results, one, seeds, first=first) for one in results.summaries]
    return Table(
        title=f"{capital(results.metric.name)}, every seed{which}{unit}",
        head=head,
        lines=tuple(lines),
    )


def _score_line(
    results: Findings, one: Summary, seeds: Sequence[int], *, first: bool
) -> tuple[str, ...]:
    digits = results.digits
    values = (one.runs[seed].value if seed in one.runs else None for seed in seeds)
    own = (str(len(one.runs)), number(one.mean, digits), number(one.deviation, digits))
    return (
        cell_label(results.study, one.cell),
        *(own if first else ()),
        *(number(value, digits) for value in values),
    )


def against(results: Findings) -> Table:
    """Return each arm's difference from its baseline, with intervals, tests and verdict."""
    return _against(results, results.comparisons, "Differences from the baseline{}")


def by_items(results: Findings) -> Table:
    """Return what each seed alone would say, over its items: sacrebleu's paired bootstrap."""
    seeds = results.seeds
    many = len(results.metric.scores) > 1
    return Table(
        title="Each seed alone: p of its items",
        head=("arm", *(("score",) if many else ()), *(f"seed {seed}" for seed in seeds)),
        lines=tuple(
            (
                cell_label(results.study, results.study.cell(one.arm)),
                *((one.score,) if many else ()),
                *(probability(one.p.get(seed)) for seed in seeds),
            )
            for one in results.by_items
        ),
        left=frozenset({"arm", "score"}),
        notes=(
            "sacrebleu's paired bootstrap: new items, the same seed; where seeds differ by more "
            "than items, a small p need not come again with another seed",
        ),
    )


def floor(results: Findings) -> Table:
    """Return the noise floor: each baseline against itself."""
    return _against(
        results, results.floor, "Noise floor: the baseline{} once more, moved by next to nothing"
    )


def slopes(results: Findings) -> Table:
    """Return each arm's trend over its doses."""
    unit = f" ({results.metric.unit})" if results.metric.unit else ""
    digits = results.digits
    lines = [
        (
            one.arm,
            ", ".join(f"{100 * dose:.3g}" for dose in one.doses) + " %",
            str(one.seeds),
            number(one.slope, digits, signed=True),
            interval(one.low, one.high, digits),
            probability(one.p),
        )
        for one in results.trends
    ]
    return Table(
        title=f"Trend over the doses{unit}",
        head=("arm", "doses", "n", "slope", "95 % interval", "p"),
        lines=tuple(lines),
        left=frozenset({"arm", "doses"}),
        notes=("slope: change of the difference for ten times the dose (a linear contrast)",),
    )


def effects(results: Findings) -> list[Table]:
    """Return main effects and two-way interactions of a factorial design, a table a dose."""
    unit = f" ({results.metric.unit})" if results.metric.unit else ""
    tables = []
    for design in results.designs:
        at = "" if design.dose is None else f" at dose {100 * design.dose:g} %"
        dropped = design.factorial.dropped
        notes = [
            "one name: the cells where it decays minus those where it does not; two: how much "
            "more the first does where the second decays",
            *([f"no such gains, or none that decay: {', '.join(dropped)}"] if dropped else []),
        ]
        tables.append(
            Table(
                title=f"Effects of decay on each category{at}{unit}",
                head=("effect", "n", "diff", "95 % interval", "p", "p Holm"),
                lines=tuple(
                    (
                        " x ".join(one.factors),
                        str(one.seeds),
                        number(one.difference, results.digits, signed=True),
                        interval(one.low, one.high, results.digits),
                        probability(one.p),
                        probability(one.p_holm),
                    )
                    for one in design.factorial.effects
                ),
                left=frozenset({"effect"}),
                notes=tuple(notes),
            )
        )
    return tables


def _against(results: Findings, comparisons: Sequence[Comparison], title: str) -> Table:
    unit = f" ({results.metric.unit})" if results.metric.unit else ""
    bases = dict.fromkeys(one.baseline for one in comparisons)
    many = ("baseline",) if len(bases) > 1 else ()
    equivalence = ("p equal",) if results.metric.smallest_difference is not None else ()
    head = (
        *("arm", *many, "n", "diff", "95 % interval", "t interval"),
        *("p", "p Holm", "p flip", *equivalence, "verdict"),
    )
    digits = results.digits
    lines = []
    for one in comparisons:
        cell = results.study.cell(one.arm)
        lines.append(
            (
                cell_label(results.study, cell),
                *((one.baseline,) if many else ()),
                str(one.seeds),
                number(one.difference, digits, signed=True),
                interval(one.low, one.high, digits),
                interval(one.t_low, one.t_high, digits),
                *map(probability, (one.p, one.p_holm, one.p_sign_flip)),
                *((probability(one.p_equivalence_holm),) if equivalence else ()),
                VERDICTS[one.verdict.value],
            )
        )
    of = "" if many or not bases else f" {next(iter(bases))}"
    return Table(
        title=f"{title.format(of)}{unit}",
        head=head,
        lines=tuple(lines),
        left=frozenset({"arm", "baseline", "verdict"}),
        notes=methods(results) if comparisons is results.comparisons else floor_note(results),
    )


def methods(results: Findings) -> tuple[str, ...]:
    """Return how the numbers of the comparisons were made."""
    margin, unit = results.metric.smallest_difference, results.metric.unit
    some = bool(results.comparisons) and all(one.items for one in results.comparisons)
    none = not any(one.items for one in results.comparisons)
    over = "seeds and items" if some else "seeds" if none else "seeds, and items where known"
    lines = [
        "diff: mean over paired seeds, arm minus baseline; more is "
        + ("better" if results.metric.higher_is_better else "worse"),
        f"95 % interval: of 100 such, about 95 hold the true difference; over {over}; "
        "t interval: paired t over seeds alone",
    ]
    many = len(results.comparisons)
    holm = f"after Holm over {many} comparisons" if many > 1 else "the same, for one comparison"
    lines.append(
        f"p: that there is no difference, over {over}; p Holm: {holm}; p flip: sign flips of seeds"
    )
    if margin is not None:
        lines.append(
            f"p equal: that they differ by {amount(f'{margin:g}', unit)} or more (two one-sided "
            f"tests), {holm}"
        )
    return tuple(lines)


def floor_note(results: Findings) -> tuple[str, ...]:
    """Return what the A/A runs say together."""
    noise = results.noise
    if noise is None:
        return ()
    if not noise.moved:
        return ("The runs once more score exactly as the baseline did: the noise floor is 0.",)
    digits, unit = results.digits, results.metric.unit
    size, largest = number(noise.deviation, digits), number(noise.largest, digits)
    return (
        f"Two runs that differ in nothing but rounding at the start come out {size} {unit} apart "
        f"(root mean square of {count(noise.pairs, 'pair')}), at most {largest}.",
    )
