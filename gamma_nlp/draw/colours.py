"""The colour of each category, in drawings and plots alike."""

from __future__ import annotations

from gamma_nlp.gains.category import Category

COLOURS = {
    Category.BRANCH_LAST: "#009e73",
    Category.BRANCH_INNER: "#0072b2",
    Category.SHORTCUT: "#d55e00",
    Category.HEAD: "#a84fb0",
}
"""Colours that differ for the colour-blind too (after Okabe and Ito)."""

DARK = {
    Category.BRANCH_LAST: "#2fc79b",
    Category.BRANCH_INNER: "#4aa8e8",
    Category.SHORTCUT: "#ff8a3d",
    Category.HEAD: "#d98be0",
}
"""The same on a dark page."""
