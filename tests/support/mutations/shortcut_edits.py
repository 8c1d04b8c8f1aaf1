"""Mutations of what ``gains/additions.py`` takes for skips and branches."""

from __future__ import annotations

from . import Mutation

_IDENTITY = "starts = reach.free[skip] & reach.all[branch] & ~reach.free[branch]"
_LOOP = "    for skip, branch in (operands, operands[::-1]):\n"

IDENTITY = (
    Mutation(
        "only the first operand is a skip",
        f"{_LOOP}        {_IDENTITY}",
        "    for skip, branch in (operands,):\n        " + _IDENTITY,
    ),
    Mutation(
        "only the second operand is a skip",
        f"{_LOOP}        {_IDENTITY}",
        "    for skip, branch in (operands[::-1],):\n        " + _IDENTITY,
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
        f"{_IDENTITY}\n        if starts and (best is None or latest(starts) > best.start)",
        f"{_IDENTITY}\n        if starts and best is None",
    ),
    Mutation(
        "the last operand order decides, not the latest start",
        f"{_IDENTITY}\n        if starts and (best is None or latest(starts) > best.start):",
        f"{_IDENTITY}\n        if starts:",
    ),
    Mutation(
        "the operand with the earlier start is the skip",
        f"{_IDENTITY}\n        if starts and (best is None or latest(starts) > best.start)",
        f"{_IDENTITY}\n        if starts and (best is None or latest(starts) < best.start)",
    ),
    Mutation(
        "a branch starts at its first start",
        "best = Addition(node=index, skip=skip, branch=branch, start=latest(starts))",
        "best = Addition(\n                node=index, skip=skip, branch=branch, "
        "start=(starts & -starts).bit_length() - 1\n            )",
    ),
)

_NORMS = "starts = reach.weightless[skip] & reach.all[branch] & ~reach.weightless[branch]"

NORM_SHORTCUT = (
    Mutation("a norm shortcut may cross weights", _NORMS, _NORMS.replace("weightless", "all", 1)),
    Mutation(
        "a norm shortcut's branch may cross none",
        _NORMS,
        _NORMS.replace(" & ~reach.weightless[branch]", ""),
    ),
    Mutation(
        "a norm shortcut's branch need not start with it",
        _NORMS,
        _NORMS.replace("reach.all[branch] & ", ""),
    ),
    Mutation("both operands may carry a norm shortcut", "if starts > both:", "if starts:"),
    Mutation(
        "a norm shortcut counts inside branches",
        "start = latest(starts)\n            return Addition("
        "node=index, skip=skip, branch=branch, start=start, identity=False)",
        "start = latest(starts)\n            return Addition("
        "node=index, skip=skip, branch=branch, start=start)",
    ),
)

_ONE = "starts = reach.one[skip] & ~reach.weightless[skip] & ~reach.many[skip]"
_BENT = "starts &= reach.bent[branch] & ~reach.flat[branch]"
_PAIR = (
    f"{_ONE}\n        {_BENT}\n        if starts and (best is None or latest(starts) > best.start)"
)

PROJECTION = (
    Mutation(
        "only the first operand is a projection",
        f"{_LOOP}        {_ONE}",
        f"    for skip, branch in (operands,):\n        {_ONE}",
    ),
    Mutation(
        "only the second operand is a projection",
        f"{_LOOP}        {_ONE}",
        f"    for skip, branch in (operands[::-1],):\n        {_ONE}",
    ),
    Mutation(
        "the operand order decides, not the latest start of a projection",
        _PAIR,
        _PAIR.replace("(best is None or latest(starts) > best.start)", "best is None"),
    ),
    Mutation(
        "the last operand order decides, not the latest start of a projection",
        _PAIR,
        _PAIR.replace(" and (best is None or latest(starts) > best.start)", ""),
    ),
    Mutation(
        "a projection starts at its first start",
        f"{_PAIR}:\n            start = latest(starts)",
        f"{_PAIR}:\n            start = latest(starts & -starts)",
    ),
    Mutation(
        "a projection may cross no weight", _ONE, _ONE.replace(" & ~reach.weightless[skip]", "")
    ),
    Mutation("a projection may cross many weights", _ONE, _ONE.replace(" & ~reach.many[skip]", "")),
    Mutation("a projection may be anything", _ONE, "starts = reach.all[skip]"),
    Mutation("some path of a projection's branch is bent", _BENT, "starts &= reach.bent[branch]"),
    Mutation("a projection's branch may be anything", _BENT, "starts &= reach.all[branch]"),
)

_SOFT = "enters[index] and node.op not in (Op.WEIGHT, Op.CONTRACT, Op.NORM, Op.CHOICE)"

SCORES = (
    Mutation("no sum enters a softmax", "if node.op is Op.SOFTMAX or (", "if ("),
    Mutation("scores cross weights", _SOFT, _SOFT.replace("Op.WEIGHT, ", "")),
    Mutation("scores cross contractions", _SOFT, _SOFT.replace("Op.CONTRACT, ", "")),
    Mutation("scores cross norms", _SOFT, _SOFT.replace("Op.NORM, ", "")),
    Mutation("scores cross choices", _SOFT, _SOFT.replace(", Op.CHOICE", "")),
    Mutation("scores are what a softmax reads itself", _SOFT, "False"),
)
