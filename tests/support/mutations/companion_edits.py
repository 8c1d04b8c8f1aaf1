"""Mutations of :mod:`gamma_nlp.companions`."""

from __future__ import annotations

from . import Mutation as M
from .files import Edits

RATE = Edits(
    "companions/effective_rate/rate.py",
    (
        "tests/companions/effective_rate/test_dampening.py",
        "tests/companions/effective_rate/test_rate.py",
    ),
    (
        M("SGD's equilibrium", "(2 * shrink)) ** 0.25)", "(2 * shrink)) ** 0.5)"),
        M("coupled Adam's equilibrium", "/ (2 * decay)) ** (1 / 3))", "/ (2 * decay)) ** 0.5)"),
        M("AdamW's equilibrium", "elements / (2 * lr * decay)", "elements / (lr * decay)"),
        M("momentum does not shrink", '(step if mode == "coupled" else lr) * decay', "lr * decay"),
        M("one power", 'power = 2 if kind == "sgd" else 1', "power = 1"),
        M(
            "dampening is left out",
            '1 - float(group.get("dampening", 0.0)) if momentum else 1.0',
            "1.0",
        ),
        M("no decay settles", "if decay == 0 or lr == 0:", "if lr == 0:"),
    ),
)

RULES = Edits(
    "companions/strong/rules.py",
    ("tests/companions/strong/test_rules.py", "tests/companions/strong/test_regularizer.py"),
    (
        M(
            "delayed without a delay",
            'if self.rule == "delayed" and not self.delay_steps:',
            "if False:",
        ),
        M("no cross term", "if l1 and l2:\n", "if False:\n"),
    ),
)

COMPANIONS = (RATE, RULES)
