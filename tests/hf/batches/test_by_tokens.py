"""Batches by token budget: every pair once, never above the budget, the same order everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.batches.budget import TokenBudget, waste
from gamma_nlp.hf.batches.by_tokens import PairCollator, TokenBatches


def lengths(count: int, seed: int = 0, longest: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    source = rng.integers(1, longest, size=count)
    return source, np.clip(source + rng.integers(-5, 6, size=count), 1, longest)


def budgets() -> Iterator[tuple[int, TokenBudget]]:
    """Thirty random budgets with a seed each."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        yield (
            seed,
            TokenBudget(
                max_tokens=int(rng.integers(64, 700)),
                sides=("both", "target")[int(rng.integers(2))],
                max_sentences=(None, int(rng.integers(1, 20)))[int(rng.integers(2))],
                multiple_of=int(rng.choice([1, 4, 8])),
                width_multiple=int(rng.choice([1, 4, 8])),
            ),
        )


def sampler(count: int = 300, tokens: int = 256, seed: int = 3, **options: Any) -> TokenBatches:
    return TokenBatches(*lengths(count), TokenBudget(max_tokens=tokens), seed=seed, **options)


def test_every_pair_comes_once_an_epoch() -> None:
    for seed, budget in budgets():
        batches = TokenBatches(*lengths(1 + 17 * seed, seed), budget, seed=seed)
        for epoch in range(3):
            batches.set_epoch(epoch)
            found = list(batches)
            assert sorted(index for batch in found for index in batch) == list(range(1 + 17 * seed))
            assert len(found) == len(batches) == batches.batches


def test_no_batch_is_above_the_budget() -> None:
    for seed, budget in budgets():
        source, target = lengths(400, seed)
        batches = TokenBatches(source, target, budget, seed=seed)
        collate = PairCollator(0, width_multiple=budget.width_multiple)
        for batch in batches:
            padded = collate(
                [{"input_ids": [1] * source[i], "labels": [1] * target[i]} for i in batch]
            )
            assert padded["labels"].numel() <= budget.max_tokens
            if budget.sides == "both":
                assert padded["input_ids"].numel() <= budget.max_tokens
            assert len(batch) <= (budget.max_sentences or 400)


def test_a_batch_is_as_large_as_the_budget_allows() -> None:
    batches = TokenBatches([8] * 100, [8] * 100, TokenBudget(max_tokens=80))
    assert [len(batch) for batch in batches] == [10] * 10
    wide = TokenBatches([20] * 100, [8] * 100, TokenBudget(max_tokens=80, sides="target"))
    assert {len(batch) for batch in wide} == {10}
    both = TokenBatches([20] * 100, [8] * 100, TokenBudget(max_tokens=80))
    assert {len(batch) for batch in both} == {4}


def test_batch_sizes_are_multiples_but_for_the_last_and_small_ones() -> None:
    source, target = lengths(1000)
    sizes = [
        len(batch)
        for batch in TokenBatches(source, target, TokenBudget(max_tokens=512, multiple_of=8))
    ]
    odd = [size for size in sizes if size % 8 and size > 8]
    assert len(odd) <= 1 and max(sizes) > 8


def test_a_pair_above_the_budget_is_refused_by_index_and_lengths() -> None:
    with pytest.raises(GammaError, match="pair 1 has 3 source and 12 target tokens, more than max"):
        TokenBatches([3, 3, 3], [4, 12, 4], TokenBudget(max_tokens=10))
    with pytest.raises(GammaError, match="pair 0 has 11 source"):
        TokenBatches([11], [4], TokenBudget(max_tokens=10))
    with pytest.raises(GammaError, match="pair 0 has 9 source"):  # padded to 16
        TokenBatches([9], [4], TokenBudget(max_tokens=10, width_multiple=8))
    assert list(TokenBatches([11], [4], TokenBudget(max_tokens=10, sides="target"))) == [[0]]


def test_long_pairs_can_be_left_out_and_are_named() -> None:
    budget = TokenBudget(max_tokens=10, skip_long=True)
    batches = TokenBatches([3, 3, 30, 3], [4, 12, 4, 4], budget)
    assert batches.skipped.tolist() == [1, 2]
    assert sorted(index for batch in batches for index in batch) == [0, 3]
    with pytest.raises(GammaError, match="no pair is left"):
        TokenBatches([30], [4], budget)


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    one, two = sampler(), sampler()
    np.random.seed(1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert list(one) == list(two)
    assert torch.equal(before, torch.get_rng_state())
    two.set_epoch(1)
    assert list(one) != list(two)
    one.set_epoch(1)
    assert list(one) == list(two)
    assert list(sampler(seed=4)) != list(sampler(seed=3))


def test_epochs_differ_in_order_and_in_content_but_not_in_shapes() -> None:
    source, target = lengths(2000, longest=12)
    batches = TokenBatches(source, target, TokenBudget(max_tokens=128))
    first = list(batches)
    batches.set_epoch(1)
    second = list(batches)
    assert not {frozenset(batch) for batch in first} >= {frozenset(batch) for batch in second}

    def shapes(found: list[list[int]]) -> list[tuple[int, int, int]]:
        return [(len(b), int(source[b].max()), int(target[b].max())) for b in found]

    assert sorted(shapes(first)) == sorted(shapes(second))
    assert shapes(first) != shapes(second)
    widths = [width for _, _, width in shapes(first)]
    assert abs(np.corrcoef(np.arange(len(widths)), widths)[0, 1]) < 0.3  # not from short to long


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_do_not_change_the_order(workers: int) -> None:
    batches = sampler(40, 100)
    loader = DataLoader(range(40), batch_sampler=batches, num_workers=workers, collate_fn=list)
    assert list(loader) == list(sampler(40, 100))


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_processes_share_the_batches_of_one(world: int) -> None:
    alone = list(sampler())
    shards = [list(sampler(rank=rank, world_size=world)) for rank in range(world)]
    together = [shard[k] for k in range(len(shards[0])) for shard in shards]
    assert {len(shard) for shard in shards} == {len(sampler(rank=0, world_size=world))}
    assert together == alone + alone[: len(together) - len(alone)]
    assert len(together) - len(alone) < world
    dropped = [
        list(sampler(rank=rank, world_size=world, remainder="drop")) for rank in range(world)
    ]
    together = [shard[k] for k in range(len(dropped[0])) for shard in dropped]
    assert together == alone[: len(alone) // world * world]


def test_more_processes_than_batches_are_filled_or_refused() -> None:
    given = [list(TokenBatches([4], [4], TokenBudget(max_tokens=8), rank=r, world_size=3))
             for r in range(3)]  # fmt: skip
    assert given == [[[0]]] * 3
    with pytest.raises(GammaError, match="remainder='fill'"):
        TokenBatches([4], [4], TokenBudget(max_tokens=8), world_size=3, remainder="drop")


@pytest.mark.parametrize("world", [1, 3])
def test_a_stop_at_any_position_continues_with_the_very_next_batch(world: int) -> None:
    for rank in range(world):
        whole = sampler(rank=rank, world_size=world)
        whole.set_epoch(2)
        expected = list(whole)
        for stop in range(len(expected) + 1):
            killed = sampler(rank=rank, world_size=world)
            killed.set_epoch(2)
            taken = [batch for batch, _ in zip(killed, range(stop), strict=False)]
            state = killed.state_dict(stop)
            assert taken == expected[:stop]
            resumed = sampler(rank=rank, world_size=world)
            resumed.load_state_dict(state)
            assert resumed.epoch == 2
            resumed.set_epoch(2)
            assert list(resumed) == expected[stop:]
            assert list(resumed) == expected, "the next iteration is whole again"


def test_the_state_without_a_count_is_what_was_handed_out() -> None:
    batches = sampler()
    loader = iter(DataLoader(range(300), batch_sampler=batches, collate_fn=list))
    for _ in range(5):
        next(loader)
    other = sampler()
    other.load_state_dict(batches.state_dict())
    assert list(other) == list(loader)
    batches.set_epoch(1)
    assert batches.state_dict()["position"] == 0


def test_a_stop_continues_with_another_number_of_processes() -> None:
    alone = list(sampler())
    state = sampler(rank=1, world_size=2).state_dict(4)
    shards = []
    for rank in range(3):
        resumed = sampler(rank=rank, world_size=3)
        resumed.load_state_dict(state)
        shards.append(list(resumed))
        assert resumed.state_dict(2)["position"] == 8 + 2 * 3
    together = [shard[k] for k in range(len(shards[0])) for shard in shards]
    assert together[: len(alone) - 8] == alone[8:]


def test_a_state_of_other_batches_is_refused() -> None:
    state = sampler().state_dict()
    with pytest.raises(GammaError, match="the same max_tokens"):
        sampler(tokens=255).load_state_dict(state)
    with pytest.raises(GammaError, match="the same data"):
        sampler(count=299).load_state_dict(state)
    budget = TokenBudget(max_tokens=8)
    with pytest.raises(GammaError, match="other lengths"):  # the same lengths in another order
        TokenBatches([1, 2], [1, 2], budget).load_state_dict(
            TokenBatches([2, 1], [2, 1], budget).state_dict()
        )
    with pytest.raises(GammaError, match="seed 3, these 4"):
        sampler(seed=4).load_state_dict(state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenBudget(max_tokens=0), "max_tokens must be at least 1"),
        (lambda: TokenBudget(max_tokens=9, multiple_of=0), "multiple_of must be at least 1"),
        (lambda: TokenBudget(max_tokens=9, sides="source"), "'both' or 'target'"),  # type: ignore[arg-type]
        (lambda: sampler(rank=2, world_size=2), "rank must be from 0"),
        (lambda: sampler(remainder="keep"), "'fill' or 'drop'"),
        (lambda: sampler(seed=-1), "seed must not be negative"),
        (lambda: TokenBatches([1], [1, 2], TokenBudget(max_tokens=9)), "1 source lengths, but 2"),
        (lambda: TokenBatches([1, 0], [1, 2], TokenBudget(max_tokens=9)), "pair 1 has 0 source"),
        (lambda: TokenBatches([], [], TokenBudget(max_tokens=9)), "no pair is left"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        make()


def test_pairs_are_padded_to_the_longest_of_each_side() -> None:
    pairs = [
        {"input_ids": [5, 6, 7], "labels": [8]},
        {"input_ids": torch.tensor([9]), "labels": [3, 4]},
    ]
    batch = PairCollator(1)(pairs)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [9, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[8, -100], [3, 4]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    wide = PairCollator(1, width_multiple=8)(pairs)
    assert {tuple(tensor.shape) for tensor in wide.values()} == {(2, 8)}
    assert wide["attention_mask"].sum() == 4 and wide["labels"].ne(-100).sum() == 3


def test_waste_is_the_share_of_padding() -> None:
    assert waste([[0, 1], [2]], [1, 3, 5]) == pytest.approx(2 / 11)
    assert waste([[0, 1]], [4, 4]) == 0.0 == waste([], [])
    assert waste([[0]], [6], width_multiple=8) == pytest.approx(0.25)


def test_batches_of_related_lengths_waste_less_than_8_percent_on_each_side() -> None:
    rng = np.random.default_rng(0)
    source = rng.integers(5, 30, 3000)
    target = np.clip(source + rng.integers(-5, 6, 3000), 1, None)
    batches = list(TokenBatches(source, target, TokenBudget(max_tokens=1024)))
    assert waste(batches, source) < 0.08
    assert waste(batches, target) < 0.08


@pytest.mark.parametrize("language", ["de", "fr"])
def test_multi30k_wastes_less_than_8_percent_on_each_side(
    real_data: Callable[[str], Path], language: str
) -> None:
    folder = real_data("multi30k")
    source, target = (
        [
            len(line.split())
            for line in (folder / f"train.{name}").read_text(encoding="utf-8").splitlines()
        ]
        for name in ("en", language)
    )
    batches = list(TokenBatches(source, target, TokenBudget(max_tokens=4096)))
    assert sum(map(len, batches)) == 29000
    assert waste(batches, source) < 0.08
    assert waste(batches, target) < 0.08
