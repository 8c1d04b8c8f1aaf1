"""A diagnosis for reading: categories, layers, outliers, and what moved."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gamma_nlp.diagnose.diagnosis import UNUSED, Diagnosis, State, category_of
from gamma_nlp.diagnose.measures import Measure, growth
from gamma_nlp.diagnose.outliers import RULE
from gamma_nlp.gains.table import Gain
from gamma_nlp.rows import Row, align, merge_layers

MOST_STATES = 5
MOST_ROWS = 10
MOST_MOVES = 5
STILL = 5e-5
"""A growth below this rounds to 0 %."""
_NUMBERS = {"gains", "elements", "n", "layer", "channel", "growth", "value", "usual", "deviations"}


def report(found: Diagnosis, *, full: bool = False) -> str:
    """Return a diagnosis as aligned text.

    Args:
        found: What to print.
        full: Give every gain its own row, and show every checkpoint, outlier and move.
    """
    parts = [_head(found), *_broken(found), _summary(found, full), _layers(found, full)]
    parts += [part for part in (_outliers(found, full), _moves(found, full)) if part]
    return "\n\n".join([*parts, _foot(found)])


def layer_of(name: str) -> str:
    """Return the layer of a gain: the numbers in its name, or nothing.

    >>> layer_of("encoder.block.3.layer.1.norm.weight"), layer_of("ln_f.weight")
    ('3.1', '')
    """
    return ".".join(part for part in name.split(".") if part.isdecimal())


def share(value: float) -> str:
    """Return a share in per cent for reading.

    >>> share(0.0), share(0.1234), share(0.0004)
    ('0 %', '12.3 %', '0.04 %')
    """
    return "nan" if math.isnan(value) else f"{100 * value:.3g} %"


def change(value: float) -> str:
    """Return a growth in per cent for reading.

    >>> change(-0.02), change(0.0), change(12.0), change(float("inf"))
    ('-2.00 %', '0 %', '+1200 %', 'from 0')
    """
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "from 0"
    if abs(value) < STILL:
        return "0 %"
    digits = 2 if abs(value) < 0.1 else 1 if abs(value) < 10 else 0
    return f"{100 * value:+.{digits}f} %"


def _head(found: Diagnosis) -> str:
    gains, states = len(found.gains), found.states
    text = f"{found.model}: {gains} gain{'s' if gains != 1 else ''}"
    if len(states) == 1:
        return f"{text} in {states[0].path}; placed by {found.placed_by}"
    return (
        f"{text} in {len(states)} checkpoints, {states[0].label} to {states[-1].label}; placed by "
        f"{found.placed_by}"
    )


def _broken(found: Diagnosis) -> list[str]:
    lines = [
        f"  {gain.name}: {state.measures[gain.name].broken} of {gain.numel} values at {state.label}"
        for state, gain in found.broken
    ]
    return ["\n".join(["NOT FINITE (nan or inf)", *lines])] if lines else []


def _shown(states: Sequence[State], full: bool) -> list[int]:
    """Return which checkpoints have a column: first, last, and some evenly between."""
    count = len(states)
    if full or count <= MOST_STATES:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MOST_STATES - 1)) for i in range(MOST_STATES)})


def _summary(found: Diagnosis, full: bool) -> str:
    shown = _shown(found.states, full)
    several = len(found.states) > 1
    rms = [f"rms at {found.states[i].label}" for i in shown] if several else ["rms"]
    head = ["category", "gains", "elements", *rms, *(["growth"] if several else [])]
    head += ["largest", "near 0"]
    lines = []
    for name, gains in found.categories.items():
        over = found.over(gains)
        line = [name, str(len(gains)), str(over[-1].numel)]
        line += [f"{over[i].rms:.4g}" for i in shown]
        line += [change(found.growth(gains))] if several else []
        lines.append([*line, f"{over[-1].largest:.4g}", share(over[-1].near_zero)])
    text = align(head, lines, right=set(head[1:]))
    if len(shown) < len(found.states):
        text += f"\n{len(shown)} of {len(found.states)} checkpoints have a column; --full has all"
    return text


def _layers(found: Diagnosis, full: bool) -> str:
    last = found.states[-1]
    several = len(found.states) > 1
    marked = {one.gain.name for one in found.outliers} | {gain.name for _, gain in found.broken}
    gains = {gain.name: gain for gain in found.gains}
    rows = [
        Row(
            name=gain.name,
            # A gain out of the ordinary keeps a row of its own.
            key=(category_of(gain), gain.kind, gain.name if gain.name in marked else ""),
        )
        for gain in found.gains
    ]
    head = ["gain", "n", "category", "kind", "rms", "largest", "near 0"]
    head += ["growth"] if several else []
    lines = []
    for row in rows if full else merge_layers(rows):
        own = [last.measures[name] for name in row.names]
        mark = " *" if row.names[0] in marked else ""
        line = [row.name + mark, str(row.count), *row.key[:2]]
        line += [
            span([one.rms for one in own], "{:.4g}".format),
            span([one.largest for one in own], "{:.4g}".format),
            span([one.near_zero for one in own], share),
        ]
        if several:
            line.append(span([found.growth([gains[name]]) for name in row.names], change))
        lines.append(line)
    foot = "\n* an outlier or not finite, listed by itself" if marked else ""
    title = f"gains at {last.label}\n" if several else ""
    return title + align(head, lines, right={"n"}) + foot


def span(values: Sequence[float], text: Callable[[float], str]) -> str:
    """Return one value, or the smallest and the largest of several.

    >>> span([0.5, 1.0, 0.75], "{:.2g}".format), span([1.0, 1.0], "{:.2g}".format)
    ('0.5 to 1', '1')
    """
    low, high = text(min(values)), text(max(values))
    if low == high:
        return low
    return f"{low.removesuffix(' %')} to {high}" if high.endswith(" %") else f"{low} to {high}"


def _outliers(found: Diagnosis, full: bool) -> str:
    every = found.outliers
    if not every:
        return "outliers: none"
    head = ["outlier", "layer", "category", "kind", "what", "value", "usual", "deviations"]
    head += ["channel"]
    lines = [
        [
            one.gain.name, layer_of(one.gain.name) or "-", category_of(one.gain), one.gain.kind,
            one.what, f"{one.value:.4g}", f"{one.usual:.4g}", f"{one.deviations:+.1f}",
            str(one.channel) if one.what == "largest" else "",
        ]
        for one in (every if full else every[:MOST_ROWS])
    ]  # fmt: skip
    return align(head, lines, right=_NUMBERS) + _more(len(every), full)


def _moves(found: Diagnosis, full: bool) -> str:
    """List the gains that grew or shrank fastest."""
    if len(found.states) < 2:
        return ""
    first, last = found.states[0], found.states[-1]
    moved = [(gain, *_both(gain, first, last)) for gain in found.gains]
    moved = [row for row in moved if abs(row[1]) >= STILL]  # not nan either
    moved.sort(key=lambda row: -abs(math.log1p(row[1])) if row[1] > -1 else -math.inf)
    if not moved:
        return f"moved from {first.label} to {last.label}: none"
    head = [
        "moved most",
        "layer",
        "category",
        f"rms at {first.label}",
        f"at {last.label}",
        "growth",
    ]
    lines = [
        [
            gain.name, layer_of(gain.name) or "-", category_of(gain), f"{one.rms:.4g}",
            f"{two.rms:.4g}", change(grown),
        ]
        for gain, grown, one, two in (moved if full else moved[:MOST_MOVES])
    ]  # fmt: skip
    return align(head, lines, right={*_NUMBERS, *head[3:5]}) + _more(len(moved), full, MOST_MOVES)


def _both(gain: Gain, first: State, last: State) -> tuple[float, Measure, Measure]:
    one, two = first.measures[gain.name], last.measures[gain.name]
    return growth(one, two), one, two


def _more(count: int, full: bool, most: int = MOST_ROWS) -> str:
    return "" if full or count <= most else f"\n{most} of {count}; --full has all"


def _foot(found: Diagnosis) -> str:
    lines = [
        "gain: offset + parameter, as the model applies it; rms: its root mean square; "
        "largest: its largest absolute value",
        f"near 0: share of values below {found.near:g} by absolute value",
    ]
    if len(found.states) > 1:
        lines.append("growth: change of the rms from the first checkpoint to the last")
    else:
        lines.append("growth: give several checkpoints, or a run's folder")
    if UNUSED in found.categories:
        lines.append(
            f"{UNUSED}: the forward pass never reached them, so an offset of 1 was not seen either"
        )
    return "\n".join([*lines, RULE])
