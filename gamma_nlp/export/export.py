"""A policy's decision for one model, in the words of another engine's settings.

The decision is made here as everywhere; then parameters get the engine's names, the fewest
patterns are found, and before anything is shown the engine's own rules are applied to them and
compared with the decision, parameter by parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import nn

from gamma_nlp.decay import assign
from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.policy import DecayPolicy, PolicyLike
from gamma_nlp.errors import GammaError, close_to, listed
from gamma_nlp.export import limits, text
from gamma_nlp.export.cover import Chosen, Match, fewest
from gamma_nlp.export.engine import Engine, Form, Parameter, Rule, Rules, plain, same
from gamma_nlp.export.engines import megatron, nemo_automodel, olmo_core, timm, torchtitan
from gamma_nlp.export.names import layout_of, own_names
from gamma_nlp.export.pieces import Syntax, candidates, items
from gamma_nlp.gains.table import GainTable
from gamma_nlp.wrappers import plain_names

ENGINES: Mapping[str, Engine] = {
    module.ENGINE.key: module.ENGINE
    for module in (torchtitan, nemo_automodel, olmo_core, megatron, timm)
}
JSON = "json"
TARGETS = (*ENGINES, JSON)

Names = Literal["engine", "model"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """A decision as text to paste; ``str(export)`` is that text.

    Attributes:
        to: The engine, or ``json``.
        text: What to paste.
        rules: The patterns with what they match; ``None`` for ``json``.
        coefficients: What each parameter decays by, under the engine's names.
    """

    to: str
    text: str
    rules: Rules | None
    coefficients: Mapping[str, float]

    def __str__(self) -> str:
        return self.text


def export(
    model: nn.Module,
    *,
    to: str,
    policy: PolicyLike = "guidelines",
    weight_decay: float = 0.01,
    table: GainTable | None = None,
    inputs: Any = None,
    names: Names = "engine",
    source: str = "",
) -> Export:
    """Write what a policy decides for a model in the settings of another engine.

    Args:
        model: The model; the meta device will do.
        to: ``torchtitan``, ``nemo_automodel``, ``olmo_core``, ``megatron``, ``timm``, or ``json``,
            which lists every parameter with its coefficient and the reason.
        policy: The policy.
        weight_decay: What a multiplier of 1 stands for.
        table: The gain table, if it is there already.
        inputs: For :func:`gamma_nlp.categorize`, where a table is not.
        names: ``engine``: the names of the engine's own model code, where it has its own.
            ``model``: those of ``model``.
        source: What the user calls the model, for the head of the text.

    Raises:
        GammaError: An unknown engine; a model that it does not have; a policy that its settings
            cannot say; whatever the policy and the table refuse.

    Example:
        >>> from torch import nn
        >>> from gamma_nlp.export import export
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> done = export(model, to="timm", inputs=torch.randn(3, 4))
        >>> done.rules.spares_vectors, done.rules.rules
        (True, ())
    """
    check_target(to)
    if names not in get_args(Names):
        raise GammaError(f"names must be 'engine' or 'model', not {names!r}")
    policy = DecayPolicy.load(policy)
    table = assign.table_for(model, inputs, table, policy)
    source = source or type(model).__name__
    if to == JSON:
        decays = _decays(model, policy, weight_decay, table)
        coefficients = {name: decay.coefficient for name, decay in decays.items()}
        listing = text.listing(source, policy, weight_decay, table, decays)
        return Export(to=to, text=listing, rules=None, coefficients=coefficients)
    engine = ENGINES[to]
    trained = plain_names(n for n, p in model.named_parameters() if p.requires_grad)
    layout = layout_of(engine, model, trained.values()) if names == "engine" else None
    if layout is not None and layout.offset is not None:
        gains = tuple(replace(gain, offset=layout.offset) for gain in table)
        table = replace(table, gains=gains)
    decays = _decays(model, policy, weight_decay, table)
    limits.check(engine, policy, table, decays)
    by_model = {name: plain(d.coefficient / weight_decay) for name, d in decays.items()}
    from_own = own_names(layout, by_model, engine)
    ndims = {trained[n]: p.ndim for n, p in model.named_parameters() if p.requires_grad}
    forms = engine.model_forms if layout is None and engine.layouts else engine.forms
    wanted = {Parameter(own, ndims[name]): by_model[name] for own, name in from_own.items()}
    coupled = any(decay.mode == "coupled" for decay in decays.values())
    rules = decide(engine, wanted, weight_decay, forms, coupled=coupled)
    coefficients = {p.name: weight_decay * value for p, value in wanted.items()}
    whose = check_back(engine, rules, wanted, forms)
    written = text.snippet(
        source, policy, table, engine, rules, whose=whose, own=layout is not None
    )
    return Export(to=to, text=written, rules=rules, coefficients=coefficients)


def check_target(to: str) -> None:
    """Refuse an engine that is not known.

    Raises:
        GammaError: It names what is known.
    """
    if to not in TARGETS:
        raise GammaError(
            f"unknown engine {to!r}{close_to(to, TARGETS)} (known: {', '.join(TARGETS)})"
        )


def _decays(
    model: nn.Module, policy: DecayPolicy, weight_decay: float, table: GainTable
) -> dict[str, Decay]:
    """Return how every trained parameter decays, by its name without wrappers."""
    found = assign.decays_for(model, weight_decay=weight_decay, policy=policy, table=table)
    if not weight_decay:
        raise GammaError("weight_decay is 0, so there is no decay to export; set it, as to 0.1")
    trained = plain_names(n for n, p in model.named_parameters() if p.requires_grad)
    if not trained:
        raise GammaError("every parameter of the model is frozen, so there is nothing to export")
    return {trained[name]: found[name] for name in trained}


def decide(
    engine: Engine,
    wanted: Mapping[Parameter, float],
    weight_decay: float,
    forms: Sequence[Form] = (str,),
    *,
    coupled: bool = False,
) -> Rules:
    """Return the fewest patterns that give every parameter its multiplier.

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
        shaped = [[form(first[item.names[0]]) for form in tried] for item in found]
        matches = _matches(candidates(found, engine.syntax), shaped, engine.syntax)
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
            return _rules(engine, best[1], best[0], values, weight_decay, switch, coupled)
    names = listed(name for item in found for name in item.names)
    raise GammaError(f"{engine.title}: no pattern tells all parameters apart ({names})")


def _matches(
    patterns: Sequence[Any], shaped: Sequence[Sequence[str]], syntax: Syntax
) -> list[Match]:
    """Return patterns that match each item in all its forms or in none, one for each set."""
    best: dict[int, Match] = {}
    for pattern in patterns:  # the most readable first
        search = syntax.compiled(pattern.text).search
        matched, clear = 0, True
        for i, names in enumerate(shaped):
            hits = [bool(search(name)) for name in names]
            if all(hits):
                matched |= 1 << i
            elif any(hits):
                clear = False
                break
        if clear and matched:
            best.setdefault(matched, Match(pattern=pattern, items=matched))
    return list(best.values())


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
    coupled: bool,
) -> Rules:
    left = dict.fromkeys(values)
    rules = []
    for one in chosen:
        search = engine.syntax.compiled(one.pattern).search
        names = tuple(name for name in left if search(name))
        if engine.ordered:
            for name in names:
                del left[name]
        rules.append(Rule(pattern=one.pattern, multiplier=one.wants, names=names))
    matched = {name for rule in rules for name in rule.names}
    return Rules(
        rules=tuple(rules),
        default=default,
        others=tuple(name for name in values if name not in matched),
        weight_decay=weight_decay,
        spares_vectors=switch,
        coupled=coupled,
    )


def check_back(
    engine: Engine, rules: Rules, wanted: Mapping[Parameter, float], forms: Sequence[Form]
) -> str:
    """Apply the rules as the engine does, to the names of every form, and compare.

    Returns:
        Whose code it was: the engine's own where it is installed, else its emulation here.

    Raises:
        GammaError: A parameter differs; nothing must be shown then.
    """
    own = True
    for form in forms:
        parameters = {Parameter(form(p.name), p.ndim): value for p, value in wanted.items()}
        checked: list[Callable[..., dict[str, float]]] = [engine.emulated]
        if own:
            checked.append(engine.applied)
        for apply in checked:
            try:
                given = apply(rules, list(parameters))
            except GammaError:
                raise
            except Exception:  # a package that is missing, or that does not import here
                if apply is engine.emulated:
                    raise
                own = False
                continue
            for (name, _), multiplier in parameters.items():
                if not same(given.get(name, -1.0), rules.weight_decay * multiplier):
                    raise GammaError(
                        f"{engine.title}: {name!r} would decay by {given.get(name)}, not by "
                        f"{rules.weight_decay * multiplier:g}; this is a fault of gamma_nlp, "
                        "please report it with the command that you typed"
                    )
    return "its own code" if own else "its rule, written anew"
