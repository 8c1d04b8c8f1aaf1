"""Mutations of what :mod:`gamma_nlp.gains.additions` counts as a residual addition."""

from __future__ import annotations

from . import Mutation

_COUNTS = "if node.op is not Op.ADD or scores[index] or losses.settled(index):"
_AROUND = "around = [outer for outer in within if _inside(addition.node, outer, reach)]"
_SPANS = "if all(_spans(addition, outer, reach) for outer in around):"
_SKIP = "return reach.sets.has(reach.weightless[inner.skip], outer.start) and reach.sets.has("
_INSIDE = "inner = [a for a in self.plain[first:last] if _inside(a.node, outer, self.reach)]"
_CHAIN = "before = (sums, reach.ungated[addition.start], reach.weightless[addition.start])"
_MEETS = "if reach.sets.latest(before) is not None:"

ADDITIONS = (
    Mutation(
        "products count as sums",
        _COUNTS,
        _COUNTS.replace("node.op is not Op.ADD", "len(node.parents) != 2"),
    ),
    Mutation("sums that enter a softmax count", _COUNTS, _COUNTS.replace("scores[index] or ", "")),
    Mutation("losses count as they are", _COUNTS, _COUNTS.replace(" or losses.settled(index)", "")),
    Mutation(
        "losses count by their skips",
        "if addition is not None and not losses.made_by(addition):",
        "if addition is not None:",
    ),
    Mutation(
        "the first sum is settled first",
        "for addition in reversed(alone):",
        "for addition in alone:",
    ),
    Mutation("every later addition is around a sum", _AROUND, "around = list(within)"),
    Mutation("no addition is around a sum", _AROUND, "around: list[Addition] = []"),
    Mutation(
        "no identity counts",
        "            _identity(index, operands, reach)\n            or _norm",
        "            _norm",
    ),
    Mutation("no norm shortcut counts", "or _norm_shortcut(index, operands, reach)", ""),
    Mutation("no projection counts", "or _projection(index, operands, reach)", ""),
    Mutation(
        "projections count inside branches",
        "if around and not addition.identity:",
        "if False:",
    ),
    Mutation(
        "projections count inside branches only",
        "if around and not addition.identity:",
        "if not around and not addition.identity:",
    ),
    Mutation("every sum inside a branch counts", _SPANS, "if True:"),
    Mutation("no sum inside a branch counts", _SPANS, "if not around:"),
    Mutation(
        "a sum spans one of the branches around it",
        _SPANS,
        "if not around or any(_spans(addition, outer, reach) for outer in around):",
    ),
    Mutation(
        "a sum that starts a branch is inside it",
        "        outer.start < node\n",
        "        outer.start <= node\n",
    ),
    Mutation(
        "a sum that the start does not reach is inside the branch",
        "        and reach.sets.has(reach.all[node], outer.start)\n",
        "",
    ),
    Mutation(
        "a sum that does not reach the end is inside the branch",
        "        and reach.sets.has(reach.all[outer.branch], node)\n",
        "",
    ),
    Mutation("an inner skip need not run from the start", _SKIP, "return reach.sets.has("),
    Mutation(
        "an inner skip may cross a weight after the start",
        _SKIP,
        _SKIP.replace("weightless", "all"),
    ),
    Mutation(
        "an inner skip may cross no norm after the start",
        _SKIP,
        _SKIP.replace("weightless", "free"),
    ),
    Mutation("an inner branch stands for its skip", _SKIP, _SKIP.replace("skip]", "branch]")),
    Mutation(
        "an inner sum need not run to the end",
        "and reach.sets.has(\n        reach.weightless[outer.branch], inner.node\n    )",
        "",
    ),
    Mutation(
        "an inner sum may cross a weight before the end",
        "        reach.weightless[outer.branch], inner.node\n",
        "        reach.all[outer.branch], inner.node\n",
    ),
    Mutation(
        "an inner sum may cross no norm before the end",
        "        reach.weightless[outer.branch], inner.node\n",
        "        reach.free[outer.branch], inner.node\n",
    ),
    Mutation("no skip is an outer skip", "if not trunks.inside(addition):", "if True:"),
    Mutation("every skip is an outer skip", "if not trunks.inside(addition):", "if False:"),
    Mutation(
        "gated sums make a trunk",
        "[a for a in alone if reach.sets.has(reach.straight[a.skip], a.start)]",
        "list(alone)",
    ),
    Mutation("a trunk may lie outside the branch", _INSIDE, "inner = self.plain[first:last]"),
    Mutation("one sum is a trunk", _MEETS, "if True:"),
    Mutation("two sums side by side are a trunk", _MEETS, "if sums != EMPTY:"),
    Mutation("sums behind a gate are a trunk", _CHAIN, _CHAIN.replace("ungated", "all")),
    Mutation("sums behind a weight are a trunk", _CHAIN, _CHAIN.replace("weightless", "all")),
    Mutation("sums behind a norm are no trunk", _CHAIN, _CHAIN.replace("weightless", "free")),
)
