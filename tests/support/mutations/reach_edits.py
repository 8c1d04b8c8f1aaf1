"""Mutations of what :mod:`gamma_nlp.gains.reach` takes for paths between nodes."""

from __future__ import annotations

from . import Mutation

_WEIGHT = "        if node.op is Op.WEIGHT:\n            one, many"
_BENDS = "_BENDS = frozenset({Op.NONLINEAR, Op.SOFTMAX, Op.CONTRACT})"
_NORM = "        elif node.op is Op.NORM:\n            free = 0\n"
_STRAIGHT = "return node.op in (Op.ADD, Op.WEIGHT, Op.NORM)"


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
        "self.all.append(above(self.all) | here)",
        "self.all.append(above(self.all))",
    ),
    Mutation("free paths cross weights", "weightless = free = 0", "weightless = 0"),
    Mutation("free paths cross norms", _NORM, ""),
    Mutation("free paths start nowhere", "self.free.append(free | here)", "self.free.append(free)"),
    Mutation("weightless paths cross weights", "weightless = free = 0", "free = 0"),
    Mutation("weightless paths cross no norm", _NORM, _NORM.replace("free", "free = weightless")),
    Mutation(
        "weightless paths start nowhere",
        "self.weightless.append(weightless | here)",
        "self.weightless.append(weightless)",
    ),
    Mutation("many weights are one", "one, many = weightless, one | many", "one |= weightless"),
    Mutation("no weight is one", "one, many = weightless, one | many", "one, many = 0, one | many"),
    Mutation(
        "later weights forget the first",
        "one, many = weightless, one | many",
        "one, many = weightless, many",
    ),
    Mutation("no weight closes a bend", "0, bent | opened", "0, bent"),
    Mutation("a weight forgets bends", "0, bent | opened", "0, opened"),
    Mutation(
        "weights straighten nothing",
        "weightless | weighted, 0, bent",
        "weightless | weighted, opened, bent",
    ),
    Mutation("nonlinear operations bend no path", _BENDS, _BENDS.replace("Op.NONLINEAR, ", "")),
    Mutation("softmaxes bend no path", _BENDS, _BENDS.replace("Op.SOFTMAX, ", "")),
    Mutation("contractions bend no path", _BENDS, _BENDS.replace(", Op.CONTRACT", "")),
    Mutation("norms bend a path", _BENDS, _BENDS.replace("})", ", Op.NORM})")),
    Mutation("a second nonlinearity unbends", "opened | weighted\n", "weighted\n"),
    Mutation(
        "a bent path is not flat",
        "weightless | weighted | opened | here",
        "weightless | weighted | here",
    ),
    Mutation(
        "a weighted path is not flat",
        "weightless | weighted | opened | here",
        "weightless | opened | here",
    ),
    Mutation(
        "products of two signals are no gates",
        "0 if _is_gated(node) else above",
        "0 if False else above",
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
