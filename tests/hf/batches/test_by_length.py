"""Batches: every example once an epoch, like lengths together, nothing but padding added."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from gamma_nlp.hf.batches.by_length import BucketSampler, Encoded, Padder, SortedSampler
from gamma_nlp.hf.batches.shapes import length_shapes


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


@pytest.mark.parametrize("count", [1, 7, 8, 63, 1000])
def test_few_shapes_hold_every_example_once_an_epoch(count: int) -> None:
    sizes = lengths(count)
    shapes = length_shapes(sizes, 8, most=5)
    sampler = BucketSampler(sizes, 8, 0, shapes)
    assert sampler.shapes == shapes and len(shapes) <= 5
    seen = set()
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(count))
        assert order == list(sampler), "the order follows from seed and epoch alone"
        seen.add(tuple(order))
    assert len(seen) == (1 if count == 1 else 2)


def test_but_for_a_few_batches_all_examples_have_the_width_of_their_shape() -> None:
    sizes = lengths(2005)
    shapes = length_shapes(sizes, 16, most=10)
    order = list(BucketSampler(sizes, 32, 3, shapes))
    widths = np.array([width for _, width in shapes])
    kinds = [set(np.searchsorted(widths, sizes[order[i : i + 32]])) for i in range(0, 2005, 32)]
    assert sum(len(kind) > 1 for kind in kinds) <= len(shapes)
    assert len(kinds[-1]) <= 2, "what is left over is of like length, too"
    lefts = {min(sizes[list(BucketSampler(sizes, 32, seed, shapes))[-21:]]) for seed in range(9)}
    assert len(lefts) > 3, "and not always of the same length"


def padder() -> Padder:
    return Padder({"input_ids": 9, "token_type_ids": 0}).shaped([(4, 2), (4, 5)])


def test_batches_are_filled_up_to_their_shape() -> None:
    data = Encoded({"input_ids": [[5, 6, 7], [8]], "token_type_ids": [[0, 0, 1], [0]]}, [1, 0])
    batch = padder()([data[0], data[1]])
    empty = [5, 9, 9, 9, 9]
    assert batch["input_ids"].tolist() == [[5, 6, 7, 9, 9], [8, 9, 9, 9, 9], empty, empty]
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 1, 1, 1]
    assert batch["labels"].tolist() == [1, 0, -100, -100]
    assert padder()([data[1]])["input_ids"].shape == (4, 2)


def test_rows_without_an_example_change_neither_loss_nor_gradient() -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    ).eval()
    data = Encoded({"input_ids": [[5, 6, 7], [8]], "token_type_ids": [[0, 0, 1], [0]]}, [1, 0])
    found = []
    for collate in (Padder({"input_ids": 9, "token_type_ids": 0}), padder()):
        model.zero_grad()
        loss = model(**collate([data[0], data[1]])).loss
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(found[0], found[1])
