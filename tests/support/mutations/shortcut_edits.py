"""Mutations of what ``gains/additions.py`` takes for skips and branches."""

from __future__ import annotations

from . import Mutation

_IDENTITY = (
    "start = reach.sets.latest((reach.free[skip], reach.all[branch]), (reach.free[branch],))"
)
_LOOP = "    for skip, branch in (operands, operands[::-1]):\n"
_LATER = "if start is not None and (best is None or start > best.start):"
_FIRST = """next(
                n
                for n in range(index)
                if reach.sets.latest((reach.sets.added(EMPTY, n), WITHIN), (WITHOUT)) is not None
            )"""


def _first(within: str, without: str) -> str:
    return _FIRST.replace("WITHIN", within).replace("WITHOUT", without)


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
        _IDENTITY.replace(" reach.all[branch]", ""),
    ),
    Mutation(
        "a branch may carry the skip freely",
        _IDENTITY,
        _IDENTITY.replace(", (reach.free[branch],)", ""),
    ),
    Mutation(
        "a branch may carry the skip through norms",
        _IDENTITY,
        _IDENTITY.replace("(reach.free[branch],)", "(reach.weightless[branch],)"),
    ),
    Mutation(
        "the operand order decides, not the latest start",
        f"{_IDENTITY}\n        {_LATER}",
        f"{_IDENTITY}\n        if start is not None and best is None:",
    ),
    Mutation(
        "the last operand order decides, not the latest start",
        f"{_IDENTITY}\n        {_LATER}",
        f"{_IDENTITY}\n        if start is not None:",
    ),
    Mutation(
        "the operand with the earlier start is the skip",
        f"{_IDENTITY}\n        {_LATER}",
        f"{_IDENTITY}\n        {_LATER.replace('>', '<')}",
    ),
    Mutation(
        "a branch starts at its first start",
        f"{_IDENTITY}\n        {_LATER}\n",
        f"{_IDENTITY}\n        {_LATER}\n            start = "
        + _first("reach.free[skip], reach.all[branch]", "reach.free[branch],")
        + "\n",
    ),
)

_NORMS = "start = reach.sets.latest((reach.weightless[skip], reach.all[branch]))"

NORM_SHORTCUT = (
    Mutation("a norm shortcut may cross weights", _NORMS, _NORMS.replace("weightless", "all")),
    Mutation(
        "a norm shortcut's branch may cross none",
        "if start is not None and not carried:",
        "if start is not None:",
    ),
    Mutation(
        "a norm shortcut's branch need not start with it",
        _NORMS,
        _NORMS.replace(", reach.all[branch]))", ",))"),
    ),
    Mutation(
        "both operands may carry a norm shortcut",
        _NORMS,
        _NORMS.replace("))", "), (reach.weightless[branch],))"),
    ),
    Mutation(
        "a norm shortcut counts inside branches",
        "return Addition(node=index, skip=skip, branch=branch, start=start, identity=False)",
        "return Addition(node=index, skip=skip, branch=branch, start=start)",
    ),
)

_ONE = "(reach.one[skip], reach.bent[branch]),"
_NOT = "(reach.weightless[skip], reach.many[skip], reach.flat[branch]),"
_PAIR = f"start = reach.sets.latest(\n            {_ONE}\n            {_NOT}\n        )"

PROJECTION = (
    Mutation(
        "only the first operand is a projection",
        f"{_LOOP}        {_PAIR}",
        f"    for skip, branch in (operands,):\n        {_PAIR}",
    ),
    Mutation(
        "only the second operand is a projection",
        f"{_LOOP}        {_PAIR}",
        f"    for skip, branch in (operands[::-1],):\n        {_PAIR}",
    ),
    Mutation(
        "the operand order decides, not the latest start of a projection",
        f"{_PAIR}\n        {_LATER}",
        f"{_PAIR}\n        if start is not None and best is None:",
    ),
    Mutation(
        "the last operand order decides, not the latest start of a projection",
        f"{_PAIR}\n        {_LATER}",
        f"{_PAIR}\n        if start is not None:",
    ),
    Mutation(
        "a projection starts at its first start",
        f"{_PAIR}\n        {_LATER}\n",
        f"{_PAIR}\n        {_LATER}\n            start = " + _first(_ONE[1:-2], _NOT[1:-2]) + "\n",
    ),
    Mutation(
        "a projection may cross no weight", _NOT, _NOT.replace("reach.weightless[skip], ", "")
    ),
    Mutation("a projection may cross many weights", _NOT, _NOT.replace("reach.many[skip], ", "")),
    Mutation(
        "a projection may be anything",
        f"{_ONE}\n            {_NOT}",
        "(reach.all[skip], reach.bent[branch]),\n            (reach.flat[branch],),",
    ),
    Mutation(
        "some path of a projection's branch is bent",
        _NOT,
        _NOT.replace(", reach.flat[branch]", ""),
    ),
    Mutation(
        "a projection's branch may be anything",
        f"{_ONE}\n            {_NOT}",
        "(reach.one[skip], reach.all[branch]), (reach.weightless[skip], reach.many[skip]),",
    ),
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
