"""Tables of positions that are not the architecture's own, and how they survive being saved."""

from __future__ import annotations

from typing import Any

import torch


def keep_positions(model: Any) -> None:
    """Let ``save_pretrained`` write a table of positions that the architecture would not make.

    Marian's models leave their table out of the file and make it anew on loading. One that came
    from elsewhere, such as fairseq's, would silently be another one after that. Call this before
    ``save_pretrained``; the trainers and loading functions of this library do. A model whose table
    is its own, or is saved anyway, stays as it is.

    Tables are compared in their first two rows, which no two kinds of table share.

    Args:
        model: Any model; only those of transformers can be changed.
    """
    left_out = getattr(model, "_keys_to_ignore_on_save", None)
    if left_out:
        kept = {name for name in left_out if _is_foreign(model, name)}
        if kept:
            model._keys_to_ignore_on_save = set(left_out) - kept


def _is_foreign(model: Any, name: str) -> bool:
    try:
        table = model.get_submodule(name.rpartition(".")[0])
    except AttributeError:
        return False
    if not hasattr(table, "create_weight"):
        return False
    first = table.weight.detach()[:2].cpu()
    with torch.device("meta"):  # else its random start would change what a run draws next
        own = type(table)(*first.shape)
    return not torch.equal(first, own.create_weight().to(first.dtype))
