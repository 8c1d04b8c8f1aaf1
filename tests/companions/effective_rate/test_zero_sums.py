"""Runs of rows that sum to zero, and groups of columns that do."""

from __future__ import annotations

import torch

from gamma_nlp.companions.effective_rate.zero_sums import nonnegative, null_groups, row_ranges


def balanced(*sizes: int) -> torch.Tensor:
    """Random rows, each run of which sums to zero."""
    runs = [torch.randn(3, size, dtype=torch.float64) for size in sizes]
    return torch.cat([run - run.mean(dim=1, keepdim=True) for run in runs], dim=1)


def test_runs_of_unequal_length_are_found_between_other_rows() -> None:
    torch.manual_seed(0)
    rows = torch.cat([balanced(4, 2), torch.randn(3, 3), balanced(5)], dim=1)
    assert row_ranges(rows, rows.abs()) == [(0, 4), (4, 6), (9, 14)]


def test_a_run_of_all_rows_is_not_a_unit() -> None:
    torch.manual_seed(0)
    rows = balanced(8)
    assert row_ranges(rows, rows.abs()) == []


def test_rows_without_size_follow_the_others_if_those_are_single() -> None:
    sums, sizes = torch.zeros(3, 4).double(), torch.tensor([[1.0, 0.0, 2.0, 0.0]] * 3).double()
    assert row_ranges(sums, sizes) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_columns_that_sum_to_zero_are_grouped_and_those_that_only_cancel_are_not() -> None:
    torch.manual_seed(0)
    a, b, c, d = torch.randn(4, 20, dtype=torch.float64)
    # 0 + 1 + 3 vanish; 2 - 4 vanishes, which is another symmetry; 5 stands alone.
    table = torch.stack([a, b, c, -a - b, c, d], dim=1)
    assert null_groups(table) == [(0, 1, 3)]


def test_least_squares_without_negative_weights() -> None:
    matrix = torch.eye(3, dtype=torch.float64)
    found = nonnegative(matrix, torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([2.0, 0.0, 0.5], dtype=torch.float64))
