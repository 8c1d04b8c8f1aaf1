"""Batches: every example once an epoch, like lengths together, nothing but padding added."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gamma_nlp.hf.batches.by_length import BucketSampler, Encoded, Padder, SortedSampler


def lengths(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, 60, size=count)


@pytest.mark.parametrize("count", [1, 7, 8, 63, 1000])
def test_every_example_comes_once_an_epoch(count: int) -> None:
    sampler = BucketSampler(lengths(count), 8, seed=0)
    assert sorted(sampler) == list(range(count)) == sorted(SortedSampler(lengths(count)))
    assert len(sampler) == count


def test_batches_hold_examples_of_like_length() -> None:
    sizes = lengths(2001)
    order = list(BucketSampler(sizes, 16, seed=0))
    spread = [np.ptp(sizes[order[i : i + 16]]) for i in range(0, 2000, 16)]
    assert np.mean(spread) < 3
    first = [sizes[order[i]] for i in range(0, 2000, 16)]
    assert abs(np.corrcoef(np.arange(len(first)), first)[0, 1]) < 0.3  # not from long to short


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    one, two = (BucketSampler(lengths(200), 8, seed=5) for _ in range(2))
    torch.manual_seed(1)
    assert list(one) == list(two)
    one.set_epoch(1)
    assert list(one) != list(two)
    two.set_epoch(1)
    assert list(one) == list(two)
    assert list(BucketSampler(lengths(200), 8, seed=6)) != list(BucketSampler(lengths(200), 8, 5))


def test_a_batch_is_padded_to_its_longest_example() -> None:
    data = Encoded({"input_ids": [[5, 6, 7], [8]], "token_type_ids": [[0, 0, 1], [0]]}, [1, 0])
    batch = Padder({"input_ids": 9, "token_type_ids": 0})([data[0], data[1]])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert data.lengths.tolist() == [3, 1]


def test_widths_can_be_fixed_or_rounded_up() -> None:
    data = Encoded({"input_ids": [[1, 2, 3]]}, [2.5])
    assert Padder({"input_ids": 0}, length=6)([data[0]])["input_ids"].shape == (1, 6)
    batch = Padder({"input_ids": 0}, multiple=8)([data[0]])
    assert batch["input_ids"].shape == (1, 8)
    assert batch["labels"].dtype == torch.float32
