"""Graphs made by hand of losses, for clauses that almost no random network exercises.

In each, ``x - F(norm(x))`` or ``x + F(norm(x))`` is an addition of the network or a part of a loss.
"""

from __future__ import annotations

from collections.abc import Callable

from gamma_nlp.graph.nodes import Op

from .draft import HEAD, INNER, Draft, Places


def _difference(draft: Draft, gain: str = "gain") -> int:
    x = draft.source()
    return draft.subtract(x, draft.weight(draft.norm(x, gain)))


def _loss(draft: Draft, x: int) -> int:
    return draft.total(draft.op(Op.NONLINEAR, x))


def comparison(draft: Draft) -> Places:
    _loss(draft, _difference(draft))
    return {"gain": (HEAD, "layer_norm", None)}


def comparison_with_what_is_negated(draft: Draft) -> Places:
    x = draft.source()
    negated = draft.op(Op.LINEAR, x, name="neg")
    _loss(draft, draft.add(negated, draft.weight(draft.norm(x, "gain"))))
    return {"gain": (HEAD, "layer_norm", None)}


def prediction_that_a_sum_compares(draft: Draft) -> Places:
    made = _difference(draft)
    _loss(draft, draft.subtract(made, draft.source()))
    return {"gain": (INNER, "layer_norm", made)}


def prediction_that_a_kernel_compares(draft: Draft) -> Places:
    made = _difference(draft)
    draft.total(draft.op(Op.NONLINEAR, made, draft.source(), name="mse_loss"))
    return {"gain": (INNER, "layer_norm", made)}


def penalty(draft: Draft) -> Places:
    """A sum whose skip comes through a reduction."""
    x = draft.weight(draft.source())
    mean = draft.op(Op.LINEAR, x, name="mean")
    _loss(draft, draft.add(mean, draft.weight(draft.norm(x, "gain"))))
    return {"gain": (HEAD, "layer_norm", None)}


def output_that_a_loss_reads(draft: Draft) -> Places:
    made = _difference(draft)
    draft.graph.outputs = {made, _loss(draft, made)}
    return {"gain": (INNER, "layer_norm", made)}


def linear_reading(draft: Draft) -> Places:
    """A sum of all elements bends nothing."""
    made = _difference(draft)
    draft.total(made)
    return {"gain": (INNER, "layer_norm", made)}


def difference_that_also_leads_on(draft: Draft) -> Places:
    made = _difference(draft)
    _loss(draft, made)
    draft.weight(made)
    return {"gain": (INNER, "layer_norm", made)}


def loss_of_what_follows(draft: Draft) -> Places:
    """What leads to a weight, a norm or a contraction first is of the network."""
    places: Places = {}
    for op, parents in ((Op.WEIGHT, 1), (Op.NORM, 1), (Op.CONTRACT, 2)):
        made = _difference(draft, op.value)
        _loss(draft, draft.op(op, *[made] * parents))
        places[op.value] = (INNER, "layer_norm", made)
    return places


LOSS_GRAPHS: tuple[Callable[[Draft], Places], ...] = (
    comparison,
    comparison_with_what_is_negated,
    prediction_that_a_sum_compares,
    prediction_that_a_kernel_compares,
    penalty,
    output_that_a_loss_reads,
    linear_reading,
    difference_that_also_leads_on,
    loss_of_what_follows,
)
