"""From what every parameter wants to an engine's rules: as few patterns as its matching allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gamma_nlp.errors import GammaError, listed
from gamma_nlp.export.cover import Chosen, Match, fewest
from gamma_nlp.export.engine import Engine, Form, Parameter, Rule, Rules
from gamma_nlp.export.pieces import Pattern, Syntax, candidates, items


def decide(
    engine: Engine,
    wanted: Mapping[Parameter, float],
    weight_decay: float,
    forms: Sequence[Form] = (str,),
    *,
    coupled: bool = False,
) -> tuple[Rules, Sequence[Form]]:
    """Return the fewest patterns that give every parameter its multiplier.

    Where none hold for all forms of the names, those for the first form are returned with it.

    Args:
        engine: Whose rules decide.
        wanted: The multiplier of each parameter, by the engine's name.
        weight_decay: What a multiplier of 1 stands for.
        forms: What a run makes of a name; patterns must hold for each form.
        coupled: Whether decay goes into the gradient.

    Raises:
        GammaError: No pattern can tell two of them apart.
    """
    values = {forms[0](p.name): value for p, value in wanted.items()}
    first = {forms[0](p.name): p.name for p in wanted}
    spared = [forms[0](p.name) for p in wanted if engine.spares and engine.spares(p)]
    switch = bool(engine.spares) and all(values[name] == 0 for name in spared)
    found = items(values)
    for tried in (forms, forms[:1]):
        shaped = [[form(first[name]) for name in item.names for form in tried] for item in found]
        matches = _matches(candidates(found, engine.syntax), shaped, len(tried), engine.syntax)
        sets = _sets([item.wants for item in found])
        settled = 0
        if switch:
            settled = sum(1 << i for i, item in enumerate(found) if set(item.names) <= set(spared))
        best: tuple[float, list[Chosen]] | None = None
        for default in _defaults(engine, sets):
            chosen = fewest(
                matches,
                sets,
                default,
                ordered=engine.ordered,
                disjoint=engine.disjoint,
                settled=settled,
            )
            if chosen is not None and (best is None or len(chosen) < len(best[1])):
                best = default, chosen
        if best is not None:
            off = spared if switch else ()
            rules = _rules(engine, best[1], best[0], values, weight_decay, switch, off, coupled)
            return rules, tried
    names = listed(name for item in found for name in item.names)
    raise GammaError(f"{engine.title}: no pattern tells all parameters apart ({names})")


def _matches(
    patterns: Sequence[Pattern], shaped: Sequence[Sequence[str]], forms: int, syntax: Syntax
) -> list[Match]:
    """Return patterns that match each name in all its forms or in none; one for the same names."""
    best: dict[tuple[int, int], Match] = {}
    for pattern in patterns:  # the most readable first
        finds = syntax.finder(pattern.text)
        whole, touched, clear = 0, 0, True
        for i, names in enumerate(shaped):
            seen = names if pattern.fixed else names[:forms]  # else all names fare alike
            hits = [bool(finds(name)) for name in seen]
            if any(
                any(hits[k : k + forms]) != all(hits[k : k + forms]) for k in _each(hits, forms)
            ):
                clear = False
                break
            whole |= all(hits) << i
            touched |= any(hits) << i
        if clear and whole:
            best.setdefault((whole, touched), Match(pattern=pattern, items=whole, touches=touched))
    return list(best.values())


def _each(hits: Sequence[bool], forms: int) -> range:
    return range(0, len(hits), forms)


def _sets(values: Sequence[float]) -> dict[float, int]:
    found: dict[float, int] = {}
    for i, value in enumerate(values):
        found[value] = found.get(value, 0) | 1 << i
    return found


def _defaults(engine: Engine, values: Mapping[float, int]) -> list[float]:
    """Return the multipliers that parameters without a pattern may have, the usual first."""
    decaying = sorted((value for value in values if value > 0), reverse=True)
    if engine.numbers == "any":
        return sorted(values, key=lambda value: (value != 1, -value))
    if engine.numbers == "relative" and 1.0 in decaying:  # all others are multiples of it
        return [1.0]
    return decaying or [0.0]


def _rules(
    engine: Engine,
    chosen: Sequence[Chosen],
    default: float,
    values: Mapping[str, float],
    weight_decay: float,
    switch: bool,
    spared: Sequence[str],
    coupled: bool,
) -> Rules:
    left = dict.fromkeys(values)
    rules = []
    for one in chosen:
        finds = engine.syntax.finder(one.pattern.text)
        names = tuple(name for name in left if finds(name))
        if engine.ordered:
            for name in names:
                del left[name]
        rules.append(
            Rule(
                pattern=one.pattern.text,
                multiplier=one.wants,
                names=names,
                numbered=one.pattern.fixed,
            )
        )
    decided = {*spared, *(name for rule in rules for name in rule.names)}
    return Rules(
        rules=tuple(rules),
        default=default,
        others=tuple(name for name in values if name not in decided),
        weight_decay=weight_decay,
        spares_vectors=switch,
        spared=tuple(spared),
        coupled=coupled,
    )
