"""Operations come together where this makes no cycle and hides no way around a weight."""

from __future__ import annotations

from gamma_nlp.draw.cluster import clustered, without_short_cuts

# 0 and 1 are before the gain 2; 3 and 4 after it; 5 beside it.
PARENTS = {0: (-1,), 1: (0,), 2: (1,), 3: (2,), 4: (3, 5), 5: (0,)}


def groups(weights: set[int], ends: tuple[int, ...] = (4,)) -> list[list[int]]:
    order = [0, 1, 2, 3, 5, 4]
    return clustered(order, PARENTS, ends, lambda n: n == 2, weights.__contains__)


def test_what_has_the_same_gains_before_and_after_comes_together() -> None:
    assert groups(set()) == [[0, 1], [2], [5], [3, 4]]


def test_a_way_around_a_weight_keeps_a_group_apart() -> None:
    assert [3] in groups({3}) and [4] in groups({3})  # 5 enters 4 past the weight
    assert [3, 4] in groups({4})  # every way crosses it


def test_a_way_beside_a_longer_one_is_left_out() -> None:
    fewer, ends = without_short_cuts([0, 1, 2], {0: (-1,), 1: (0, -1), 2: (1, 0)}, -1, [0, 2])
    assert fewer == {1: (0,), 2: (1,)}
    assert ends == [2]
