"""Graphs made by hand for clauses of the rule that almost no random network exercises.

Each function draws a graph and returns what the rule says of each gain in it, by the words of the
rule: its category, its kind, and the addition that settles it.
"""

from __future__ import annotations

from collections.abc import Callable

from gamma_nlp.graph.nodes import Op

from .draft import HEAD, INNER, LAST, SHORTCUT, Draft, Places


def sum_inside_two_branches(draft: Draft) -> Places:
    """A sum spans the branch of ``y``, but lies behind a weight in that of ``x``."""
    x = draft.source()
    y = draft.weight(x)
    skip = draft.norm(y, "skip")
    inside = draft.add(skip, draft.weight(draft.norm(skip, "inside")))
    first = draft.add(x, draft.weight(inside))
    second = draft.add(y, draft.norm(inside, "after"))
    return {
        "skip": (LAST, "layer_norm", second),
        "inside": (INNER, "layer_norm", first),
        "after": (LAST, "layer_norm", second),
    }


def _two_skips(draft: Draft, swap: bool) -> Places:
    x = draft.norm(draft.source(), "first")
    y = draft.norm(draft.weight(x), "second")
    update = draft.add(x, draft.norm(draft.weight(y), "end"))
    total = draft.add(y, update) if swap else draft.add(update, y)
    return {
        "first": (SHORTCUT, "layer_norm", total),
        "second": (SHORTCUT, "layer_norm", total),
        "end": (LAST, "layer_norm", total),
    }


def later_of_two_skips_is_the_second_operand(draft: Draft) -> Places:
    """x + F(y) + y, where y is made of x: the branch starts at y, the latest node that can be."""
    return _two_skips(draft, swap=False)


def later_of_two_skips_is_the_first_operand(draft: Draft) -> Places:
    return _two_skips(draft, swap=True)


def _two_projections(draft: Draft, swap: bool) -> Places:
    x, y = draft.source(), draft.source()
    one = draft.add(draft.norm(draft.weight(x), "of x"), draft.mlp(y))
    two = draft.add(draft.norm(draft.weight(y), "of y"), draft.mlp(x))
    total = draft.add(two, one) if swap else draft.add(one, two)
    return {"of x": (LAST, "layer_norm", total), "of y": (SHORTCUT, "layer_norm", total)}


def later_of_two_projections_is_the_second_operand(draft: Draft) -> Places:
    """Wx + F(y) and Vy + G(x): either is a projection to the other; that of y starts later."""
    return _two_projections(draft, swap=False)


def later_of_two_projections_is_the_first_operand(draft: Draft) -> Places:
    return _two_projections(draft, swap=True)


def norm_beside_a_branch(draft: Draft) -> Places:
    """norm(x) + F(x): a norm shortcut, but not where F is inside another branch."""
    x = draft.source()
    total = draft.add(draft.norm(x, "beside"), draft.mlp(x))
    inner = draft.add(draft.norm(total, "inside"), draft.mlp(total))
    last = draft.add(total, inner)
    return {
        "beside": (SHORTCUT, "layer_norm", total),
        "inside": (LAST, "layer_norm", last),
    }


def skips_that_cross_no_weight(draft: Draft) -> Places:
    """What is neither weight nor norm leaves a skip a skip."""
    places: Places = {}
    for op, parents in ((Op.SOFTMAX, 1), (Op.CONTRACT, 2)):
        x = draft.norm(draft.source(), op.value)
        total = draft.add(draft.op(op, *[x] * parents), draft.weight(x))
        places[op.value] = (SHORTCUT, "layer_norm", total)
    return places


def norm_of_a_norm(draft: Draft) -> Places:
    """No addition, and a later norm, but before the weight."""
    draft.weight(draft.norm(draft.norm(draft.source(), "first"), "second"))
    return {"first": (HEAD, "layer_norm", None), "second": (HEAD, "layer_norm", None)}


def two_layer_scales(draft: Draft) -> Places:
    x = draft.source()
    total = draft.add(x, draft.vector(draft.vector(draft.weight(x), "first"), "second"))
    return {name: (LAST, "layer_scale", total) for name in ("first", "second")}


def divisor_of_a_branch(draft: Draft) -> Places:
    """x + F(x) / (w G(x)): w scales no branch."""
    x = draft.source()
    divisor = draft.vector(draft.weight(x), "divisor")
    draft.add(x, draft.op(Op.NONLINEAR, draft.weight(x), divisor, name="div"))
    return {}


def layer_scale_of_the_start_and_the_branch(draft: Draft) -> Places:
    """y + w F(y), where y = w x: what comes before the start mixes nothing."""
    start = draft.vector(draft.weight(draft.source()), "scale")
    total = draft.add(start, draft.vector(draft.weight(start), "scale"))
    return {"scale": (LAST, "layer_scale", total)}


def projections_beside_bent_branches(draft: Draft) -> Places:
    """W x + F(x), where F has two weights and one of these between them."""
    places: Places = {}
    for op, parents in ((Op.NONLINEAR, 1), (Op.SOFTMAX, 1), (Op.CONTRACT, 2)):
        x = draft.source()
        between = draft.op(op, *[draft.weight(x)] * parents)
        total = draft.add(draft.norm(draft.weight(x), op.value), draft.weight(between))
        places[op.value] = (SHORTCUT, "layer_norm", total)
    return places


def projection_beside_a_free_path(draft: Draft) -> Places:
    """What also reaches the skip without a weight is no start of a projection."""
    x, shared = draft.source(), draft.source()
    skip = draft.op(Op.NONLINEAR, draft.norm(x, "beside"), draft.weight(x), shared)
    draft.add(skip, draft.op(Op.NONLINEAR, draft.mlp(x), shared))
    return {"beside": (HEAD, "layer_norm", None)}


def trunk_beside_a_branch(draft: Draft) -> Places:
    """Two additions of another stream, which run between start and sum, make no outer skip."""
    x, other = draft.source(), draft.source()
    start = draft.weight(x)
    inner = draft.add(start, draft.weight(draft.norm(start, "inside")))
    for _ in range(2):
        other = draft.add(other, draft.weight(other))
    return {"inside": (INNER, "layer_norm", draft.add(x, draft.weight(inner)))}


def trunk_with_a_square(draft: Draft) -> Places:
    """A product of a signal with itself is no gate."""
    x = draft.source()
    start = draft.weight(x)
    first = draft.add(start, draft.weight(draft.norm(start, "first")))
    square = draft.op(Op.NONLINEAR, first, first, name="mul")
    second = draft.add(square, draft.weight(draft.norm(square, "second")))
    draft.add(x, draft.weight(second))
    return {"first": (INNER, "layer_norm", first), "second": (INNER, "layer_norm", second)}


def sums_with_a_weight_between(draft: Draft) -> Places:
    """Two additions are no trunk if a weight lies between them."""
    x = draft.source()
    start = draft.weight(x)
    first = draft.add(start, draft.weight(draft.norm(start, "first")))
    between = draft.weight(first)
    second = draft.add(between, draft.weight(draft.norm(between, "second")))
    total = draft.add(x, draft.weight(second))
    return {name: (INNER, "layer_norm", total) for name in ("first", "second")}


def sum_behind_a_choice(draft: Draft) -> Places:
    """A sum that chooses what a softmax reads is no score."""
    x = draft.source()
    total = draft.add(x, draft.weight(draft.norm(x, "before")))
    chosen = draft.op(Op.LINEAR, draft.weight(x), draft.op(Op.CHOICE, total))
    draft.op(Op.SOFTMAX, chosen)
    return {"before": (INNER, "layer_norm", total)}


def gains_of_several_branches(draft: Draft) -> Places:
    """A table names the first of the additions that settle a gain's category."""
    x = draft.source()
    inner, last = draft.norm(x, "inner"), draft.norm(x, "last")
    first = draft.add(x, draft.weight(inner))
    second = draft.add(first, last)
    third = draft.add(second, draft.weight(inner))
    draft.add(third, draft.op(Op.NONLINEAR, last))
    return {"inner": (INNER, "layer_norm", first), "last": (LAST, "layer_norm", second)}


def queries_and_what_is_none(draft: Draft) -> Places:
    """What a norm, a softmax, a choice, a weight or a contraction parts from the scores."""
    x = draft.source()
    norm, weight = draft.norm, draft.weight
    queries: dict[str, Callable[[int], int]] = {
        "query": lambda x: norm(norm(x, "behind a norm"), "query"),
        "behind a softmax": lambda x: draft.op(Op.SOFTMAX, norm(x, "behind a softmax")),
        "behind a choice": lambda x: draft.op(
            Op.LINEAR, weight(x), draft.op(Op.CHOICE, norm(x, "behind a choice"))
        ),
        "behind a weight": lambda x: weight(norm(x, "behind a weight")),
        "behind a contraction": lambda x: draft.op(
            Op.CONTRACT, norm(x, "behind a contraction"), weight(x)
        ),
    }
    places: Places = {}
    for name, query in queries.items():
        key = weight(x)
        update = weight(draft.attention(query(x), key))
        x = draft.add(x, update)
        places[name] = (INNER, "qk_norm" if name == "query" else "layer_norm", x)
        if name == "query":
            places["behind a norm"] = (INNER, "layer_norm", x)
    return places


GRAPHS: tuple[Callable[[Draft], Places], ...] = (
    sum_inside_two_branches,
    later_of_two_skips_is_the_second_operand,
    later_of_two_skips_is_the_first_operand,
    later_of_two_projections_is_the_second_operand,
    later_of_two_projections_is_the_first_operand,
    projections_beside_bent_branches,
    projection_beside_a_free_path,
    trunk_beside_a_branch,
    trunk_with_a_square,
    sums_with_a_weight_between,
    norm_beside_a_branch,
    skips_that_cross_no_weight,
    norm_of_a_norm,
    two_layer_scales,
    divisor_of_a_branch,
    layer_scale_of_the_start_and_the_branch,
    gains_of_several_branches,
    queries_and_what_is_none,
    sum_behind_a_choice,
)
