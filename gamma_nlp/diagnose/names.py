"""Find a model's parameters among the names of a checkpoint.

Wrappers put something before every name, a base model is saved without the name of its place in
the whole one, and transformers itself renames tensors on loading. One parameter may be stored in
parts (one tensor an expert, or an image's q, k and v apart).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from gamma_nlp.wrappers import plain_names

Sources = dict[str, tuple[str, ...]]
"""The stored names that hold each parameter; more than one where it is stored in parts."""


def by_name(wanted: Sequence[str], stored: Iterable[str]) -> Sources:
    """Find parameters by their own names, whatever stands before all of them on either side.

    >>> by_name(["bert.ln.weight"], ["module.bert.ln.weight", "module.fc.weight"])
    {'bert.ln.weight': ('module.bert.ln.weight',)}
    >>> by_name(["bert.ln.weight"], ["ln.weight"])
    {'bert.ln.weight': ('ln.weight',)}
    """
    plain = {short: name for name, short in plain_names(stored).items()}
    own = plain_names(wanted)
    best: Sources = {}
    # Something stands before all stored names, or before all of the model's, and not both:
    # the rest of a name alone, such as `weight`, would fit any model.
    changes = [("", prefix) for prefix in _prefixes(own.values(), plain)]
    for drop, add in [*changes, (_first(list(own.values())), "")]:
        names = {name: add + short.removeprefix(drop) for name, short in own.items()}
        found: Sources = {n: (plain[short],) for n, short in names.items() if short in plain}
        if len(found) > len(best):
            best = found
    return best


def by_model(model: nn.Module, wanted: Sequence[str], stored: Iterable[str]) -> Sources:
    """Find parameters as ``from_pretrained`` of a model of transformers finds them."""
    plain = {short: name for name, short in plain_names(stored).items()}
    best: Sources = {}
    for prefix in ("", *_prefixes(wanted, plain)):
        names = {name.removeprefix(prefix): name for name in plain if name.startswith(prefix)}
        found = {
            name: tuple(plain[names[source]] for source in sources)
            for name, sources in _renamed(model, set(wanted), names).items()
        }
        if len(found) > len(best):
            best = found
        if len(best) == len(wanted):
            break
    return best


def _renamed(model: Any, wanted: set[str], stored: Iterable[str]) -> dict[str, list[str]]:
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    meta, base = model.state_dict(), model.base_model_prefix
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first.setdefault(id(parameter), name)
    named = model.named_parameters(remove_duplicate=False)
    own = {name: first[id(parameter)] for name, parameter in named}
    found: dict[str, list[str]] = {}
    for name in sorted(stored, key=dot_natural_key):
        renamed, pattern = rename_source_key(name, renamings, converters, base, meta)
        if renamed not in meta and name in meta:
            renamed, pattern = rename_source_key(name, [], [], base, meta)
        target = own.get(renamed)
        if target in wanted and (pattern is not None or target not in found):
            found.setdefault(target, []).append(name)
    return found


def _first(names: Sequence[str]) -> str:
    """Return the part that all names begin with, with its dot, or nothing."""
    parts = {name.partition(".")[0] for name in names}
    return f"{parts.pop()}." if len(parts) == 1 else ""


def _prefixes(wanted: Iterable[str], stored: Mapping[str, Any]) -> list[str]:
    """Return what stands before wanted names among the stored ones, the most frequent first."""
    wanted, counted = set(wanted), Counter[str]()
    for name in stored:
        start = 0
        while True:
            if name[start:] in wanted:
                counted[name[:start]] += 1
            start = name.find(".", start) + 1
            if not start:
                break
    return [prefix for prefix, _ in sorted(counted.items(), key=lambda kv: (-kv[1], len(kv[0])))]
