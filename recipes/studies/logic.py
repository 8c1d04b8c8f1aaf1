"""SimpleLogic: facts, rules and a query whose answer is whether the rules prove it.

After Zhang et al. 2022 (arXiv:2205.11502): definite clauses with one to three predicates in the
body, drawn in three ways that cover one problem space. Smaller here: fewer predicates, fewer steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

Name = Literal["LP", "LP_star", "RP"]
FEWEST, MOST = 4, 6
"""Predicates of a problem."""
DEEPEST = 2
"""Steps that a proof, or a search for one, may take."""
LENGTH = 32
"""Tokens of a problem."""
NAMES = 8
"""Predicates have one of so many names."""
FACT, BODY, HEAD, QUERY = range(4)
"""What a predicate is where it stands; a token is ``1 + NAMES * role + name``, 0 is padding."""
ROLES = 4
FORM = f"{FEWEST}-{MOST}-{DEEPEST}-{LENGTH}-{NAMES}"
"""What differs where problems or their tokens do."""
_BODY = 3  # predicates of a rule's body, at most


@dataclass(frozen=True)
class Problem:
    """Rules as pairs of body and head, facts, and the predicate that is asked for."""

    rules: tuple[tuple[tuple[int, ...], int], ...]
    facts: tuple[int, ...]
    query: int


def proof_steps(problem: Problem) -> dict[int, int]:
    """Return every predicate that can be proved, with the rounds of forward chaining it takes."""
    known = dict.fromkeys(problem.facts, 0)
    for step in range(1, len(problem.rules) + 1):
        new = [h for body, h in problem.rules if h not in known and all(b in known for b in body)]
        if not new:
            break
        known |= dict.fromkeys(new, step)
    return known


def search_steps(problem: Problem) -> int:
    """Return how deep one must search to see that the query cannot be proved.

    A rule fails as soon as its easiest premise does, and the query when its last rule has failed.
    """
    proved = proof_steps(problem)

    def search(goal: int, above: frozenset[int]) -> int:
        if goal in above or len(above) > DEEPEST:
            return len(above)
        below = above | {goal}
        rules = [body for body, head in problem.rules if head == goal]
        failing = [[b for b in body if b not in proved] for body in rules]
        return max([len(above), *(min(search(b, below) for b in body) for body in failing)])

    return search(problem.query, frozenset())


def rule_priority(count: int, draw: random.Random) -> Problem:
    """Draw rules and facts at random; what can be proved follows from them."""
    predicates = range(count)
    rules = set()
    for _ in range(draw.randint(0, 2 * count)):
        *body, head = draw.sample(predicates, draw.randint(1, _BODY) + 1)
        rules.add((tuple(sorted(body)), head))
    facts = draw.sample(predicates, draw.randint(0, count))
    return _shuffled(list(rules), facts, draw.randrange(count), draw)


def label_priority(count: int, draw: random.Random) -> Problem:
    """Draw what is true first, in levels, and then rules that agree: each label proves itself."""
    levels, true = _levels(count, draw, fewest=1)
    rules = []
    for before, level in pairwise(levels):
        for one in level:
            rules.append((_body([b for b in before if (b in true) == (one in true)], draw), one))
    false = [one for one in range(count) if one not in true]
    extra = draw.randint(0, count)
    while extra > 0:
        head = draw.randrange(count)
        body = _body([one for one in range(count) if one != head], draw)
        proves = all(one in true for one in body)
        if proves and head not in true:
            continue
        rules.append((body, head))
        extra -= 1
        if proves and len(false) > 1:  # so that true predicates are no more frequent than others
            wrong = draw.choice(false)
            rules.append((_body([one for one in false if one != wrong], draw), wrong))
            extra -= 1
    facts = [one for one in levels[0] if one in true]
    return _shuffled(rules, facts, draw.randrange(count), draw)


def label_priority_star(count: int, draw: random.Random) -> Problem:
    """The same with premises of both kinds: rules alone then tell less about the labels."""
    levels, true = _levels(count, draw, fewest=2)
    rules = []
    for before, level in pairwise(levels):
        for one in level:
            body = _body([b for b in before if one not in true or b in true], draw)
            while one not in true and all(b in true for b in body):
                body = _body(before, draw)
            rules.append((body, one))
    for _ in range(draw.randint(0, count)):
        at = draw.randrange(len(levels) - 1)
        head = draw.choice([one for one in levels[at] if one in true])
        later = [one for level in levels[at:] for one in level if one != head]
        rules.append((_body(later, draw), head))
    facts = [one for one in levels[0] if one in true]
    return _shuffled(rules, facts, draw.randrange(count), draw)


DRAWS: dict[Name, Callable[[int, random.Random], Problem]] = {
    "LP": label_priority,
    "LP_star": label_priority_star,
    "RP": rule_priority,
}
"""The three ways to draw a problem: label-priority, LP*, rule-priority."""


def balanced(name: Name, number: int, seed: int) -> tuple[list[Problem], list[int]]:
    """Return problems and labels: as many of each label and number of steps, in random order.

    Args:
        name: How they are drawn.
        number: How many; rounded up to a multiple of the kinds.
        seed: Of the draw.
    """
    draw = random.Random(f"{name} {seed}")  # text is hashed the same in every process
    kinds = 2 * (DEEPEST + 1)
    room = dict.fromkeys(
        [(label, steps) for label in (0, 1) for steps in range(DEEPEST + 1)], -(-number // kinds)
    )
    found: list[tuple[Problem, int]] = []
    seen = set()
    while any(room.values()):
        problem = DRAWS[name](draw.randint(FEWEST, MOST), draw)
        proved = proof_steps(problem)
        label = int(problem.query in proved)
        kind = (label, proved[problem.query] if label else search_steps(problem))
        if room.get(kind) and problem not in seen and _length(problem) <= LENGTH:
            room[kind] -= 1
            seen.add(problem)
            found.append((problem, label))
    draw.shuffle(found)
    return [problem for problem, _ in found], [label for _, label in found]


def tokens(problems: Sequence[Problem]) -> np.ndarray:
    """Return the problems as tokens, (problems, LENGTH): facts, rules, query; padded in front."""
    rows = np.zeros((len(problems), LENGTH), dtype=np.uint8)
    for row, problem in zip(rows, problems, strict=True):
        words = [(FACT, one) for one in problem.facts]
        for body, head in problem.rules:
            words += [*((BODY, one) for one in body), (HEAD, head)]
        words.append((QUERY, problem.query))
        row[-len(words) :] = [1 + NAMES * role + name for role, name in words]
    return rows


def drawn(name: Name, number: int, seed: int) -> dict[str, np.ndarray]:
    """Return :func:`balanced` as arrays: tokens and labels."""
    problems, labels = balanced(name, number, seed)
    return {"ids": tokens(problems), "labels": np.array(labels)}


def renamed(rows: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return the same problems with other names for the predicates, drawn for each row."""
    names = draw.permuted(np.tile(np.arange(NAMES), (len(rows), 1)), axis=1)
    role, name = np.divmod(rows.astype(np.int64) - 1, NAMES)
    return np.where(rows == 0, 0, 1 + NAMES * role + np.take_along_axis(names, name, axis=1))


def _levels(count: int, draw: random.Random, *, fewest: int) -> tuple[list[list[int]], set[int]]:
    """Return the predicates in levels, and those that are true: some and not all of each level."""
    order = draw.sample(range(count), count)
    depth = draw.randint(fewest, count // 2)
    levels = [order[at::depth] for at in range(depth)]
    true = set()
    for level in levels:
        yes, _, *rest = draw.sample(level, len(level))
        true |= {yes, *(one for one in rest if draw.random() < 0.5)}
    return levels, true


def _body(among: Sequence[int], draw: random.Random) -> tuple[int, ...]:
    return tuple(draw.sample(among, draw.randint(1, min(_BODY, len(among)))))


def _shuffled(
    rules: list[tuple[tuple[int, ...], int]], facts: list[int], query: int, draw: random.Random
) -> Problem:
    # In random order, or the order would tell.
    rules = sorted((tuple(draw.sample(body, len(body))), head) for body, head in rules)
    return Problem(
        tuple(draw.sample(rules, len(rules))), tuple(draw.sample(facts, len(facts))), query
    )


def _length(problem: Problem) -> int:
    return len(problem.facts) + 1 + sum(len(body) + 1 for body, _ in problem.rules)
