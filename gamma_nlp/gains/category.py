"""The four places where a gain can sit, and the roles of all other parameters."""

from __future__ import annotations

import enum


class Category(enum.Enum):
    """Where the output of a normalisation gain goes, relative to the residual additions.

    The four categories are those of Kim et al. (arXiv:2205.07260); which parameter falls into
    which one is this library's reconstruction of their definitions (see ``gains/README.md``).
    """

    BRANCH_LAST = "branch_last"
    """Ends a residual branch: no weight between the gain and the addition."""
    BRANCH_INNER = "branch_inner"
    """Feeds residual branches only, through at least one weight."""
    SHORTCUT = "shortcut"
    """Scales what a skip connection carries."""
    HEAD = "head"
    """No residual addition comes after it."""

    def __str__(self) -> str:
        return self.value


class Role(enum.Enum):
    """What a parameter that is not a gain does in the model, whatever its name and shape.

    A mark of the model's author (``_no_weight_decay``; :mod:`gamma_nlp.gains.marks`) turns a
    weight or an embedding into ``other``.
    """

    WEIGHT = "weight"
    """Contracted with the signal, itself or what is made of it alone: a matrix product, a
    convolution, an einsum, a product on a spectrum. So are the factors of a merged LoRA, a weight
    under weight norm with its scale, quantised, pruned and softmax-normalised weights."""
    EMBEDDING = "embedding"
    """Looked up by an index, or a table of positions added to the stream or to attention scores."""
    SHIFT = "shift"
    """The bias of a normalisation (beta)."""
    BIAS = "bias"
    """Any other vector that is added to the signal, and the biases of a stack of experts."""
    OTHER = "other"
    """Everything else: what generates a kernel, a rate or a position (state-space constants,
    frequencies, decays), mixes (hyper-connections, tables of modulations), gates, temperatures,
    sinks, token arrays, PReLU slopes."""

    def __str__(self) -> str:
        return self.value
