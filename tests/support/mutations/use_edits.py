"""Mutations of how :mod:`gamma_nlp.gains.rule` places a gain."""

from __future__ import annotations

from . import Mutation

_SKIP = "if node.scale is None or (node.scale.kind is None and index not in ends_branch):"
_ORDER = "(Category.SHORTCUT, Category.HEAD, Category.BRANCH_LAST, Category.BRANCH_INNER)"

USES = (
    Mutation(
        "shortcut yields to head",
        _ORDER,
        "(Category.HEAD, Category.SHORTCUT, Category.BRANCH_LAST, Category.BRANCH_INNER)",
    ),
    Mutation(
        "head yields to branch_last",
        _ORDER,
        "(Category.SHORTCUT, Category.BRANCH_LAST, Category.HEAD, Category.BRANCH_INNER)",
    ),
    Mutation(
        "branch_last yields to branch_inner",
        _ORDER,
        "(Category.SHORTCUT, Category.HEAD, Category.BRANCH_INNER, Category.BRANCH_LAST)",
    ),
    Mutation(
        "the first use decides",
        "return min(places, key=",
        "return next(iter(places)) or min(places, key=",
    ),
    Mutation("the least cautious use decides", "return min(places", "return max(places"),
    Mutation(
        "no layer scale is a gain", _SKIP, "if node.scale is None or node.scale.kind is None:"
    ),
    Mutation("every vector is a gain", _SKIP, "if node.scale is None:"),
    Mutation(
        "only layer scales are gains", _SKIP, "if node.scale is None or index not in ends_branch:"
    ),
    Mutation("offsets are lost", "offset=node.scale.offset,", "offset=0.0,"),
    Mutation(
        "any category can be of a query or a key",
        "if category is Category.BRANCH_INNER and _feeds_scores(",
        "if _feeds_scores(",
    ),
    Mutation(
        "no gain is of a query or a key",
        "if category is Category.BRANCH_INNER and _feeds_scores(graph, index, below, scores):",
        "if False:",
    ),
)

_STEP = "step = (child, weighted or node.op in (Op.WEIGHT, Op.CHOICE))"
_ENDS = "    if last is not None:\n        return Category.BRANCH_LAST, last\n"
_INNER = "    if inner is not None:\n        return Category.BRANCH_INNER, inner\n"

FOLLOW = (
    Mutation(
        "a branch is a skip", "if current == addition.skip:", "if current == addition.branch:"
    ),
    Mutation("skips do not count", "if current == addition.skip:", "if False:"),
    Mutation("branches are skips", "if current == addition.skip:", "if True:"),
    Mutation(
        "a skip crosses no weight",
        "if current == addition.skip:",
        "if current == addition.skip and not weighted:",
    ),
    Mutation(
        "no gain ends a branch", "                if weighted:\n", "                if True:\n"
    ),
    Mutation(
        "every gain in a branch ends it",
        "                if weighted:\n",
        "                if False:\n",
    ),
    Mutation(
        "a skip names no addition",
        "return Category.SHORTCUT, child",
        "return Category.SHORTCUT, None",
    ),
    Mutation(
        "the last branch that a gain feeds is named",
        "inner = child if inner is None else min(inner, child)",
        "inner = child if inner is None else max(inner, child)",
    ),
    Mutation(
        "the last branch that a gain ends is named",
        "last = child if last is None else min(last, child)",
        "last = child if last is None else max(last, child)",
    ),
    Mutation(
        "later additions count too",
        "                continue\n            renormalised",
        "            renormalised",
    ),
    Mutation(
        "a gain acts behind a weight",
        "    seen = {(gain, False)}\n    stack = [(gain, False)]\n",
        "    seen = {(gain, True)}\n    stack = [(gain, True)]\n",
    ),
    Mutation("the gain itself is a norm after it", "renormalised = False", "renormalised = True"),
    Mutation(
        "a norm renormalises before any weight",
        "(weighted and node.op is Op.NORM)",
        "(node.op is Op.NORM)",
    ),
    Mutation("weights renormalise", "(weighted and node.op is Op.NORM)", "weighted"),
    Mutation("nothing renormalises", "(weighted and node.op is Op.NORM)", "False"),
    Mutation(
        "only the last norm renormalises", "renormalised = renormalised or (", "renormalised = ("
    ),
    Mutation(
        "weights are not seen", _STEP, _STEP.replace("(Op.WEIGHT, Op.CHOICE)", "(Op.CHOICE,)")
    ),
    Mutation("choices are not seen", _STEP, _STEP.replace("Op.CHOICE)", ")")),
    Mutation("weights are forgotten", _STEP, _STEP.replace("weighted or ", "")),
    Mutation(
        "contractions are weights after a gain",
        _STEP,
        _STEP.replace("Op.WEIGHT, ", "Op.WEIGHT, Op.CONTRACT, "),
    ),
    Mutation(
        "a path with a weight hides one without",
        "if step not in seen:",
        "if step not in seen and (child, True) not in seen:",
    ),
    Mutation(
        "a path with a weight ends before one without", f"{_ENDS}{_INNER}", f"{_INNER}{_ENDS}"
    ),
    Mutation("what ends a branch is a head", _ENDS, ""),
    Mutation("what feeds a branch is a head", _INNER, ""),
    Mutation(
        "a head with a later norm is inner wherever it is",
        "if not counted and renormalised:",
        "if renormalised:",
    ),
    Mutation(
        "all is inner without an addition", "if not counted and renormalised:", "if not counted:"
    ),
    Mutation("all is head without an addition", "if not counted and renormalised:", "if False:"),
    Mutation(
        "what is no branch's is inner",
        "    return Category.HEAD, None",
        "    return Category.BRANCH_INNER, None",
    ),
)

_WHOLE = 'if node.op is Op.LINEAR and (len(node.parents) == 1 or node.name == "choose"):'
_PRODUCT = 'if node.op is Op.NONLINEAR and node.name in ("mul", "div"):'
_ASKS = "elif op not in (Op.WEIGHT, Op.NORM, Op.SOFTMAX, Op.CHOICE) and child not in seen:"

SCALES = (
    Mutation(
        "layer scales lie on the skip",
        "_whole(graph, addition.branch, addition.start)",
        "_whole(graph, addition.skip, addition.start)",
    ),
    Mutation("only the end of a branch is a layer scale", _WHOLE, "if False:"),
    Mutation("layer scales act before anything", _WHOLE, "if len(node.parents) == 1:"),
    Mutation("layer scales act on a part of a branch", _WHOLE, "if node.op is Op.LINEAR:"),
    Mutation("layer scales act on a first summand", _WHOLE, "if node.op in (Op.LINEAR, Op.ADD):"),
    Mutation("nothing scales a masked branch", _PRODUCT, "if False:"),
    Mutation("a divisor scales a branch", 'if node.name == "mul" else node.parents[:1]', ""),
    Mutation("what scales skip and branch is a gain", "scale.parameter not in mixes:", "True:"),
    Mutation(
        "what scales the start of a skip is no gain",
        "        if index <= start:\n            continue\n",
        "",
    ),
    Mutation(
        "values are keys", "if scores[child]:\n                    return True", "return True"
    ),
    Mutation(
        "keys are found behind other contractions",
        "            elif op not in (Op.WEIGHT",
        "            if op not in (Op.WEIGHT",
    ),
    Mutation("queries cross weights", _ASKS, _ASKS.replace("Op.WEIGHT, ", "")),
    Mutation("queries cross norms", _ASKS, _ASKS.replace("Op.NORM, ", "")),
    Mutation("queries cross softmaxes", _ASKS, _ASKS.replace("Op.SOFTMAX, ", "")),
    Mutation("queries cross choices", _ASKS, _ASKS.replace(", Op.CHOICE", "")),
    Mutation("a query is contracted at once", _ASKS, "elif False:"),
)
