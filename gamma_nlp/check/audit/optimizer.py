"""Audit an optimizer that somebody made for a model: what it holds, and how that decays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gamma_nlp.check.audit.acting import Acting, Acts, can_decay
from gamma_nlp.check.audit.groups import more_than_needed, rates
from gamma_nlp.check.audit.held import Group, groups_of
from gamma_nlp.check.audit.judged import Parameters, accident, by_part, judged
from gamma_nlp.check.audit.optimizer_report import Act, OptimizerAudit, pair
from gamma_nlp.check.audit.report import Accident
from gamma_nlp.check.audit.wiring import Place, Wiring, wiring
from gamma_nlp.check.judge import Rule
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.table import Gain

ALL = "so does every gain and bias here, as in plain torch, fairseq and torchtitan"
EMBEDDINGS = "OLMo-core, axolotl and torchtitan's Qwen3 spare embeddings, some output layers too"


def audit_optimizer(known: Parameters, given: Any) -> OptimizerAudit:
    """Return what an optimizer, or several together, do with the parameters of a model.

    Raises:
        GammaError: Something in ``given`` is no optimizer, or there is none.
    """
    groups = groups_of(given)
    found = wiring(known.named, groups)
    acts = Acts()
    acting = {
        name: acts(places[0][0], places[0][1].stepped) for name, places in found.places.items()
    }
    names = [name for name in known.trained if name in acting]
    rule = _rule(known, found, acting, names, groups)
    fields = judged(known, rule, names)
    pulled = [name for name in names if _to_offset(known, name, acting[name])]
    fields["unit_offset"] = tuple(_pulled(known, pulled))
    if not rule.decayed:  # a weight decay of 0, not a choice of what to spare
        fields["spared_by_accident"] = fields["spared_as_by_some_authors"] = ()
    frozen = [name for name in acting if not known.named[name].requires_grad]
    return OptimizerAudit(
        model=known.title,
        rule=rule.title,
        **fields,
        acts=tuple(_acts(known, names, acting)),
        missing=_entries(known, found.missing, acting, _missing),
        twice=_twice(known, found, acting),
        frozen=_entries(
            known, [n for n in frozen if known.named[n].grad is None], acting, _in(found)
        ),
        moving=_entries(
            known, [n for n in frozen if known.named[n].grad is not None], acting, _moving(found)
        ),
        foreign=tuple(
            Accident(name=name, what="foreign", decayed=_decays(acts, place), why=_at(place, why))
            for place, name, why in found.foreign
        ),
        unhooked=_unhooked(known, found, acting),
        cancelled=_cancelled(known, found, acting, names),
        masters=len(found.masters),
        groups=len(groups),
        more_groups=tuple(more_than_needed(groups)),
        rates=tuple(rates(groups)),
        notes=tuple(_notes(known, acting, names, groups)),
    )


def _rule(
    known: Parameters,
    found: Wiring,
    acting: Mapping[str, Acting],
    names: Sequence[str],
    groups: Sequence[Group],
) -> Rule:
    """Return what the optimizer does as a rule, with what it seems to mean."""
    decayed = {name for name in names if acting[name].coefficient}
    kinds = dict.fromkeys(type(group.optimizer).__name__ for group in groups)

    def why(name: str, owner: object) -> str:
        label = found.places[name][0][0].label
        return f"weight_decay is {acting[name].coefficient:g} in {label}"

    return Rule(
        title=" and ".join(kinds),
        decayed=decayed,
        on_purpose=ALL if _decays_all(known, decayed, names, groups) else "",
        spares=_spares(known, decayed, names),
        why_decayed=why,
        why_spared=why,
    )


def _decays_all(
    known: Parameters, decayed: set[str], names: Sequence[str], groups: Sequence[Group]
) -> bool:
    """Return whether it decays gains, shifts and biases alike, and nothing shows another aim."""
    vectors = [name for name in names if _is_vector(known.what[name])]
    meant_to_spare = any(not g.slots and not g.settings.get("weight_decay", 1) for g in groups)
    return bool(vectors) and decayed.issuperset(vectors) and not meant_to_spare


def _is_vector(entry: Gain | Role) -> bool:
    return isinstance(entry, Gain) or entry in (Role.SHIFT, Role.BIAS)


def _spares(known: Parameters, decayed: set[str], names: Sequence[str]) -> dict[str, str]:
    """Return embeddings, if none of them decays, and then output layers by their usual name."""
    embeddings = [name for name in names if known.what[name] is Role.EMBEDDING]
    if not embeddings or not decayed.isdisjoint(embeddings):
        return {}
    output = [n for n in names if "lm_head" in n and n not in decayed]
    return dict.fromkeys([*embeddings, *output], EMBEDDINGS)


def _to_offset(known: Parameters, name: str, acting: Acting) -> bool:
    entry = known.what[name]
    return bool(
        isinstance(entry, Gain) and entry.offset and acting.coefficient and acting.center == 0.0
    )


def _pulled(known: Parameters, names: Iterable[str]) -> Iterable[Accident]:
    for name in names:
        entry = known.what[name]
        assert isinstance(entry, Gain)
        why = f"decay of w pulls the gain to {entry.offset:g}; make_optimizer pulls it to 0"
        yield accident(known, name, True, why)


def _acts(known: Parameters, names: Sequence[str], acting: Mapping[str, Acting]) -> Iterable[Act]:
    for what, own in by_part(known, names).items():
        decays = [name for name in own if acting[name].coefficient]
        coefficient = pair(acting[name].coefficient for name in own)
        assert coefficient is not None
        yield Act(
            what=what,
            trained=len(own),
            decayed=len(decays),
            coefficient=coefficient,
            modes=tuple(sorted({acting[name].mode for name in decays})),
            toward=tuple(sorted({_toward(known.what[n], acting[n].center) for n in decays})),
            rate=pair(acting[name].rate for name in own),
            step=pair(acting[name].step for name in decays),
        )


def _toward(entry: Gain | Role, center: float | str) -> str:
    if isinstance(center, str):
        return center
    return f"{center + (entry.offset if isinstance(entry, Gain) else 0.0):g}"


def _entries(
    known: Parameters, names: Iterable[str], acting: Mapping[str, Acting], why: Any
) -> tuple[Accident, ...]:
    return tuple(
        accident(known, n, n in acting and acting[n].coefficient != 0, why(n)) for n in names
    )


def _missing(name: str) -> str:
    return "it gets gradients and never moves; freeze it, or make the optimizer with it"


def _in(found: Wiring) -> Any:
    return lambda name: f"in {found.places[name][0][0].label}"


def _moving(found: Wiring) -> Any:
    return lambda name: (
        f"in {found.places[name][0][0].label}; its gradient from before is still there: set it to "
        "None (zero_grad(set_to_none=True))"
    )


def _twice(known: Parameters, found: Wiring, acting: Mapping[str, Acting]) -> tuple[Accident, ...]:
    several = {name: places for name, places in found.places.items() if len(places) > 1}
    return _entries(known, several, acting, lambda n: f"in {_labels(several[n])}")


def _labels(places: Sequence[Place]) -> str:
    labels = [group.label for group, _ in places]
    return " and in ".join(dict.fromkeys(labels)) + (
        " (again)" if len(set(labels)) < len(labels) else ""
    )


def _unhooked(
    known: Parameters, found: Wiring, acting: Mapping[str, Acting]
) -> tuple[Accident, ...]:
    names = [n for n, places in found.places.items() if any(g.unhooked for g, _ in places)]
    why = (
        "its decay is not what the policy said, since copied groups bring no hook: use "
        "make_optimizer, or load_state_dict into an optimizer from it"
    )
    return _entries(known, names, acting, lambda n: why)


def _cancelled(
    known: Parameters, found: Wiring, acting: Mapping[str, Acting], names: Sequence[str]
) -> tuple[Accident, ...]:
    def why(name: str) -> str:
        stepped = found.places[name][0][1].stepped
        assert stepped is not None
        dtype = str(stepped.dtype).removeprefix("torch.")
        size = acting[name].coefficient * (acting[name].rate or 0.0)
        return f"lr x weight_decay is {size:.2g}, less than {dtype} can hold"

    return _entries(known, [name for name in names if acting[name].lost], acting, why)


def _decays(acts: Acts, place: Place) -> bool:
    group, slot = place
    return acts(group, slot.stepped).coefficient != 0


def _at(place: Place, why: str) -> str:
    group, slot = place
    return f"in {group.label}: {why}" if slot.name else why


def _notes(
    known: Parameters,
    acting: Mapping[str, Acting],
    names: Sequence[str],
    groups: Sequence[Group],
) -> Iterable[str]:
    if not known.trained:
        yield "nothing is trained: every parameter of the model is frozen"
    if names and not any(acting[name].coefficient for name in names):
        yield f"nothing decays: {_why_nothing(groups)}"
    if any(acting[name].coefficient and acting[name].mode == "unknown" for name in names):
        yield (
            "the class of an optimizer is none that this library knows, so how its weight_decay "
            "acts is unknown"
        )


def _why_nothing(groups: Sequence[Group]) -> str:
    if not any(can_decay(group.settings) for group in groups):
        kinds = dict.fromkeys(type(group.optimizer).__name__ for group in groups)
        return f"{' and '.join(kinds)} has no weight decay"
    return f"weight_decay is 0 in {'its group' if len(groups) == 1 else 'all groups'}"
