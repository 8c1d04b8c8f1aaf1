"""Mutations of what :mod:`gamma_nlp.gains.reach` takes for paths between nodes."""

from __future__ import annotations

from . import Mutation

_WEIGHT = "        if node.op is Op.WEIGHT:\n            one, many"
_BENDS = "_BENDS = frozenset({Op.NONLINEAR, Op.SOFTMAX, Op.CONTRACT})"
_NORM = "        elif node.op is Op.NORM:\n            free = EMPTY\n"
_STRAIGHT = "return node.op in (Op.ADD, Op.WEIGHT, Op.NORM)"
_ONE = "one, many = weightless, self.sets.union(many, one)"
_CLOSED = "self.sets.union(bent, opened)"
_FLAT = "here(weighted, opened, weightless)"


def _weights(*ops: str) -> str:
    return _WEIGHT.replace("is Op.WEIGHT", f"in (Op.WEIGHT, {', '.join(ops)})")


REACH = (
    Mutation(
        "choices carry the signal",
        "() if node.op is Op.CHOICE else node.parents",
        "node.parents",
    ),
    Mutation("contractions are weights between nodes", _WEIGHT, _weights("Op.CONTRACT")),
    Mutation("softmaxes are weights between nodes", _WEIGHT, _weights("Op.SOFTMAX")),
    Mutation("nonlinear operations are weights", _WEIGHT, _weights("Op.NONLINEAR")),
    Mutation("linear operations are weights between nodes", _WEIGHT, _weights("Op.LINEAR")),
    Mutation("sums are weights between nodes", _WEIGHT, _weights("Op.ADD")),
    Mutation(
        "a node does not reach itself",
        "self.all.append(here(above(self.all)))",
        "self.all.append(above(self.all))",
    ),
    Mutation("free paths cross weights", "weightless = free = EMPTY", "weightless = EMPTY"),
    Mutation("free paths cross norms", _NORM, ""),
    Mutation("free paths start nowhere", "self.free.append(here(free))", "self.free.append(free)"),
    Mutation("weightless paths cross weights", "weightless = free = EMPTY", "free = EMPTY"),
    Mutation("weightless paths cross no norm", _NORM, _NORM.replace("free", "free = weightless")),
    Mutation(
        "weightless paths start nowhere",
        "self.weightless.append(here(weightless))",
        "self.weightless.append(weightless)",
    ),
    Mutation("many weights are one", _ONE, "one = self.sets.union(one, weightless)"),
    Mutation("no weight is one", _ONE, _ONE.replace("weightless", "EMPTY")),
    Mutation("later weights forget the first", _ONE, "one, many = weightless, many"),
    Mutation("no weight closes a bend", _CLOSED, "bent"),
    Mutation("a weight forgets bends", _CLOSED, "opened"),
    Mutation(
        "weights straighten nothing",
        f"EMPTY,\n                {_CLOSED}",
        f"opened,\n                {_CLOSED}",
    ),
    Mutation("nonlinear operations bend no path", _BENDS, _BENDS.replace("Op.NONLINEAR, ", "")),
    Mutation("softmaxes bend no path", _BENDS, _BENDS.replace("Op.SOFTMAX, ", "")),
    Mutation("contractions bend no path", _BENDS, _BENDS.replace(", Op.CONTRACT", "")),
    Mutation("norms bend a path", _BENDS, _BENDS.replace("})", ", Op.NORM})")),
    Mutation("a second nonlinearity unbends", "self.sets.union(opened, weighted)", "weighted"),
    Mutation("a bent path is not flat", _FLAT, "here(weighted, weightless)"),
    Mutation("a weighted path is not flat", _FLAT, "here(opened, weightless)"),
    Mutation(
        "products of two signals are no gates",
        "here() if _is_gated(node) else",
        "here() if False else",
    ),
    Mutation("any product is a gate", " and len(set(node.parents)) > 1\n", "\n"),
    Mutation("reductions are straight", "return node.name not in REDUCTIONS", "return True"),
    Mutation(
        "nonlinear operations are straight",
        _STRAIGHT,
        _STRAIGHT.replace("Op.NORM", "Op.NORM, Op.NONLINEAR"),
    ),
    Mutation("sums are not straight", _STRAIGHT, _STRAIGHT.replace("Op.ADD, ", "")),
    Mutation("weights are not straight", _STRAIGHT, _STRAIGHT.replace("Op.WEIGHT, ", "")),
)
