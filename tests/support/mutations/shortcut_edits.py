"""Mutations of what ``gains/rule.py`` takes for skips, branches and paths between them."""

from __future__ import annotations

from . import Mutation

_IDENTITY = "starts = reach.free[skip] & reach.all[branch] & ~reach.free[branch]"
_LOOP = "    for skip, branch in (operands, operands[::-1]):\n"

IDENTITY = (
    Mutation(
        "only the first operand is a skip",
        f"{_LOOP}        starts",
        "    for skip, branch in (operands,):\n        starts",
    ),
    Mutation(
        "only the second operand is a skip",
        f"{_LOOP}        starts",
        "    for skip, branch in (operands[::-1],):\n        starts",
    ),
    Mutation("a skip may cross weights", _IDENTITY, _IDENTITY.replace("free", "all", 1)),
    Mutation("a skip may cross norms", _IDENTITY, _IDENTITY.replace("free", "weightless", 1)),
    Mutation(
        "a branch need not start where its skip does",
        _IDENTITY,
        _IDENTITY.replace("reach.all[branch] & ", ""),
    ),
    Mutation(
        "a branch may carry the skip freely",
        _IDENTITY,
        _IDENTITY.replace(" & ~reach.free[branch]", ""),
    ),
    Mutation(
        "a branch may carry the skip through norms",
        _IDENTITY,
        _IDENTITY.replace("~reach.free", "~reach.weightless"),
    ),
    Mutation(
        "the operand order decides, not the latest start",
        "(best is None or starts.bit_length() - 1 > best.start)",
        "best is None",
    ),
    Mutation(
        "the last operand order decides, not the latest start",
        "if starts and (best is None or starts.bit_length() - 1 > best.start):",
        "if starts:",
    ),
    Mutation(
        "the operand with the earlier start is the skip",
        "starts.bit_length() - 1 > best.start)",
        "starts.bit_length() - 1 < best.start)",
    ),
    Mutation(
        "a branch starts at its first start",
        "best = Addition(node=index, skip=skip, branch=branch, start=starts.bit_length() - 1)",
        "best = Addition(\n                node=index, skip=skip, branch=branch, "
        "start=(starts & -starts).bit_length() - 1\n            )",
    ),
)

_PAIR = (
    "        for start in sorted(through_skip.keys() & through_branch.keys(), reverse=True):\n"
    "            if best is not None and start <= best.start:\n"
    "                break\n"
    "            one = all(path.weights == 1 for path in through_skip[start])\n"
    "            if one and all(path.bottleneck for path in through_branch[start]):\n"
)

PROJECTION = (
    Mutation(
        "projection needs operands without a common ancestor",
        "if not reach.all[operands[0]] & reach.all[operands[1]]:",
        "if reach.all[operands[0]] & reach.all[operands[1]]:",
    ),
    Mutation(
        "a projection's branch need not start where its skip does",
        f"        return None\n    best: Addition | None = None\n{_LOOP}"
        "        through_skip, through_branch = _crossings(graph, skip), _crossings(graph, branch)"
        f"\n{_PAIR}",
        f"        pass\n    best: Addition | None = None\n{_LOOP}"
        "        through_skip, through_branch = _crossings(graph, skip), _crossings(graph, branch)"
        "\n"
        + _PAIR.replace("through_skip.keys() & through_branch.keys()", "through_skip").replace(
            "through_branch[start]", "through_branch.get(start, ())"
        ),
    ),
    Mutation(
        "only the first operand is a projection",
        f"{_LOOP}        through_skip",
        "    for skip, branch in (operands,):\n        through_skip",
    ),
    Mutation(
        "only the second operand is a projection",
        f"{_LOOP}        through_skip",
        "    for skip, branch in (operands[::-1],):\n        through_skip",
    ),
    Mutation(
        "a projection starts at its first start",
        "through_branch.keys(), reverse=True)",
        "through_branch.keys())",
    ),
    Mutation(
        "the operand order decides, not the latest start of a projection",
        "if best is not None and start <= best.start:",
        "if best is not None:",
    ),
    Mutation(
        "the last operand order decides, not the latest start of a projection",
        "            if best is not None and start <= best.start:\n                break\n",
        "",
    ),
    Mutation("a projection has one weight at most", "path.weights == 1", "path.weights <= 1"),
    Mutation("a projection has one weight at least", "path.weights == 1", "path.weights >= 1"),
    Mutation("a projection has any weights", "path.weights == 1", "True"),
    Mutation(
        "some path of a projection has one weight",
        "one = all(path.weights",
        "one = any(path.weights",
    ),
    Mutation(
        "some path of a projection's branch is bent",
        "if one and all(path.bottleneck",
        "if one and any(path.bottleneck",
    ),
    Mutation(
        "a projection's branch may be anything",
        "if one and all(path.bottleneck for path in through_branch[start]):",
        "if one:",
    ),
    Mutation(
        "a projection's branch has two weights, straight or bent",
        "all(path.bottleneck for path",
        "all(path.weights == 2 for path",
    ),
    Mutation(
        "a projection's branch has a nonlinearity before a weight",
        "all(path.bottleneck for path",
        "all(path.bent for path",
    ),
)

_BEFORE = "return _Path(min(self.weights + 1, 2), self.bent, self.bottleneck or self.bent)"
_BENDS = "if op in (Op.NONLINEAR, Op.SOFTMAX, Op.CONTRACT):"
_SOFT = "enters[index] and node.op not in (Op.WEIGHT, Op.CONTRACT, Op.NORM, Op.CHOICE)"

PATHS = (
    Mutation("many weights are one", _BEFORE, _BEFORE.replace("1, 2", "1, 1")),
    Mutation("weights are not counted", _BEFORE, _BEFORE.replace("+ 1", "+ 0")),
    Mutation(
        "weights straighten a path",
        _BEFORE,
        _BEFORE.replace("self.bent, self.bottleneck or self.bent", "False, False"),
    ),
    Mutation("no weight closes a bend", _BEFORE, _BEFORE.replace(" or self.bent", "")),
    Mutation(
        "contractions are weights on a path",
        "if op is Op.WEIGHT:",
        "if op in (Op.WEIGHT, Op.CONTRACT):",
    ),
    Mutation("nonlinear operations bend no path", _BENDS, _BENDS.replace("Op.NONLINEAR, ", "")),
    Mutation("softmaxes bend no path", _BENDS, _BENDS.replace("Op.SOFTMAX, ", "")),
    Mutation("contractions bend no path", _BENDS, _BENDS.replace(", Op.CONTRACT", "")),
    Mutation(
        "a nonlinearity bends a path with no weight after it",
        "self._replace(bent=self.bent or self.weights > 0)",
        "self._replace(bent=True)",
    ),
    Mutation(
        "a nonlinearity with no weight after it straightens a path",
        "self._replace(bent=self.bent or self.weights > 0)",
        "self._replace(bent=self.weights > 1)",
    ),
    Mutation(
        "paths cross choices",
        "        if entry.op is not Op.CHOICE:\n            stack.extend(",
        "        if True:\n            stack.extend(",
    ),
    Mutation("no sum enters a softmax", "if node.op is Op.SOFTMAX or (", "if ("),
    Mutation("scores cross weights", _SOFT, _SOFT.replace("Op.WEIGHT, ", "")),
    Mutation("scores cross contractions", _SOFT, _SOFT.replace("Op.CONTRACT, ", "")),
    Mutation("scores cross norms", _SOFT, _SOFT.replace("Op.NORM, ", "")),
    Mutation("scores cross choices", _SOFT, _SOFT.replace(", Op.CHOICE", "")),
    Mutation("scores are what a softmax reads itself", _SOFT, "False"),
)
