"""How much of ``weight_decay`` each kind of parameter gets: a policy is a set of multipliers."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from gamma_nlp.decay.schedule import LR, Schedule
from gamma_nlp.errors import GammaError, close_to, shown
from gamma_nlp.files import read_json, read_yaml
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.table import Gain

Native = Literal["decoupled", "coupled"]
"""``decoupled``: w -= lr * lambda * w. ``coupled``: gradient += lambda * w."""

Mode = Literal["native", "decoupled", "coupled"]
"""``native``: whichever of the two the optimizer has by itself."""

Target = Literal["zero", "one", "start"]
"""What a gain decays toward: 0, 1, or the value it had when training began (L2-SP)."""

Rounding = Literal["defer", "keep"]
"""``defer``: where rounding would cancel decay, gather it and apply it in larger steps."""

KINDS = (
    "layer_norm",
    "rms_norm",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "elementwise_norm",
    "qk_norm",
    "layer_scale",
)
CATEGORY_KEYS = ("branch_last", "branch_inner", "shortcut", "head")
ROLE_KEYS = ("weight", "embedding", "shift", "bias", "other")
NORMALIZED = "normalized"


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
        mode: ``native``, the optimizer's own kind of decay; or ``decoupled`` (AdamW) or
            ``coupled`` (L2 in the gradient), for every decayed parameter, not for gains alone.
        target: What gains decay toward: ``zero``, ``one``, or ``start``, the value when training
            began, as in L2-SP (Li et al. 2018, arXiv:1802.01483). ``start`` holds for shifts too.
        targets: The same per gain category, kind, ``shift`` or glob on the name; a glob wins over
            a kind, and a kind over a category.
        schedule: How the coefficient moves over the run, see :class:`.schedule.Schedule`.
        schedules: The same per category, kind, role or glob; ``normalized`` stands for the
            weights that a norm follows on every way to the output.
        rounding: ``defer``: decay that rounding to the parameter's dtype would cancel is gathered
            and applied in larger steps. ``keep``: as it comes, which may be no decay at all.

    The defaults are the preset ``guidelines``: the four guidelines of Kim et al.
    (arXiv:2205.07260) as this package reads them.

    Raises:
        GammaError: A multiplier that is not a finite number >= 0, an unknown kind or mode.

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
    mode: Mode = "native"
    target: Target = "zero"
    targets: Mapping[str, Target] = field(default_factory=dict)
    schedule: Schedule = LR
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    rounding: Rounding = "defer"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise GammaError(f"policy: name must be a non-empty string, got {shown(self.name)}")
        where = f"policy {shown(self.name)}"
        for key in CATEGORY_KEYS + ROLE_KEYS:
            value = getattr(self, key)
            if not (key == "embedding" and value is None):
                _check_multiplier(where, key, value)
        for key in ("kinds", "patterns"):
            entries = getattr(self, key)
            if not isinstance(entries, Mapping):
                raise GammaError(
                    f"{where}: {key} must map names to multipliers, got {shown(entries)}; "
                    f'write for example {{"{"qk_norm" if key == "kinds" else "*.bias"}": 0.0}}'
                )
            for name, value in entries.items():
                if not isinstance(name, str):
                    raise GammaError(
                        f"{where}: the keys of {key} must be strings, got {shown(name)}"
                    )
                _check_multiplier(where, f"{key}[{shown(name)}]", value)
        for kind in self.kinds:
            if kind not in KINDS:
                raise GammaError(
                    f"{where}: unknown gain kind {shown(kind)}{_suggestion(kind, KINDS)}"
                )
        for key, valid in (("mode", Mode), ("target", Target), ("rounding", Rounding)):
            _check_word(where, key, getattr(self, key), get_args(valid))
        self._check_targets(where)
        self._read_schedules(where)

    def _check_targets(self, where: str) -> None:
        if not isinstance(self.targets, Mapping):
            raise GammaError(
                f"{where}: targets must map categories, kinds or name patterns to one of "
                f"{', '.join(get_args(Target))}, got {shown(self.targets)}"
            )
        for key, target in self.targets.items():
            _check_key(where, "targets", key, (*CATEGORY_KEYS, *KINDS, "shift"))
            _check_word(where, f"targets[{shown(key)}]", target, get_args(Target))
        if self.targets.get("shift") == "one":
            raise GammaError(f"{where}: targets['shift'] is 'one', but a shift is no gain")

    def _read_schedules(self, where: str) -> None:
        if not isinstance(self.schedules, Mapping):
            raise GammaError(
                f"{where}: schedules must map categories, kinds, roles or name patterns to "
                f"schedules such as lr_squared, got {shown(self.schedules)}"
            )
        for key in self.schedules:
            valid = (*CATEGORY_KEYS, *KINDS, *ROLE_KEYS, NORMALIZED)
            _check_key(where, "schedules", key, valid)
        try:
            read = {key: Schedule.read(value) for key, value in self.schedules.items()}
            object.__setattr__(self, "schedule", Schedule.read(self.schedule))
            object.__setattr__(self, "schedules", read)
        except GammaError as error:
            raise GammaError(f"{where}: {error}") from None

    @classmethod
    def load(cls, source: str | os.PathLike[str] | DecayPolicy) -> DecayPolicy:
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
        if path.suffix.lower() in (".json", ".yaml", ".yml"):
            return _from_file(path)
        if path.is_file() or isinstance(source, os.PathLike) or len(path.parts) > 1:
            raise GammaError(f"policy file {text!r}: the name must end in .json, .yaml or .yml")
        raise GammaError(
            f"unknown policy {text!r}{_suggestion(text, PRESETS)}; or give a .json or .yaml file"
        )

    def multiplier(self, name: str, what: Gain | Role) -> float:
        """Return what ``weight_decay`` is multiplied by for one parameter.

        Args:
            name: The parameter's name, for the patterns.
            what: Its row in the gain table, or its role if it is not a gain.
        """
        for pattern, value in self.patterns.items():
            if fnmatchcase(name, pattern):
                return value
        if isinstance(what, Role):
            value = getattr(self, what.value)
            return self.weight if value is None else value
        if what.category is None:  # never reached by the forward pass: nothing to regularise
            return 0.0
        if what.kind in self.kinds:
            return self.kinds[what.kind]
        return float(getattr(self, what.category.value))

    def target_of(self, name: str, what: Gain | Role) -> Target:
        """Return what one parameter decays toward.

        Raises:
            GammaError: A pattern of ``targets`` matches what is neither gain nor shift.
        """
        is_gain = isinstance(what, Gain)
        for pattern, target in self.targets.items():
            if _is_pattern(pattern) and fnmatchcase(name, pattern):
                if not is_gain and (what is not Role.SHIFT or target == "one"):
                    raise GammaError(
                        f"policy {shown(self.name)}: targets[{shown(pattern)}] is {target!r} and "
                        f"matches {name!r}, a {what}; targets are for gains, 'start' for shifts too"
                    )
                return target
        if not isinstance(what, Gain):
            if what is not Role.SHIFT:
                return "zero"
            return self.targets.get("shift", "start" if self.target == "start" else "zero")
        category = "" if what.category is None else what.category.value
        keys = (key for key in (what.kind, category) if key in self.targets)
        return next((self.targets[key] for key in keys), self.target)

    def schedule_of(self, name: str, what: Gain | Role, *, normalized: bool = False) -> Schedule:
        """Return the schedule of one parameter's coefficient.

        Args:
            name: The parameter's name, for the patterns.
            what: Its row in the gain table, or its role if it is not a gain.
            normalized: Whether it is a weight that a norm follows on every way to the output.
        """
        for pattern, schedule in self.schedules.items():
            if _is_pattern(pattern) and fnmatchcase(name, pattern):
                return schedule
        if isinstance(what, Role):
            keys = [NORMALIZED] if normalized else []
            keys += [what.value, "weight"] if what is Role.EMBEDDING else [what.value]
        else:
            keys = [what.kind, "" if what.category is None else what.category.value]
        return next((self.schedules[key] for key in keys if key in self.schedules), self.schedule)

    @property
    def name_patterns(self) -> list[str]:
        """Every glob on names, each once."""
        own = [key for key in (*self.targets, *self.schedules) if _is_pattern(key)]
        return list(dict.fromkeys([*self.patterns, *own]))

    @property
    def decays_gains(self) -> bool:
        """Whether any category or kind of gain has a multiplier above 0."""
        by_category = (getattr(self, key) for key in CATEGORY_KEYS)
        return any(value > 0 for value in (*by_category, *self.kinds.values()))


def _check_multiplier(where: str, key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = ""
        if isinstance(value, str):
            hint = "; no quotes, and in YAML write 1.0e-2, not 1e-2"
        raise GammaError(f"{where}: {key} must be a number >= 0, got {shown(value)}{hint}")
    if not 0 <= value <= sys.float_info.max:
        raise GammaError(f"{where}: {key} must be finite and >= 0, got {shown(value)}")


def _check_word(where: str, key: str, value: object, valid: tuple[str, ...]) -> None:
    if value not in valid:
        hint = _suggestion(str(value), valid)
        raise GammaError(f"{where}: unknown {key} {shown(value)}{hint}")


def _is_pattern(key: str) -> bool:
    """Return whether a key is a name or glob of parameters; other keys are single words."""
    return key not in (*CATEGORY_KEYS, *KINDS, *ROLE_KEYS, NORMALIZED)


def _check_key(where: str, key: str, name: object, valid: tuple[str, ...]) -> None:
    if not isinstance(name, str):
        raise GammaError(f"{where}: the keys of {key} must be strings, got {shown(name)}")
    if name in valid or set("*?[.") & set(name):
        return
    raise GammaError(f"{where}: {key}: unknown key {shown(name)}{_suggestion(name, valid)}")


def _suggestion(word: str, valid: Iterable[str]) -> str:
    valid = list(valid)
    return f"{close_to(word, valid)} (valid: {', '.join(valid)})"


def _preset(name: str, **multipliers: float) -> DecayPolicy:
    zero = dict.fromkeys(CATEGORY_KEYS, 0.0)
    return DecayPolicy(name=name, **{**zero, **multipliers})  # type: ignore[arg-type]


PRESETS: Mapping[str, DecayPolicy] = {
    policy.name: policy
    for policy in (
        _preset("guidelines", branch_last=1.0, branch_inner=1.0),
        _preset("input_only", branch_inner=1.0),
        _preset("none"),
        _preset("all", **dict.fromkeys(CATEGORY_KEYS, 1.0)),
        _preset("all_params", **dict.fromkeys((*CATEGORY_KEYS, *ROLE_KEYS), 1.0)),
    )
}
"""Policies with a name. All but ``all_params`` differ in gains only: weights and embeddings
decay; shifts, biases and others do not. ``guidelines``: arXiv:2205.07260 as read by this package;
``input_only``: arXiv:2605.26895; ``none``: what Hugging Face intends; ``all``: every gain;
``all_params``: everything, as fairseq and plain torch do."""


def decayed_categories(source: str) -> list[str]:
    """Return the gain categories that a policy file sets above 0 by name; none for a preset.

    Args:
        source: A preset's name, or a file that :meth:`DecayPolicy.load` has read.
    """
    if source in PRESETS:
        return []
    data = _content(Path(source))
    return [key for key in CATEGORY_KEYS if data.get(key, 0) > 0]


def _from_file(path: Path) -> DecayPolicy:
    data = _content(path)
    if not isinstance(data, dict):
        got = "an empty file" if data is None else shown(data)
        raise GammaError(f"{path}: expected keys such as 'branch_inner: 1.0', got {got}")
    fields = [f.name for f in dataclasses.fields(DecayPolicy)]
    for key in data:
        if key not in fields and key != "base":
            raise GammaError(
                f"{path}: unknown key {shown(key)}{_suggestion(str(key), [*fields, 'base'])}"
            )
    base = data.pop("base", "guidelines")
    if not isinstance(base, str) or base not in PRESETS:
        hint = _suggestion(base if isinstance(base, str) else "", PRESETS)
        raise GammaError(f"{path}: base: unknown preset {shown(base)}{hint}")
    for key in ("kinds", "patterns"):
        if data.get(key, "") is None:  # a YAML key with nothing below it
            del data[key]
    try:
        return dataclasses.replace(PRESETS[base], **{"name": path.stem, **data})
    except GammaError as error:
        raise GammaError(f"{path}: {error}") from None


def _content(path: Path) -> Any:
    if not path.exists():
        raise GammaError(f"policy file {str(path)!r} does not exist")
    if path.suffix.lower() == ".json":
        return read_json(path)
    return read_yaml(path, f"{path}: JSON needs no package, YAML needs")
