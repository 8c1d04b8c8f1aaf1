"""Problems have the right labels, whatever way they are drawn, and say the same in tokens."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from recipes.studies.logic import (
    DEEPEST,
    DRAWS,
    FACT,
    LENGTH,
    MOST,
    NAMES,
    QUERY,
    Name,
    Problem,
    balanced,
    proof_steps,
    renamed,
    search_steps,
    tokens,
)


def follows(problem: Problem) -> bool:
    """By brute force: the query holds in every world in which facts and rules hold."""
    worlds = itertools.product((False, True), repeat=MOST)
    return all(
        world[problem.query]
        for world in worlds
        if all(world[fact] for fact in problem.facts)
        and all(world[h] or not all(world[b] for b in body) for body, h in problem.rules)
    )


@pytest.mark.parametrize("name", DRAWS)
def test_labels_are_what_follows(name: Name) -> None:
    problems, labels = balanced(name, 48, seed=5)
    assert [int(follows(one)) for one in problems] == labels


@pytest.mark.parametrize("name", DRAWS)
def test_labels_and_steps_are_balanced_and_no_problem_is_there_twice(name: Name) -> None:
    number = 20 * 2 * (DEEPEST + 1)
    problems, labels = balanced(name, number, seed=3)
    kinds = [
        (label, proof_steps(one)[one.query] if label else search_steps(one))
        for one, label in zip(problems, labels, strict=True)
    ]
    assert len(set(problems)) == number
    assert {kinds.count(kind) for kind in set(kinds)} == {20}
    assert set(kinds) == {(label, n) for label in (0, 1) for n in range(DEEPEST + 1)}
    assert balanced(name, number, seed=3) == (problems, labels) != balanced(name, number, seed=4)


@pytest.mark.parametrize("name", ["LP", "LP_star"])
def test_label_priority_never_proves_what_it_drew_as_false(name: Name) -> None:
    draw = random.Random(0)
    for _ in range(200):
        problem = DRAWS[name](6, draw)
        assert all(1 <= len(body) <= 3 and head not in body for body, head in problem.rules)
        assert 0 < len(proof_steps(problem)) < 6  # some predicates of each level, and not all


def test_steps_of_a_proof_and_of_a_search() -> None:
    chain = Problem((((0,), 1), ((1, 2), 3)), (0, 2), 3)
    assert proof_steps(chain) == {0: 0, 2: 0, 1: 1, 3: 2}
    assert search_steps(Problem((), (0,), 1)) == 0  # no rule ends in it
    assert search_steps(Problem((((0, 2), 1),), (0,), 1)) == 1
    assert search_steps(Problem((((2,), 1), ((3, 4), 2)), (4,), 1)) == 2
    assert search_steps(Problem((((3, 2), 1), ((4,), 2)), (), 1)) == 1  # 3 fails at once
    assert search_steps(Problem((((2,), 1), ((1,), 2)), (), 1)) == 2  # a circle


def test_tokens_say_what_the_problem_is_and_names_mean_nothing() -> None:
    problem = Problem((((4, 0), 2),), (4,), 2)
    row = tokens([problem])
    assert row.shape == (1, LENGTH)
    said = [divmod(int(one) - 1, NAMES) for one in row[0] if one]
    assert said == [(FACT, 4), (1, 4), (1, 0), (2, 2), (QUERY, 2)]
    rows = np.repeat(row, 50, axis=0)
    other = renamed(rows, np.random.default_rng(0))
    assert ((other == 0) == (rows == 0)).all() and len(np.unique(other, axis=0)) > 40
    roles, names = np.divmod(other[:, -5:] - 1, NAMES)
    assert (roles == [FACT, 1, 1, 2, QUERY]).all()
    assert (names[:, 0] == names[:, 1]).all() and (names[:, 3] == names[:, 4]).all()
    assert (names[:, 1] != names[:, 2]).all()
