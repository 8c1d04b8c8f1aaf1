"""The arms of a study: a policy each, or settings, or both; or the full design over categories."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gamma_nlp.errors import close_to, shown
from gamma_nlp.study.fields import Fields

CATEGORIES = ("branch_last", "branch_inner", "shortcut", "head")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the things that are compared.

    Attributes:
        name: Its name.
        policy: A preset's name, the path of a policy file, the fields of a policy, or ``None``
            for the recipe's own.
        settings: What its runs set besides.
        factors: In the full design: which categories decay.
    """

    name: str
    policy: str | Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, bool] | None = None


def read_arms(fields: Fields) -> tuple[Arm, ...]:
    """Read the arms of a study's config, or make those of its design."""
    if fields.has("design"):
        if fields.has("arms"):
            raise fields.error("design", "it makes the arms itself; give design or arms, not both")
        name = fields.text("design")
        if name != "categories":
            hint = close_to(name, ["categories"]) or "; the one design is 'categories'"
            raise fields.error("design", f"unknown design {name!r}{hint}")
        return all_combinations()
    arms = fields.mapping("arms", "{none: {policy: none}, all: {policy: all}}")
    names = list(arms.data)
    if len(names) < 2:
        there = f"{names[0]!r} is the only one" if names else "there is none"
        raise fields.error("arms", f"a study compares at least two arms; {there}")
    found: list[Arm] = []
    folders: dict[str, str] = {}
    for name in names:
        arm = _read_arm(arms, name)
        same = next(
            (a for a in found if (a.policy, a.settings) == (arm.policy, arm.settings)), None
        )
        if same is not None:
            raise arms.error(name, f"is the same as the arm {same.name!r}; leave one out")
        if name.lower() in folders:  # some file systems take them for one
            other = folders[name.lower()]
            raise arms.error(name, f"differs from {other!r} in case alone; rename one")
        folders[name.lower()] = name
        found.append(arm)
    return tuple(found)


def all_combinations() -> tuple[Arm, ...]:
    """Return the 16 arms in which each category decays or not: ``none`` first, ``all`` last."""
    arms = []
    for chosen in itertools.product((False, True), repeat=len(CATEGORIES)):
        factors = dict(zip(CATEGORIES, chosen, strict=True))
        names = [category for category, decays in factors.items() if decays]
        name = "all" if all(chosen) else "+".join(names) or "none"
        policy = {"base": "none", **{key: float(decays) for key, decays in factors.items()}}
        arms.append(Arm(name=name, policy=policy, factors=factors))
    return tuple(sorted(arms, key=lambda arm: sum((arm.factors or {}).values())))


def _read_arm(arms: Fields, name: str) -> Arm:
    if not _NAME.fullmatch(name):
        raise arms.error(
            name, f"{shown(name)} is no name of an arm: use letters, digits, and . _ + -"
        )
    if isinstance(arms.data[name], str):
        policy = arms.data[name]
        raise arms.error(
            name, f"expected {{policy: ...}}, got text; write `{name}: {{policy: {policy}}}`"
        )
    arm = arms.mapping(name, "{policy: all}")
    arm.only(("policy", "set"))
    return Arm(
        name=name,
        policy=_policy(arm),
        settings=dict(arm.mapping("set", "{learning_rate: 1.0e-4}").data),
    )


def _policy(arm: Fields) -> str | Mapping[str, Any] | None:
    given = arm.data.get("policy")
    if given is None:
        return None
    if isinstance(given, Mapping):
        if not given:
            raise arm.error("policy", "no field is given; write for example {base: all}")
        return dict(arm.mapping("policy", "{base: all, target: start}").data)
    name = arm.text("policy")
    path = Path(name).expanduser()
    if path.suffix.lower() in (".yaml", ".yml", ".json") or len(path.parts) > 1:
        path = arm.file.parent / path
        if not path.is_file():
            raise arm.error("policy", f"no file {path}")
        return str(path)
    return name
