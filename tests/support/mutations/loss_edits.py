"""Mutations of what :mod:`gamma_nlp.gains.losses` takes for a loss."""

from __future__ import annotations

from . import Mutation

_ENDS = "ends = self._to_total[index] and self._bent[index] and not self._elsewhere[index]"
_BENT = "return bent and self._to_total[addition.node] and not self._elsewhere[addition.node]"
_OUT = "if not nodes[index].total and (index in outputs or not (below or outputs)):"
_SETTLED = "return ends and self._is_difference(index) and not self._is_compared(index)"

LOSSES = (
    Mutation(
        "sums of totals are sums",
        "        if self._graph.nodes[index].total:\n            return True\n",
        "",
    ),
    Mutation("all that ends in a loss is one", _SETTLED, "return ends"),
    Mutation("differences are sums like others", _SETTLED, "return False"),
    Mutation(
        "predictions are comparisons",
        _SETTLED,
        "return ends and self._is_difference(index)",
    ),
    Mutation("skips of losses are skips", _BENT, "return False"),
    Mutation("straight skips make a loss", _BENT, _BENT.replace("bent and ", "")),
    Mutation("bent skips make a loss", _BENT, "return bent"),
    Mutation("skips that also lead elsewhere make a loss", _BENT, _BENT[: _BENT.index(" and not")]),
    Mutation("outputs lead nowhere", _OUT, "if not (below or outputs):"),
    Mutation("weights lead to a loss", "frozenset({Op.WEIGHT, Op.NORM,", "frozenset({Op.NORM,"),
    Mutation(
        "norms lead to a loss", "Op.WEIGHT, Op.NORM, Op.CONTRACT})", "Op.WEIGHT, Op.CONTRACT})"
    ),
    Mutation("contractions lead to a loss", ", Op.CONTRACT})\n", "})\n"),
    Mutation("linear readings are losses", _ENDS, _ENDS.replace("self._bent[index] and ", "")),
    Mutation(
        "what also leads elsewhere is a loss",
        _ENDS,
        _ENDS.replace(" and not self._elsewhere[index]", ""),
    ),
    Mutation("a negated operand makes no difference", '"neg"', '"no such operation"'),
    Mutation(
        "a second sum compares nothing", "if node.op is Op.ADD and not node.total:", "if False:"
    ),
    Mutation(
        "a loss of two signals compares nothing", 'several and "loss" in node.name:', "False:"
    ),
)
