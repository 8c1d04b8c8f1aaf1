"""Mutations of ``graph/interpreter.py`` and ``graph/recorder.py``, in the order of the source.

They are about what a weight, a norm, a sum, a gain with its offset and a choice are.
"""

from __future__ import annotations

from . import Mutation

_FUSED = "if len(operands) >= 3 and operations.is_attention(name):"
_KNOWN = "if name in operations.CONTRACTIONS:\n            return"
_NORM = 'if "norm" in name and name not in operations.NO_NORM:'
_SUMS = "if name in operations.SUMS:"
_PRODUCTS = 'if name in ("mul", "div"):'
_BIAS = "bias, factors = operands[:1], operands[1:]"
_ORDERS = "for plain, scaled in ((first, second), (second, first)):"
_PLAIN = "if product.op is not Op.LINEAR or product.parents != (plain,):"
_PAIRS = 'pairs if name == "mul" else pairs[:1]'
_ROOTED = "return rooted and reduced"
_ORIGIN = 'entry.op is not Op.ADD or entry.name == "sub"'
_SCALAR = "entry.name if not scalar or entry.module == self.where() else None"

INTERPRET = (
    Mutation("a fused attention is any operation", _FUSED, "if False:"),
    Mutation(
        "a fused attention has no softmax",
        "weights = self.node(Op.SOFTMAX, name, (scores,))",
        "weights = scores",
    ),
    Mutation("a fused attention reads no key", "_nodes(operands[:2])", "_nodes(operands[:1])"),
    Mutation(
        "a fused attention reads no value",
        "[weights, *_nodes(operands[2:3])]",
        "[weights]",
    ),
    Mutation("contractions are any operation", _KNOWN, "if False:\n            return"),
    Mutation(
        "contractions with a parameter are linear",
        "product = self.node(Op.WEIGHT, name, nodes)\n        else",
        "product = self.node(Op.LINEAR, name, nodes)\n        else",
    ),
    Mutation(
        "contractions with a parameter are of the signal with itself",
        "product = self.node(Op.WEIGHT, name, nodes)\n        else",
        "product = self.node(Op.CONTRACT, name, nodes)\n        else",
    ),
    Mutation(
        "contractions of the signal with itself are linear",
        "Op.CONTRACT if len(nodes) > 1 else Op.LINEAR",
        "Op.LINEAR",
    ),
    Mutation(
        "contractions of the signal with itself are weights",
        "Op.CONTRACT if len(nodes) > 1 else Op.LINEAR",
        "Op.WEIGHT",
    ),
    Mutation("a fused summand is contracted", _BIAS, "bias, factors = operands[:0], operands"),
    Mutation("a fused summand is lost", "if operand.node is not None:", "if False:"),
    Mutation("lengths are norms", _NORM, 'if "norm" in name:'),
    Mutation("fused norms are any operation", _NORM, "if False:"),
    Mutation(
        "fused norms are linear",
        "return self.node(Op.NORM, kind, _nodes(operands), scale)",
        "return self.node(Op.LINEAR, kind, _nodes(operands), scale)",
    ),
    Mutation("fused norms have no gain", "scale = _scale(affine[0].expr, kind)", "scale = None"),
    Mutation(
        "softmaxes are any operation",
        'if "softmax" in name and "log_softmax" not in name:',
        "if False:",
    ),
    Mutation("add is no sum", _SUMS, 'if name in operations.SUMS - {"add"}:'),
    Mutation("sub is no sum", _SUMS, 'if name in operations.SUMS - {"sub"}:'),
    Mutation("rsub is no sum", _SUMS, 'if name in operations.SUMS - {"rsub"}:'),
    Mutation("addcmul is linear", 'if name in ("addcmul", "addcdiv") and', 'if name == "" and'),
    Mutation("mul is no product", _PRODUCTS, 'if name in ("div",):'),
    Mutation("div is no product", _PRODUCTS, 'if name in ("mul",):'),
    Mutation("linear operations are any operation", "if name in operations.LINEAR:", "if False:"),
    Mutation("x + norm(x) is a gain", _PLAIN, "if product.parents != (plain,):"),
    Mutation("x + w F(x) is a gain of x", _PLAIN, "if product.op is not Op.LINEAR:"),
    Mutation("y * w + y is a sum", _ORDERS, "for plain, scaled in ((first, second),):"),
    Mutation("y + y * w is a sum", _ORDERS, "for plain, scaled in ((second, first),):"),
    Mutation(
        "y + y * w is y * w", "offset=product.scale.offset + 1", "offset=product.scale.offset"
    ),
    Mutation(
        "y + y * w has the gain w as well",
        "self.graph.nodes[scaled] = replace(product, scale=None)",
        "pass",
    ),
    Mutation("a norm divides the second factor only", _PAIRS, "pairs[1:]"),
    Mutation("a norm divides the first factor only", _PAIRS, "pairs[:1]"),
    Mutation("no quotient is a norm", "if self._is_norm(signal, factor):", "if False:"),
    Mutation("every quotient is a norm", "if self._is_norm(signal, factor):", "if True:"),
    Mutation(
        "a norm has no gain before the division",
        "early = self._early(signal, factor)",
        "early = None",
    ),
    Mutation("a divisor is a gain", 'if name == "mul" and len(exprs) == 1:', "if len(exprs) == 1:"),
    Mutation(
        "products with a parameter have no gain",
        'if name == "mul" and len(exprs) == 1:',
        "if False:",
    ),
    Mutation("a norm needs no root", _ROOTED, "return reduced"),
    Mutation(
        "a reduction of anything makes a norm",
        "origin & self._pointwise_origin(parent) for",
        "True for",
    ),
    Mutation(
        "no reduction makes a norm", "origin & self._pointwise_origin(parent) for", "False for"
    ),
    Mutation(
        "only the signal itself is reduced",
        "origin & self._pointwise_origin(parent) for",
        "parent == signal for",
    ),
    Mutation(
        "a divisor may be made of anything",
        "                return False\n        return rooted",
        "                stack.extend(node.parents)\n        return rooted",
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
        "                if parent == signal:\n                    return None\n",
        "",
    ),
    Mutation("a sum is made of its summands", _ORIGIN, "True"),
    Mutation("a centred signal is a sum", _ORIGIN, "entry.op is not Op.ADD"),
    Mutation(
        "a signal is made of nothing",
        "                stack.extend(entry.parents)\n        return found",
        "                pass\n        return found",
    ),
    Mutation(
        "a norm may have two gains",
        "if entry.scale is not None:\n                return None  # the norm",
        "if False:\n                return None  # the norm",
    ),
    Mutation("a norm has no gain after it", f"return {_SCALAR}", "return None"),
    Mutation("no number is a gain", _SCALAR, "entry.name if not scalar else None"),
    Mutation("every number after a norm is its gain", _SCALAR, "entry.name"),
    Mutation(
        "a gain follows its norm at once",
        "if entry.op is not Op.LINEAR or entry.name not in (",
        "if True or entry.name not in (",
    ),
    Mutation(
        "a gain may follow a norm and anything",
        "if entry.op is not Op.LINEAR or entry.name not in _AFFINE:",
        "if not entry.parents:",
    ),
    Mutation(
        "a gain may follow a norm and a gate",
        "if entry.op is not Op.LINEAR or entry.name not in (",
        "if entry.name not in (",
    ),
    Mutation(
        "a gain may follow a norm and a shuffle",
        " or entry.name not in _AFFINE:",
        ":",
    ),
    Mutation(
        "a gain does not follow a constant factor",
        '("mul", "div", "add", "sub", "neg")',
        '("div", "add", "sub", "neg")',
    ),
    Mutation(
        "every gain is the parameter", "offset=expr.offset, kind=kind)", "offset=0.0, kind=kind)"
    ),
    Mutation(
        "every gain is one more than the parameter",
        "offset=expr.offset, kind=kind)",
        "offset=1.0, kind=kind)",
    ),
)

RECORD = (
    Mutation(
        "choices are operations like others",
        "return self._interpreter.node(Op.CHOICE, name, [*nodes, *choices])",
        "return self._interpreter.node(Op.NONLINEAR, name, [*nodes, *choices])",
    ),
    Mutation("choices steer nothing", "if choices and result.node is not None:", "if False:"),
    Mutation("nothing is a choice", "if not nodes and len(choices) < 2:", "if True:"),
    Mutation(
        "choices are not recorded beside a signal",
        "if name not in operations.CONSTANTS and not all(map(_carries_signal, outputs)):",
        "if name not in operations.CONSTANTS and not any(map(_carries_signal, outputs)):",
    ),
)
