"""Mutations of :mod:`gamma_nlp.graph.interpreter`, in the order of the source."""

from __future__ import annotations

from . import Mutation

_FUSED = "if len(operands) >= 3 and operations.is_attention(name):"
_KNOWN = "if name in operations.CONTRACTIONS:\n            return"
_NORM = 'if "norm" in name and name not in operations.NO_NORM:'
_SUMS = "if name in operations.SUMS:"
_PRODUCTS = 'if name in ("mul", "div"):'
_BIAS = "bias, factors = operands[:1], operands[1:]"
_PAIRS = 'pairs if name == "mul" else pairs[:1]'

INTERPRET = (
    Mutation("a fused attention is any operation", _FUSED, "if False:"),
    Mutation(
        "a fused attention has no softmax",
        "weights = self.node(Op.SOFTMAX, name, (scores,))",
        "weights = scores",
    ),
    Mutation("a fused attention reads no key", "nodes_of(operands[:2])", "nodes_of(operands[:1])"),
    Mutation(
        "a fused attention reads no value",
        "[weights, *nodes_of(operands[2:3])]",
        "[weights]",
    ),
    Mutation("contractions are any operation", _KNOWN, "if False:\n            return"),
    Mutation(
        "contractions with a parameter are linear",
        "product = self._weight(name, nodes, exprs)\n        else",
        "self._weight(name, nodes, exprs)\n"
        "            product = self.node(Op.LINEAR, name, nodes)\n        else",
    ),
    Mutation(
        "contractions with a parameter are of the signal with itself",
        "product = self._weight(name, nodes, exprs)\n        else",
        "self._weight(name, nodes, exprs)\n"
        "            product = self.node(Op.CONTRACT, name, nodes)\n        else",
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
        "return self.node(Op.NORM, kind, nodes_of(operands), scale)",
        "return self.node(Op.LINEAR, kind, nodes_of(operands), scale)",
    ),
    Mutation("fused norms have no gain", "scale = scale_of(affine[0].expr, kind)", "scale = None"),
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
    Mutation("a norm divides the second factor only", _PAIRS, "pairs[1:]"),
    Mutation("a norm divides the first factor only", _PAIRS, "pairs[:1]"),
    Mutation(
        "no quotient is a norm",
        "if written_norms.is_norm(self.graph, signal, factor):",
        "if False:",
    ),
    Mutation(
        "every quotient is a norm",
        "if written_norms.is_norm(self.graph, signal, factor):",
        "if True:",
    ),
    Mutation(
        "a norm has no gain before the division",
        "early = written_norms.take_early_gain(self.graph, signal, factor)",
        "early = None",
    ),
    Mutation("a divisor is a gain", 'if name == "mul" and len(exprs) == 1:', "if len(exprs) == 1:"),
    Mutation(
        "products with a parameter have no gain",
        'if name == "mul" and len(exprs) == 1:',
        "if False:",
    ),
    Mutation(
        "a divisor of running statistics is a factor",
        "if any(o.root or (o.expr is not None and o.expr.root) for o in operands):",
        "if False:",
    ),
    Mutation(
        "a folded divisor of running statistics is a factor",
        "o.root or (o.expr is not None and o.expr.root)",
        "o.root",
    ),
    Mutation("a sum over a stack is a mean", "if summands else", "if False else"),
    Mutation(
        "any sum is one of a stack", 'entry.name == "stack" and layers > 1 and whole', "layers > 1"
    ),
    Mutation(
        "no sum is a total", "if node >= before and self._is_total(", "if False and self._is_total("
    ),
    Mutation(
        "a mix of two signals is linear",
        "return self.node(Op.ADD, name, nodes[:2])  # (1 - t) * x + t * y",
        "return self.node(Op.LINEAR, name, nodes)",
    ),
)
