"""How much of ``weight_decay`` each kind of parameter gets: a policy is a set of multipliers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from gamma_nlp.decay.policies.file import SUFFIXES, read_policy
from gamma_nlp.decay.policies.keys import (
    CATEGORY_KEYS,
    NORMALIZED,
    ROLE_KEYS,
    Mode,
    Rounding,
    Rule,
    Target,
    check_kinds,
    check_multiplier,
    check_multipliers,
    check_targets,
    check_word,
    deciding_key,
    is_pattern,
    read_schedules,
    suggestion,
)
from gamma_nlp.decay.policies.presets import PRESET_FIELDS
from gamma_nlp.decay.schedule import LR, Schedule, ScheduleLike
from gamma_nlp.errors import GammaError, shown
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.table import Gain


@dataclass(frozen=True, kw_only=True)
class DecayPolicy:
    """Multipliers of ``weight_decay``: per gain category, gain kind, parameter role, name pattern.

    Args:
        name: The policy's name in logs and reports.
        branch_last: For gains that end a residual branch.
        branch_inner: For gains inside a residual branch.
        shortcut: For gains on a skip connection.
        head: For gains after the last residual addition.
        weight: For weights.
        embedding: For embeddings; ``None`` means as ``weight``.
        shift: For the biases of normalisations.
        bias: For all other biases.
        other: For everything else.
        kinds: Per kind of gain, such as ``{"qk_norm": 0.0}``; wins over the category.
        patterns: Per glob on the parameter name (``"*.q_norm.weight"``); the first match wins
            over everything else. A pattern that matches no parameter is an error.
        rule: ``position``: categories, kinds and roles decide. ``hugging_face`` or ``timm``: what
            that library's own rule spares by name, class or shape is spared besides; a pattern
            wins over the rule.
        mode: ``native``, the optimizer's own kind of decay; or ``decoupled`` (AdamW) or
            ``coupled`` (L2 in the gradient), for every decayed parameter, not for gains alone.
        target: What gains decay toward: ``zero``, ``one``, or ``start``, the value when training
            began, as in L2-SP (Li et al. 2018, arXiv:1802.01483). ``start`` holds for shifts too.
            ``stored``: 0 of the parameter, as in plain optimizers; a gain stored as 1 + weight
            then decays toward 1.
        targets: The same per gain category, kind, ``shift`` or glob on the name; a glob wins over
            a kind, and a kind over a category.
        schedule: How the coefficient moves over the run: a word such as ``"lr_squared"`` or a
            mapping such as ``{"kind": "cosine", "end": 0.1}``, see :class:`.schedule.Schedule`,
            which it is from then on.
        schedules: The same per category, kind, role or glob; ``normalized`` stands for the
            weights that a norm follows on every way to the output.
        rounding: ``defer``: decay that rounding to the parameter's dtype would cancel is gathered
            and applied in larger steps. ``keep``: as it comes, which may be no decay at all.

    The defaults are the preset ``guidelines``: the four guidelines of Kim et al.
    (arXiv:2205.07260) as this package reads them. The other presets and their sources are listed
    in :mod:`gamma_nlp.decay.policies.presets`.

    Raises:
        GammaError: A multiplier that is not a finite number >= 0, a word that is none of those
            above, a schedule that makes no sense.

    Example:
        >>> from gamma_nlp import DecayPolicy
        >>> DecayPolicy(name="no-qk", kinds={"qk_norm": 0.0}).branch_inner
        1.0
        >>> DecayPolicy.load("input_only").branch_last
        0.0
    """

    name: str = "custom"
    branch_last: float = 1.0
    branch_inner: float = 1.0
    shortcut: float = 0.0
    head: float = 0.0
    weight: float = 1.0
    embedding: float | None = None
    shift: float = 0.0
    bias: float = 0.0
    other: float = 0.0
    kinds: Mapping[str, float] = field(default_factory=dict)
    patterns: Mapping[str, float] = field(default_factory=dict)
    rule: Rule = "position"
    mode: Mode = "native"
    target: Target = "zero"
    targets: Mapping[str, Target] = field(default_factory=dict)
    schedule: ScheduleLike = LR
    schedules: Mapping[str, ScheduleLike] = field(default_factory=dict)
    rounding: Rounding = "defer"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise GammaError(f"policy: name must be a non-empty string, got {shown(self.name)}")
        where = f"policy {shown(self.name)}"
        for key in CATEGORY_KEYS + ROLE_KEYS:
            value = getattr(self, key)
            if not (key == "embedding" and value is None):
                check_multiplier(where, key, value)
        check_kinds(where, self.kinds)
        check_multipliers(where, "patterns", self.patterns, example="*.bias")
        words = {"rule": Rule, "mode": Mode, "target": Target, "rounding": Rounding}
        for key, valid in words.items():
            check_word(where, key, getattr(self, key), valid)
        check_targets(where, self.targets)
        object.__setattr__(self, "schedule", Schedule.read(self.schedule, f"{where}: schedule"))
        object.__setattr__(self, "schedules", read_schedules(where, self.schedules))

    @classmethod
    def load(cls, source: PolicyLike) -> DecayPolicy:
        """Return the policy that ``source`` names: a preset, a JSON or YAML file, or itself.

        A file holds the fields of this class as flat keys, and may start from a preset with
        ``base: <preset>``.

        Raises:
            GammaError: Unknown preset, missing or malformed file, unknown key, bad value.
        """
        if isinstance(source, DecayPolicy):
            return source
        if not isinstance(source, (str, os.PathLike)):
            raise GammaError(
                "a policy is the name of a preset, a file or a DecayPolicy such as "
                f"DecayPolicy(branch_inner=0.5), got {shown(source)}"
            )
        text = os.fspath(source)
        if isinstance(source, str) and text in PRESETS:
            return PRESETS[text]
        path = Path(text)
        if path.suffix.lower() in SUFFIXES:
            return _from_file(path)
        if path.is_file() or isinstance(source, os.PathLike) or len(path.parts) > 1:
            raise GammaError(f"policy file {text!r}: the name must end in .json, .yaml or .yml")
        raise GammaError(
            f"unknown policy {text!r}{suggestion(text, PRESETS)}; or give a .json or .yaml file"
        )

    def multiplier(
        self, name: str, what: Gain | Role, spared: Collection[str] | None = None
    ) -> float:
        """Return what ``weight_decay`` is multiplied by for one parameter.

        Args:
            name: The parameter's name, for the patterns.
            what: Its row in the gain table, or its role if it is not a gain.
            spared: The names that another library's rule spares, where :attr:`rule` names one;
                see :func:`gamma_nlp.decay.assign.spared_in`.

        Raises:
            GammaError: ``spared`` is needed and missing.
        """
        if self.rule != "position" and spared is None:
            raise GammaError(
                f"policy {shown(self.name)}: the rule {self.rule!r} decides by name, class and "
                "shape, so it needs the model, not its gain table alone"
            )
        for pattern, value in self.patterns.items():
            if fnmatchcase(name, pattern):
                return value
        if spared is not None and name in spared:
            return 0.0
        if isinstance(what, Role):
            value = getattr(self, what.value)
            return self.weight if value is None else value
        if what.category is None:  # never reached by the forward pass: nothing to regularise
            return 0.0
        if what.kind in self.kinds:
            return self.kinds[what.kind]
        return float(getattr(self, what.category.value))

    def target_key(self, name: str, what: Gain | Role) -> str | None:
        """Return the key of :attr:`targets` that decides for a gain or a shift, if one does."""
        return deciding_key(self.targets, name, _words(what))

    def target_of(self, name: str, what: Gain | Role) -> Target:
        """Return what one parameter decays toward.

        Raises:
            GammaError: A pattern of ``targets`` matches what is neither gain nor shift.
        """
        key = self.target_key(name, what)
        if isinstance(what, Gain):
            return self.target if key is None else self.targets[key]
        if key is None:
            moves = what is Role.SHIFT and self.target == "start"
            return "start" if moves else "zero"
        target = self.targets[key]
        if target == "one" or (target == "start" and what is not Role.SHIFT):
            raise GammaError(
                f"policy {shown(self.name)}: targets[{shown(key)}] is {target!r} and matches "
                f"{name!r}, whose role is {what}; targets are for gains, 'start' for shifts too"
            )
        return target

    def schedule_key(self, name: str, what: Gain | Role, *, normalized: bool = False) -> str | None:
        """Return the key of :attr:`schedules` that decides for one parameter, if one does."""
        first = [NORMALIZED] if normalized and isinstance(what, Role) else []
        return deciding_key(self.schedules, name, [*first, *_words(what)])

    def schedule_of(self, name: str, what: Gain | Role, *, normalized: bool = False) -> Schedule:
        """Return the schedule of one parameter's coefficient.

        Args:
            name: The parameter's name, for the patterns.
            what: Its row in the gain table, or its role if it is not a gain.
            normalized: Whether it is a weight that a norm follows on every way to the output.
        """
        key = self.schedule_key(name, what, normalized=normalized)
        return Schedule.read(self.schedule if key is None else self.schedules[key])

    @property
    def name_patterns(self) -> list[str]:
        """Every glob on names, each once."""
        own = [key for key in (*self.targets, *self.schedules) if is_pattern(key)]
        return list(dict.fromkeys([*self.patterns, *own]))

    @property
    def decays_gains(self) -> bool:
        """Whether any category or kind of gain has a multiplier above 0."""
        by_category = (getattr(self, key) for key in CATEGORY_KEYS)
        return any(value > 0 for value in (*by_category, *self.kinds.values()))


def _words(what: Gain | Role) -> list[str]:
    """Return the words that stand for a gain or a role, the narrowest first."""
    if isinstance(what, Gain):
        return [what.kind] if what.category is None else [what.kind, what.category.value]
    return [what.value, "weight"] if what is Role.EMBEDDING else [what.value]


PolicyLike = str | os.PathLike[str] | DecayPolicy
"""A preset's name, a file, or a policy."""

PRESETS: Mapping[str, DecayPolicy] = {
    name: DecayPolicy(name=name, **fields) for name, fields in PRESET_FIELDS.items()
}
"""Policies with a name; :mod:`.policies.presets` says where each comes from."""


def _from_file(path: Path) -> DecayPolicy:
    base, data = read_policy(path, [field.name for field in dataclasses.fields(DecayPolicy)])
    try:
        return dataclasses.replace(PRESETS[base], **{"name": path.stem, **data})
    except GammaError as error:
        raise GammaError(f"{path}: {error}") from None
