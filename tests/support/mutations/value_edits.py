"""Mutations of what :mod:`gamma_nlp.graph` follows from operand to output."""

from __future__ import annotations

from . import Mutation

_SUMMAND = "        if own is not None and (_is_vector(tensor) or not found):\n"

OPERANDS = (
    Mutation(
        "every gain is the parameter", "offset=expr.offset, kind=kind)", "offset=0.0, kind=kind)"
    ),
    Mutation(
        "every gain is one more than the parameter",
        "offset=expr.offset, kind=kind)",
        "offset=1.0, kind=kind)",
    ),
)

PROPAGATE = (
    Mutation(
        "choices are operations like others",
        "return self._interpreter.node(Op.CHOICE, call.name, [*nodes, *choices])",
        "return self._interpreter.node(Op.NONLINEAR, call.name, [*nodes, *choices])",
    ),
    Mutation("choices steer nothing", "if choices and result.node is not None:", "if False:"),
    Mutation("nothing is a choice", "if not nodes and len(choices) < 2:", "if True:"),
    Mutation(
        "choices are not recorded beside a signal",
        "if call.name not in operations.CONSTANTS and not all(carries):",
        "if call.name not in operations.CONSTANTS and not any(carries):",
    ),
)

JOINS = (
    Mutation("parts end where they start", "ends.append(end)", "ends.append(end - 1)"),
    Mutation("the first part is all", "if before < end and after > start", "if before == 0"),
    Mutation("parts stay where they were", "    dim = place(join.dim)\n", "    dim = join.dim\n"),
    Mutation("parts are left whole", "if whole and all(", "if False and all("),
)

SLICES = (
    Mutation("a concatenation is one value", 'if call.name in ("cat", "stack"):', "if False:"),
    Mutation("a copy of a concatenation is one value", "call.kernel.pointwise or", "False and"),
    Mutation("slices are cut along any dimension", "dim = (along or 0) % dims", "dim = dims - 1"),
    Mutation("every index mixes the parts", "if d in taken else d if d", "if True else d if d"),
)

AFFINE = (
    Mutation(
        "a doubled gain is none",
        "return _scaled(inner, other if",
        "return Expr(params) or (inner, other if",
    ),
    Mutation(
        "a masked gain is none", "masked = inner.intercept == 0 and other is None", "masked = False"
    ),
    Mutation(
        "a shift has no share in a doubled gain",
        "intercept=expr.intercept * factor)",
        "intercept=expr.intercept)",
    ),
    Mutation(
        "the offset is what is added", "return self.intercept / self.slope", "return self.intercept"
    ),
    Mutation(
        "a squashed gain is none", "if name in _SHRINK and inner.intercept == 0:", "if False:"
    ),
    Mutation("1 - w is 1 + w", "_scaled(inner, -1.0 if name", "_scaled(inner, 1.0 if name"),
)

PARTS = (
    Mutation("what projects tokens is no bias", "biases |= own.added  # b of W t + b", "pass"),
    Mutation(
        "a bent factor is a weight", "_bent(own, alone=not grown and", "_bent(own, alone=True or"
    ),
    Mutation(
        "no bent matrix is a weight", "_bent(own, alone=not grown and", "_bent(own, alone=False and"
    ),
    Mutation(
        "a summand of a contraction is a factor",
        f"{_SUMMAND}            biases |= own.added\n",
        _SUMMAND,
    ),
    Mutation(
        "a matrix of a constant is no weight",
        "weights |= own.contracted if matrix else set()",
        "pass",
    ),
    Mutation(
        "rows are projected nowhere",
        "return value.rows if value.product and",
        "return frozenset() if True or",
    ),
)

EVIDENCE = (
    Mutation("a summand is not noted", "graph.sums.setdefault(param, set()).add(node)", "pass"),
    Mutation(
        "a product on a spectrum is a factor",
        'if call.name != "mul" or',
        "if True or",
    ),
    Mutation(
        "every complex product is on a spectrum",
        "if not any(_is_spectrum(graph, node) for node in call.nodes):",
        "if False:",
    ),
)

VALUES = (
    Mutation("views do not see a write", "            self.set(other, after)\n", ""),
    Mutation("aliases are constants", "return self._values[other]", "return None"),
)
