"""Judge what the stock Trainer's rule does with one parameter.

An *accident* is what neither the rule nor anybody else means:

=============================  ====================================  ===========================
parameter                      the rule decays it                    the rule spares it
=============================  ====================================  ===========================
gain on a skip or head         accident                              as meant
the same, of a batch or group  a heading of its own: torchvision     as meant
norm, if the rule spares no    decays them, timm does not
such norm of the model
gain in a branch               a heading of its own: the rule does   as meant
                               not mean it, ``guidelines`` does
gate: one number that scales   accident: rules by shape spare it,    as meant
a branch (mllama, IDEFICS)     OpenFlamingo by name
shift, bias                    accident                              as meant
constant: rate, scale          accident: Megatron spares vectors,    as meant
                               Mamba and S4 mark matrices
the same, where its authors    under the heading of batch norms      as meant
decay it
class token, latent query,     no accident: authors disagree         no accident
mixing matrix
weight, embedding              as meant                              accident
the same, marked by its        accident                              as meant
author
table of biases on scores, or  as meant                              no accident: Swin, BEiT and
a layer that makes one of                                            MViT spare it by name
positions
=============================  ====================================  ===========================

What authors do, and where it was read, is in :mod:`gamma_nlp.check.practice`.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Collection

from torch import nn

from gamma_nlp.check import practice
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.marks import MARKED
from gamma_nlp.gains.table import MIX, TOKENS, UNREACHED, Gain, GainTable

SPARED_WORDS = ("bias", "layernorm", "rmsnorm", "norm")
GATE = "it gates a whole branch, as Flamingo's gates do; nobody means to close it"


class Heading(enum.Enum):
    """Under what an audit lists a parameter."""

    ACCIDENT = "decayed by accident"
    SOME_AUTHORS = "decayed, as some authors do"
    GUIDELINES = "gains in a branch that decay, as under `guidelines`"
    SPARED = "spared by accident"


class Judge:
    """Judges the parameters of one model.

    Args:
        table: Its gain table.
        stock: What the rule decays.
        names: Its trainable parameters.
    """

    def __init__(self, table: GainTable, stock: Collection[str], names: Collection[str]) -> None:
        self.stock, self.reasons = stock, table.reasons
        self.what: dict[str, Gain | Role] = {**{gain.name: gain for gain in table}, **table.roles}
        self.spared = Counter(
            gain.kind for gain in table if gain.name in names and gain.name not in stock
        )

    def __call__(self, name: str, owner: nn.Module) -> tuple[Heading, str] | None:
        """Return under what to list a parameter and why; ``None`` if the rule is right."""
        entry = self.what[name]
        if name not in self.stock:
            return (Heading.SPARED, _why_spared(name)) if _is_meant_to_decay(entry, name) else None
        if isinstance(entry, Gain):
            # An unused gain has no gradient, so nothing decays it.
            return None if entry.category is None else self._decayed_gain(entry, owner)
        return self._decayed(name, entry, owner)

    def _decayed_gain(self, gain: Gain, owner: nn.Module) -> tuple[Heading, str]:
        unknown = _why_decayed(owner)
        if gain.kind == "layer_scale" and gain.numel == 1:
            return Heading.ACCIDENT, GATE
        if gain.category in (Category.BRANCH_LAST, Category.BRANCH_INNER):
            return Heading.GUIDELINES, unknown
        if gain.kind not in practice.NORM_KINDS or MARKED in gain.reason:
            return Heading.ACCIDENT, unknown
        alike = self.spared[gain.kind]
        if alike:
            norms = gain.kind.replace("_", " ") + ("s" if alike > 1 else "")
            return Heading.ACCIDENT, f"{unknown}; it spares {alike} {norms} of this model"
        return Heading.SOME_AUTHORS, practice.NORMS_DIFFER

    def _decayed(self, name: str, role: Role, owner: nn.Module) -> tuple[Heading, str] | None:
        reason = self.reasons.get(name)
        if role in (Role.WEIGHT, Role.EMBEDDING) or reason in (TOKENS, MIX, UNREACHED):
            return None
        if reason:  # marked by its author
            return Heading.ACCIDENT, reason
        authors = practice.decayed_by_authors(owner)
        if authors:
            return Heading.SOME_AUTHORS, authors
        return Heading.ACCIDENT, _why_decayed(owner)


def _is_meant_to_decay(entry: Gain | Role, name: str) -> bool:
    if entry is Role.EMBEDDING:
        return "bias" not in name.lower()  # a table that is added to attention scores
    return entry is Role.WEIGHT and not _makes_position_biases(name)


def _makes_position_biases(name: str) -> bool:
    """Return whether a layer makes biases of positions, by its name: Swin v2's ``cpb_mlp``."""
    return "bias" in name and re.search(r"pos|(^|[._])rel", name) is not None


def _why_decayed(owner: nn.Module) -> str:
    kind = type(owner).__name__
    return f"neither its name nor its module ({kind}) is one that the rule knows"


def _why_spared(name: str) -> str:
    word = next((word for word in SPARED_WORDS if word in name.lower()), None)
    return f"its name holds {word!r}" if word else "it belongs to an nn.LayerNorm"
