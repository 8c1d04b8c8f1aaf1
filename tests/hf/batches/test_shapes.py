"""Few shapes of batches: chosen as a plain loop would choose them, and enough for every batch."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.batches import shapes
from gamma_nlp.hf.batches.budget import TokenBudget
from gamma_nlp.hf.batches.by_tokens import PairCollator, TokenBatches
from gamma_nlp.hf.batches.shapes import (
    choose_widths,
    fewest_rows,
    fitting_shape,
    length_shapes,
    narrowest,
)


def lengths(count: int, seed: int = 0, longest: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    source = rng.integers(1, longest, size=count)
    target = np.clip(source + rng.integers(-4, 5, size=count), 1, longest)
    return np.stack((source, target), axis=1)


def few(count: int, seed: int = 0, most: int = 6, **options: int) -> TokenBatches:
    budget = TokenBudget(max_tokens=100, max_shapes=most)
    return TokenBatches(*lengths(count, seed).T, budget, seed=seed, **options)


def cheapest(widths: list[tuple[int, ...]], length: tuple[int, ...]) -> int:
    """Positions of the narrowest width that holds ``length``, by looking at all of them."""
    fits = [
        one for one in widths if all(long <= wide for long, wide in zip(length, one, strict=True))
    ]
    return min(sum(one) for one in fits)


def reference(rows: np.ndarray, most: int) -> int:
    """Positions after the greedy choice, by trying every pair of widths at every step."""
    pairs = [tuple(map(int, row)) for row in rows]
    chosen = [tuple(map(int, rows.max(axis=0)))]
    candidates = list(itertools.product(*({pair[side] for pair in pairs} for side in range(2))))

    def positions(widths: list[tuple[int, ...]]) -> int:
        return sum(cheapest(widths, pair) for pair in pairs)

    while len(chosen) < most:
        best = min(candidates, key=lambda one: positions([*chosen, one]))
        if positions([*chosen, best]) == positions(chosen):
            break
        chosen.append(best)
    return positions(chosen)


@pytest.mark.parametrize("most", [1, 2, 7])
def test_widths_are_those_of_a_plain_greedy_choice(most: int) -> None:
    for seed in range(3):
        rows = lengths(30, seed, longest=9)
        widths = choose_widths(rows, most)
        assert len(widths) <= most
        taken = widths[narrowest(widths, rows)]
        assert (taken >= rows).all()
        assert taken.sum() == reference(rows, most)


def test_everyone_goes_to_the_narrowest_that_holds_it() -> None:
    rows = lengths(400)
    widths = choose_widths(rows, 12)
    assert widths.sum(axis=1).tolist() == sorted(widths.sum(axis=1))
    found = widths[narrowest(widths, rows)].sum(axis=1)
    alternatives = [tuple(map(int, one)) for one in widths]
    assert found.tolist() == [cheapest(alternatives, tuple(map(int, row))) for row in rows]


def test_a_width_that_saves_too_little_is_not_added_once_padding_is_low() -> None:
    rows = np.repeat([[10, 10], [11, 11], [30, 30]], [500, 500, 500], axis=0)
    assert len(choose_widths(rows, 32)) == 3
    assert len(choose_widths(rows, 32, least=999)) == 3
    assert choose_widths(rows, 32, least=1000).tolist() == [[11, 11], [30, 30]]
    far = np.repeat([[10, 10], [30, 30]], [10, 10], axis=0)
    assert len(choose_widths(far, 32, least=10**9)) == 2, "padding would be 33 %"


def test_many_widths_are_thinned_out_before_they_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = lengths(3000, longest=50)
    whole = choose_widths(rows, 16)
    monkeypatch.setattr(shapes, "_MOST_CANDIDATES", 24)
    thin = choose_widths(rows, 16)
    assert (thin.max(axis=0) == rows.max(axis=0)).all()
    spent = [one[narrowest(one, rows)].sum() for one in (whole, thin)]
    assert spent[0] != spent[1] < 1.03 * spent[0]


@pytest.mark.parametrize(
    ("count", "most", "multiple", "expected"),
    [(10, 4, 1, (3, 4)), (9, 4, 1, (3, 3)), (100, 30, 8, (5, 24)), (3, 30, 8, (1, 8)),
     (50, 5, 8, (10, 5)), (12, 5, 8, (3, 4)), (1, 1, 1, (1, 1))],
)  # fmt: skip
def test_batches_are_the_fewest_and_evenly_filled(
    count: int, most: int, multiple: int, expected: tuple[int, int]
) -> None:
    batches, rows = fewest_rows(count, most, multiple)
    assert (batches, rows) == expected
    assert rows <= most and batches * rows >= count


def test_a_batch_finds_its_shape_by_its_longest() -> None:
    given = ((8, 4, 4), (6, 4, 9), (6, 9, 4), (5, 9, 9))
    assert fitting_shape(given, 8, 4, 3) == (8, 4, 4)
    assert fitting_shape(given, 2, 5, 4) == (6, 9, 4)
    assert fitting_shape(given, 5, 5, 5) == (5, 9, 9)
    for rows, longest in ((9, (4, 4)), (6, (5, 5)), (1, (10, 1))):
        with pytest.raises(GammaError, match=f"a batch of {rows} with .* fits none"):
            fitting_shape(given, rows, *longest)


def budgets() -> Iterator[tuple[int, TokenBudget]]:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        yield (
            seed,
            TokenBudget(
                max_tokens=int(rng.integers(64, 700)),
                sides=("both", "target")[int(rng.integers(2))],
                max_sentences=(None, int(rng.integers(1, 20)))[int(rng.integers(2))],
                multiple_of=int(rng.choice([1, 8])),
                width_multiple=int(rng.choice([1, 4])),
                max_shapes=int(rng.choice([1, 4, 32])),
            ),
        )


def test_every_pair_comes_once_in_a_batch_of_a_known_shape_within_the_budget() -> None:
    for seed, budget in budgets():
        count = 1 + 23 * seed
        rows = lengths(count, seed)
        batches = TokenBatches(*rows.T, budget, seed=seed)
        collate = PairCollator(0, width_multiple=budget.width_multiple).shaped(batches.shapes)
        assert len(batches.shapes) <= (budget.max_shapes or 0)
        filled = np.zeros(2)
        for epoch in range(2):
            batches.set_epoch(epoch)
            found, seen, filled = list(batches), [], np.zeros(2)
            for batch in found:
                made = collate([{"input_ids": [5] * s, "labels": [6] * t} for s, t in rows[batch]])
                ids, labels = made["input_ids"], made["labels"]
                seen.append((*ids.shape, labels.shape[1]))
                filled += (ids.numel(), labels.numel())
                assert labels.numel() <= budget.max_tokens
                assert budget.sides == "target" or ids.numel() <= budget.max_tokens
                assert len(ids) <= (budget.max_sentences or count + budget.multiple_of)
                assert labels.ne(-100).sum() == rows[batch, 1].sum()
                assert made["attention_mask"].any(dim=1).all()
                whole = made["attention_mask"][: len(batch)].sum()
                assert whole == rows[batch, 0].sum()
                if len(ids) > budget.multiple_of:
                    assert len(ids) % budget.multiple_of == 0
            assert sorted(i for batch in found for i in batch) == list(range(count))
            assert len(found) == len(batches)
            assert set(seen) == set(batches.shapes)
        share = 1 - rows.sum(axis=0) / filled
        assert batches.padding[:2] == pytest.approx(tuple(share))
        assert batches.padding.together == pytest.approx(1 - rows.sum() / filled.sum())


def test_pairs_that_two_shapes_of_one_size_hold_are_padded_to_what_they_were_cut_for() -> None:
    rows = np.repeat([[8, 9], [9, 8], [8, 8], [9, 9]], [50, 51, 30, 3], axis=0)
    batches = TokenBatches(*rows.T, TokenBudget(max_tokens=18, max_shapes=3))
    assert batches.shapes == ((2, 8, 9), (2, 9, 8), (2, 9, 9))
    collate = PairCollator(0).shaped(batches.shapes)
    seen = []
    for batch in batches:
        made = collate([{"input_ids": [5] * s, "labels": [6] * t} for s, t in rows[batch]])
        seen.append((made["input_ids"].shape[1], made["labels"].shape[1]))
    # Both hold the thirty pairs; all of them were cut for the first.
    assert [seen.count(one) for one in ((8, 9), (9, 8), (9, 9))] == [40, 26, 2]


def test_without_a_limit_shapes_and_padding_are_those_of_the_batches() -> None:
    rows = lengths(300)
    batches = TokenBatches(*rows.T, TokenBudget(max_tokens=100))
    seen = {(len(b), *map(int, rows[b].max(axis=0))) for b in batches}
    assert seen == set(batches.shapes) and len(seen) > 20
    filled = sum(len(b) * rows[b].max(axis=0) for b in batches)
    assert batches.padding[:2] == pytest.approx(tuple(1 - rows.sum(axis=0) / filled))


def test_epochs_mix_the_pairs_of_a_shape() -> None:
    batches = few(2000, most=8)
    first = {frozenset(batch) for batch in batches}
    batches.set_epoch(1)
    assert not first & {frozenset(batch) for batch in batches if len(batch) > 2}


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    np.random.seed(1)
    assert list(few(300, 3)) == list(few(300, 3))
    other = few(300, 3)
    other.set_epoch(1)
    assert list(other) != list(few(300, 3))


@pytest.mark.parametrize("world", [2, 3, 7])
def test_processes_have_the_same_shape_at_the_same_step(world: int) -> None:
    whole = few(2000, world_size=world)
    kinds = lengths(2000)
    ranks = [list(few(2000, rank=rank, world_size=world)) for rank in range(world)]
    together = [batch for step in zip(*ranks, strict=True) for batch in step]
    assert together[: whole.batches] == whole.order()
    assert sorted(i for b in together[: whole.batches] for i in b) == list(range(2000))
    mixed = sum(
        len({fitting_shape(whole.shapes, len(b), *kinds[b].max(axis=0)) for b in step}) > 1
        for step in zip(*ranks, strict=True)
    )
    assert mixed <= len(whole.shapes) * (world - 1) / world + 1 < len(ranks[0]) / 2


@pytest.mark.parametrize("world", [1, 3])
def test_a_stop_at_any_position_continues_with_the_very_next_batch(world: int) -> None:
    for rank in range(world):
        whole = few(300, 2, rank=rank, world_size=world)
        whole.set_epoch(2)
        expected = list(whole)
        for stop in range(0, len(expected) + 1, 9):
            killed = few(300, 2, rank=rank, world_size=world)
            killed.set_epoch(2)
            assert [b for b, _ in zip(killed, range(stop), strict=False)] == expected[:stop]
            resumed = few(300, 2, rank=rank, world_size=world)
            resumed.load_state_dict(killed.state_dict(stop))
            assert list(resumed) == expected[stop:]


def test_a_state_of_other_shapes_is_refused() -> None:
    state = few(300).state_dict()
    others = (
        few(300, most=5),
        few(300, world_size=2),
        TokenBatches(*lengths(300).T, TokenBudget(max_tokens=100)),
        TokenBatches(*lengths(300).T, TokenBudget(max_tokens=100, max_shapes=6, max_sentences=2)),
    )
    for other in others:
        with pytest.raises(GammaError, match="max_shapes"):
            other.load_state_dict(state)


def test_shapes_for_sentences_have_all_the_same_rows() -> None:
    found = length_shapes([3, 3, 4, 9, 9, 20], 8)
    assert found == ((8, 3), (8, 4), (8, 9), (8, 20))
    assert length_shapes([3, 3, 4, 9, 9, 20], 8, most=2) == ((8, 9), (8, 20))


def words(lines: list[str]) -> np.ndarray:
    return np.array([len(line.split()) + 1 for line in lines])


def check_bound(rows: np.ndarray, *, max_tokens: int) -> None:
    batches = TokenBatches(*rows.T, TokenBudget(max_tokens=max_tokens, max_shapes=32))
    assert len(batches.shapes) <= 32
    assert batches.padding.together < 0.08


@pytest.mark.parametrize("max_tokens", [1024, 16384])
def test_multi30k_stays_below_8_percent(real_data: Callable[[str], Path], max_tokens: int) -> None:
    folder = real_data("multi30k")
    sides = [(folder / f"train.{name}").read_text(encoding="utf-8") for name in ("de", "en")]
    rows = np.stack([words(side.splitlines()) for side in sides], axis=1)
    check_bound(rows, max_tokens=max_tokens)


@pytest.mark.slow
def test_tatoeba_stays_below_8_percent(real_data: Callable[[str], Path]) -> None:
    with zipfile.ZipFile(real_data("tatoeba_de_en") / "deu-eng.zip") as archive:
        lines = archive.read("deu.txt").decode().splitlines()
    english, german = zip(*(line.split("\t")[:2] for line in lines), strict=True)
    rows = np.stack([words(list(side)) for side in (german, english)], axis=1)
    check_bound(rows[words(list(english)) < 60], max_tokens=4096)


def test_sst2_stays_below_8_percent(real_data: Callable[[str], Path]) -> None:
    file = real_data("glue") / "SST-2" / "train.tsv"
    sizes = words([line.split("\t")[0] for line in file.read_text().splitlines()[1:]]) + 1
    widths = np.array(length_shapes(sizes, 32))[:, 1:]
    assert len(widths) <= 32
    filled = widths[narrowest(widths, sizes[:, None])].sum()
    assert 1 - sizes.sum() / filled < 0.08
