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
    """What a parameter that is not a gain does in the model."""

    WEIGHT = "weight"
    """Contracted with the signal: a matrix product, convolution or einsum."""
    EMBEDDING = "embedding"
    """Looked up by an index."""
    SHIFT = "shift"
    """The bias of a normalisation (beta)."""
    BIAS = "bias"
    """Any other bias that is added to the signal."""
    OTHER = "other"
    """Everything else: state-space constants, mixes, temperatures, token arrays, PReLU slopes."""

    def __str__(self) -> str:
        return self.value
