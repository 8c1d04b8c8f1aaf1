"""What a policy file says itself, apart from what it takes from its base."""

from __future__ import annotations

from pathlib import Path

from gamma_nlp.decay.policy import CATEGORY_KEYS, PRESETS, _parse


def decayed_categories(source: str) -> list[str]:
    """The gain categories that a policy file sets above 0 by name; none for a preset.

    Args:
        source: A preset's name, or a file that :meth:`DecayPolicy.load` has read.
    """
    if source in PRESETS:
        return []
    data = _parse(Path(source), Path(source).read_text(encoding="utf-8"))
    return [key for key in CATEGORY_KEYS if data.get(key, 0) > 0]
