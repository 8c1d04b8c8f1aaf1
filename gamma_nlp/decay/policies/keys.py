"""The words that a policy is written in, and checks of values that name what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, Literal, get_args

from gamma_nlp.decay.schedule import Schedule
from gamma_nlp.errors import GammaError, close_to, shown

Native = Literal["decoupled", "coupled"]
"""``decoupled``: w -= lr * lambda * w. ``coupled``: gradient += lambda * w."""

Mode = Literal["native", "decoupled", "coupled"]
"""``native``: whichever of the two the optimizer has by itself."""

Target = Literal["zero", "one", "start", "stored"]
"""What a gain decays toward: 0, 1, the value it had when training began (L2-SP), or 0 of the
parameter as it is stored, which is gain 1 where a gain is 1 + parameter."""

Rounding = Literal["defer", "keep"]
"""``defer``: where rounding would cancel decay, gather it and apply it in larger steps."""

Rule = Literal["position", "hugging_face", "timm"]
"""``position``: a parameter's place decides alone. Else another library's own rule has to agree."""

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

TARGET_KEYS = (*CATEGORY_KEYS, *KINDS, "shift")
SCHEDULE_KEYS = (*CATEGORY_KEYS, *KINDS, *ROLE_KEYS, NORMALIZED)
_WORDS = frozenset(SCHEDULE_KEYS)


def is_pattern(key: str) -> bool:
    """Return whether a key is a glob on the names of parameters, not one of the words above."""
    return key not in _WORDS


def deciding_key(entries: Mapping[str, object], name: str, words: Sequence[str]) -> str | None:
    """Return the first pattern that matches a name, else the first word that is a key."""
    patterns = (key for key in entries if is_pattern(key) and fnmatchcase(name, key))
    return next(chain(patterns, (word for word in words if word in entries)), None)


def check_multiplier(where: str, key: str, value: object) -> None:
    """Raise where a multiplier is no finite number >= 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = ""
        if isinstance(value, str):
            hint = "; no quotes, and in YAML write 1.0e-2, not 1e-2"
        raise GammaError(f"{where}: {key} must be a number >= 0, got {shown(value)}{hint}")
    if not 0 <= value <= sys.float_info.max:
        raise GammaError(f"{where}: {key} must be finite and >= 0, got {shown(value)}")


def check_multipliers(where: str, key: str, entries: object, *, example: str) -> None:
    """Raise where ``entries`` does not map strings to multipliers."""
    if not isinstance(entries, Mapping):
        raise GammaError(
            f"{where}: {key} must map names to multipliers, got {shown(entries)}; "
            f'write for example {{"{example}": 0.0}}'
        )
    for name, value in entries.items():
        if not isinstance(name, str):
            raise GammaError(f"{where}: the keys of {key} must be strings, got {shown(name)}")
        check_multiplier(where, f"{key}[{shown(name)}]", value)


def check_kinds(where: str, kinds: Mapping[str, float]) -> None:
    """Raise where ``kinds`` does not map kinds of gains to multipliers."""
    check_multipliers(where, "kinds", kinds, example="qk_norm")
    for kind in kinds:
        if kind not in KINDS:
            raise GammaError(f"{where}: unknown gain kind {shown(kind)}{suggestion(kind, KINDS)}")


def check_word(where: str, key: str, value: object, valid: Any) -> None:
    """Raise where ``value`` is none of the words of the type ``valid``."""
    words = get_args(valid)
    if not isinstance(value, str) or value not in words:
        raise GammaError(f"{where}: unknown {key} {shown(value)}{suggestion(str(value), words)}")


def check_targets(where: str, targets: object) -> None:
    """Raise where ``targets`` does not map gains, shifts or patterns to targets."""
    if not isinstance(targets, Mapping):
        raise GammaError(
            f"{where}: targets must map categories, kinds or name patterns to one of "
            f"{', '.join(get_args(Target))}, got {shown(targets)}; write for example "
            '{"branch_inner": "one"}'
        )
    for key, target in targets.items():
        if key in _WORDS and key not in TARGET_KEYS:
            raise GammaError(
                f"{where}: targets[{shown(key)}] is no gain; targets are for gains and shifts, and "
                "all else decays toward 0"
            )
        check_key(where, "targets", key, TARGET_KEYS)
        check_word(where, f"targets[{shown(key)}]", target, Target)
    if targets.get("shift") == "one":
        raise GammaError(f"{where}: targets['shift'] is 'one', but a shift is no gain")


def read_schedules(where: str, schedules: object) -> dict[str, Schedule]:
    """Return the schedule of each key; raise where there is something else."""
    if not isinstance(schedules, Mapping):
        raise GammaError(
            f"{where}: schedules must map categories, kinds, roles or name patterns to "
            f"schedules, got {shown(schedules)}; write for example "
            '{"normalized": "lr_squared"}'
        )
    for key in schedules:
        check_key(where, "schedules", key, SCHEDULE_KEYS)
    return {
        key: Schedule.read(value, f"{where}: schedules[{shown(key)}]")
        for key, value in schedules.items()
    }


def check_key(where: str, field: str, key: object, valid: tuple[str, ...]) -> None:
    """Raise where a key is neither one of the words ``valid`` nor a pattern on names."""
    if not isinstance(key, str):
        raise GammaError(f"{where}: the keys of {field} must be strings, got {shown(key)}")
    if key not in valid and not set("*?[.") & set(key):
        raise GammaError(
            f"{where}: {field}: unknown key {shown(key)}{close_to(key, valid)} (valid: "
            f"{', '.join(valid)}, or a pattern on names, with a dot or *)"
        )


def suggestion(word: str, valid: Iterable[str]) -> str:
    """Return the end of a message about a word that is none of ``valid``."""
    valid = list(valid)
    return f"{close_to(word, valid)} (valid: {', '.join(valid)})"
