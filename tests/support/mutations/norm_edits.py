"""Mutations of :mod:`gamma_nlp.graph.written_norms`, in the order of the source."""

from __future__ import annotations

from . import Mutation

_ORDERS = "for plain, scaled in ((first, second), (second, first)):"
_PLAIN = "if product.op is not Op.LINEAR or product.parents != (plain,):"
_ROOTED = "return rooted and reduced"
_ORIGIN = 'entry.op is not Op.ADD or entry.name == "sub"'
_BEHIND = "if entry.op is not Op.LINEAR or entry.name not in _AFFINE:"
_GATED = "if entry.op not in (Op.LINEAR, Op.NONLINEAR) or entry.name not in _AFFINE:"
_SCALAR = "entry.name if not scalar or entry.module == place else None"

NORMS = (
    Mutation("a norm needs no root", _ROOTED, "return reduced"),
    Mutation(
        "a reduction of anything makes a norm",
        "origin & _pointwise_origin(graph, parent) for",
        "True for",
    ),
    Mutation(
        "no reduction makes a norm", "origin & _pointwise_origin(graph, parent) for", "False for"
    ),
    Mutation(
        "only the signal itself is reduced",
        "origin & _pointwise_origin(graph, parent) for",
        "parent == signal for",
    ),
    Mutation(
        "a divisor may be made of anything",
        "            return False\n    return rooted",
        "            stack.extend(node.parents)\n    return rooted",
    ),
    Mutation(
        "a divisor is the root of a reduction at once",
        "elif node.name in operations.STATISTIC | operations.TOTALS and current != signal:",
        "elif node.name in operations.ROOTS and current != signal:",
    ),
    Mutation(
        "a divisor is made of no other reduction",
        "operations.STATISTIC | operations.TOTALS and current",
        "operations.STATISTIC and current",
    ),
    Mutation(
        "what the norm divides out is a gain",
        "            if parent == signal:\n                return None\n",
        "",
    ),
    Mutation("a sum is made of its summands", _ORIGIN, "True"),
    Mutation("a centred signal is a sum", _ORIGIN, "entry.op is not Op.ADD"),
    Mutation(
        "a signal is made of nothing",
        "            stack.extend(entry.parents)\n    return found",
        "            pass\n    return found",
    ),
    Mutation(
        "a norm may have two gains",
        "if entry.scale is not None:\n            return None  # the norm",
        "if False:\n            return None  # the norm",
    ),
    Mutation("a norm has no gain after it", f"return {_SCALAR}", "return None"),
    Mutation("no number is a gain", _SCALAR, "entry.name if not scalar else None"),
    Mutation("every number after a norm is its gain", _SCALAR, "entry.name"),
    Mutation("a gain follows its norm at once", _BEHIND, "if True:"),
    Mutation("a gain may follow a norm and anything", _BEHIND, "if not entry.parents:"),
    Mutation("a gain may follow a norm and a gate", _BEHIND, _GATED),
    Mutation("a gain may follow a norm and a shuffle", _BEHIND, "if entry.op is not Op.LINEAR:"),
    Mutation(
        "a gain does not follow a constant factor",
        '("mul", "div", "add", "sub", "neg")',
        '("div", "add", "sub", "neg")',
    ),
    Mutation("x + norm(x) is a gain", _PLAIN, "if product.parents != (plain,):"),
    Mutation("x + w F(x) is a gain of x", _PLAIN, "if product.op is not Op.LINEAR:"),
    Mutation("y * w + y is a sum", _ORDERS, "for plain, scaled in ((first, second),):"),
    Mutation("y + y * w is a sum", _ORDERS, "for plain, scaled in ((second, first),):"),
    Mutation(
        "y + y * w is y * w", "offset=product.scale.offset + 1", "offset=product.scale.offset"
    ),
    Mutation(
        "y + y * w has the gain w as well",
        "graph.nodes[scaled] = replace(product, scale=None)",
        "pass",
    ),
    Mutation(
        "no bounded function is a norm",
        "if entry.name not in operations.SQUASHES or",
        "if True or",
    ),
    Mutation(
        "any function is a norm",
        "if entry.name not in operations.SQUASHES or len(entry.parents) != 1 or scalar:",
        "if len(entry.parents) != 1 or scalar:",
    ),
    Mutation("a number is the gain of a bounded function", " != 1 or scalar:", " != 1:"),
    Mutation(
        "a bounded function of anything is a norm",
        "        if before.factors:\n",
        "        if True:\n",
    ),
    Mutation(
        "an activation after a gain is a norm",
        "            return None  # the gain of a norm, followed by an activation\n",
        "            pass\n",
    ),
)
