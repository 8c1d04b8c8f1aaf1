"""Judge what a rule does with one parameter: the stock Trainer's, or that of anybody else.

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

What authors do, and where it was read, is in :mod:`gamma_nlp.check.practice`. A rule that decays
everything on purpose is one of them: of what it decays, only what the model's author marked is an
accident. So is a rule that spares some weights on purpose, such as embeddings.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from torch import nn

from gamma_nlp.check import practice
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.marks import MARKED
from gamma_nlp.gains.table import MIX, TOKENS, UNREACHED, Gain

SPARED_WORDS = ("bias", "layernorm", "rmsnorm", "norm")
GATE = "it gates a whole branch, as Flamingo's gates do; nobody means to close it"


class Heading(enum.Enum):
    """Under what an audit lists a parameter."""

    ACCIDENT = "decayed by accident"
    SOME_AUTHORS = "decayed, as some authors do"
    GUIDELINES = "gains in a branch that decay, as under `guidelines`"
    SPARED = "spared by accident"
    SPARED_BY_SOME = "spared, as some authors do"


Why = Callable[[str, nn.Module], str]
"""Says why a rule decays or spares a parameter, given its name and the module that owns it."""


def neither(name: str, owner: nn.Module) -> str:
    """Say that a rule by names and classes knows neither of a parameter's."""
    kind = type(owner).__name__
    return f"neither its name nor its module ({kind}) is one that the rule knows"


def spared_by_name(*words: str) -> Why:
    """Return what says which word of a rule is in a name; by default those of the stock rule."""

    def why(name: str, owner: nn.Module) -> str:
        word = next((word for word in words or SPARED_WORDS if word in name.lower()), None)
        return f"its name holds {word!r}" if word else "it belongs to an nn.LayerNorm"

    return why


BY_STOCK_WORDS = spared_by_name()


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a rule does with the parameters of one model, and what it means.

    Attributes:
        title: Whose rule it is.
        decayed: The names of what it decays, in this model.
        on_purpose: Who means to decay gains, biases and constants as well; empty if nobody does.
        spares: The weights and embeddings that it spares on purpose, each with who does so.
        why_decayed: Why it decays what it should not.
        why_spared: Why it spares what it should not.
    """

    title: str
    decayed: Collection[str]
    on_purpose: str = ""
    spares: Mapping[str, str] = field(default_factory=dict)
    why_decayed: Why = neither
    why_spared: Why = BY_STOCK_WORDS


class Judge:
    """Judges the parameters of one model.

    Args:
        rule: What is done with them.
        what: The gain or role that each trainable parameter is.
        reasons: Why some have their role.
    """

    def __init__(
        self, rule: Rule, what: Mapping[str, Gain | Role], reasons: Mapping[str, str]
    ) -> None:
        self.rule, self.what, self.reasons = rule, what, reasons
        self.spared = Counter(
            entry.kind
            for name, entry in what.items()
            if isinstance(entry, Gain) and name not in rule.decayed
        )

    def __call__(self, name: str, owner: nn.Module) -> tuple[Heading, str] | None:
        """Return under what to list a parameter and why; ``None`` if the rule is right."""
        entry = self.what[name]
        if name not in self.rule.decayed:
            return self._spared(name, entry, owner)
        if isinstance(entry, Gain):
            # An unused gain has no gradient, so nothing decays it.
            return None if entry.category is None else self._decayed_gain(name, entry, owner)
        return self._decayed(name, entry, owner)

    def _spared(
        self, name: str, entry: Gain | Role, owner: nn.Module
    ) -> tuple[Heading, str] | None:
        if not _is_meant_to_decay(entry, name):
            return None
        if name in self.rule.spares:
            return Heading.SPARED_BY_SOME, self.rule.spares[name]
        return Heading.SPARED, self.rule.why_spared(name, owner)

    def _decayed_gain(self, name: str, gain: Gain, owner: nn.Module) -> tuple[Heading, str]:
        why = self.rule.why_decayed(name, owner)
        marked, on_purpose = MARKED in gain.reason, self.rule.on_purpose
        if gain.category in (Category.BRANCH_LAST, Category.BRANCH_INNER):
            if gain.kind == "layer_scale" and gain.numel == 1 and not on_purpose:
                return Heading.ACCIDENT, GATE
            return Heading.GUIDELINES, on_purpose or why
        if on_purpose and not marked:
            return Heading.SOME_AUTHORS, on_purpose
        if gain.kind == "layer_scale" and gain.numel == 1:
            return Heading.ACCIDENT, GATE
        if gain.kind not in practice.NORM_KINDS or marked:
            return Heading.ACCIDENT, why
        alike = self.spared[gain.kind]
        if alike:
            norms = gain.kind.replace("_", " ") + ("s" if alike > 1 else "")
            return Heading.ACCIDENT, f"{why}; it spares {alike} {norms} of this model"
        return Heading.SOME_AUTHORS, practice.NORMS_DIFFER

    def _decayed(self, name: str, role: Role, owner: nn.Module) -> tuple[Heading, str] | None:
        reason = self.reasons.get(name)
        if role in (Role.WEIGHT, Role.EMBEDDING) or reason in (TOKENS, MIX, UNREACHED):
            return None
        if reason:  # marked by its author
            return Heading.ACCIDENT, reason
        authors = self.rule.on_purpose or practice.decayed_by_authors(owner)
        if authors:
            return Heading.SOME_AUTHORS, authors
        return Heading.ACCIDENT, self.rule.why_decayed(name, owner)


def _is_meant_to_decay(entry: Gain | Role, name: str) -> bool:
    if entry is Role.EMBEDDING:
        return "bias" not in name.lower()  # a table that is added to attention scores
    return entry is Role.WEIGHT and not _makes_position_biases(name)


def _makes_position_biases(name: str) -> bool:
    """Return whether a layer makes biases of positions, by its name: Swin v2's ``cpb_mlp``."""
    return "bias" in name and re.search(r"pos|(^|[._])rel", name) is not None
