"""The benchmark of translation runs on tiny sizes, counts correctly and judges by plain bools."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from gamma_nlp.hf.batches.budget import TokenBudget
from gamma_nlp.hf.batches.by_tokens import TokenBatches
from gamma_nlp.tasks.translation.data import load_splits
from gamma_nlp.tasks.translation.text import read_prepared


def options(benchmark: ModuleType, prepared: Path, *more: str) -> argparse.Namespace:
    given = ("--data", str(prepared), "--device", "cpu", "--quick", "--max-tokens", "24")
    chosen: argparse.Namespace = benchmark.arguments([*given, *more])
    return chosen


def test_quick_run_measures_both_parts_and_judges_none(
    benchmark: ModuleType, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "times.json"
    given = ["--data", str(prepared), "--device", "cpu", "--quick", "--max-tokens", "24"]
    assert benchmark.main(["all", *given, "--steps", "2", "--json", str(path)]) == 0
    rows = {row["what"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed[1:]] == list(rows)
    assert list(rows) == [
        "train quick, ours to stock",
        "ours to step 4",
        "padding of the source",
        "padding of the target",
        "decode, batches to one by one",
    ]
    assert all(row["passed"] is None for row in rows.values())
    assert rows["decode, batches to one by one"]["figures"]["alike"] == 2  # of 2 sentences
    train = rows["train quick, ours to stock"]["figures"]
    assert all(second > 0 for pair in train["seconds"] for second in pair)
    speed = np.array(train["target_tokens"]) / np.array(train["seconds"])
    assert rows["train quick, ours to stock"]["measured"] == f"{speed[0, 0] / speed[0, 1]:.2f} x"
    waits = rows["ours to step 4"]["figures"]["seconds"]
    assert len(waits) == 2 and min(waits) > 0
    assert rows["ours to step 4"]["measured"] == f"{waits[0]:.1f} s"


def test_goals_are_judged_by_plain_bools(benchmark: ModuleType, prepared: Path) -> None:
    chosen = options(benchmark, prepared, "--steps", "1")
    rows = [*benchmark.bench_train(chosen), *benchmark.bench_decode(chosen)]
    kinds = {row.what: type(row.passed) for row in rows}
    assert kinds.pop("ours to step 4") is type(None)
    speed = kinds.pop("train quick, ours to stock")
    detail = rows[0].detail
    assert speed is (type(None) if "NOT steady" in detail else bool)
    assert set(kinds.values()) == {bool}  # numpy's is neither JSON nor False


@pytest.mark.parametrize("sentences", [None, 3])
def test_timed_batches_are_those_of_the_last_three_windows(
    benchmark: ModuleType, prepared: Path, sentences: int | None
) -> None:
    chosen = options(benchmark, prepared, "--steps", "2", "--batch-shapes", "few")
    text = read_prepared(prepared, "de", "en", joint=True)
    data = load_splits(prepared, text)["train"]
    elapsed, batches, windows, first, tokens = benchmark.train_once(
        chosen, text, data, sentences, 0, first=7
    )
    assert len(windows.speeds) == 3 and len(batches) == 6 and tokens > 0
    assert elapsed == sum(windows.seconds) < first  # which takes one step more
    if sentences is None:
        assert all(batch.tokens <= chosen.max_tokens for batch in batches)
        shapes = {batch[:3] for batch in batches}
        budget = TokenBudget(max_tokens=chosen.max_tokens, max_shapes=32)
        assert shapes <= set(TokenBatches(*data.lengths, budget).shapes)
    else:
        assert all(batch.pairs <= sentences for batch in batches)


def test_stock_batches_have_as_many_tokens_as_ours_on_average(benchmark: ModuleType) -> None:
    assert benchmark.sentences_like(np.full((50, 2), 10), 100.0) == 10
    lengths = np.random.default_rng(1).integers(1, 40, (4000, 2))
    size = benchmark.sentences_like(lengths, 1024.0)
    draws = np.random.default_rng(2).permuted(np.arange(4000))[: 4000 // size * size]
    tokens = size * lengths[draws].reshape(-1, size, 2).max(axis=(1, 2))
    assert tokens.mean() == pytest.approx(1024, abs=0.6 * 40)  # one sentence is 39 tokens or so


def test_padding_is_the_share_of_each_side(benchmark: ModuleType) -> None:
    batches = [benchmark.Batch(2, 4, 5, 6, 9), benchmark.Batch(1, 8, 10, 8, 7)]
    assert benchmark.padding(batches) == pytest.approx((1 - 14 / 16, 1 - 16 / 20))
    assert [batch.tokens for batch in batches] == [10, 10]


def test_operations_are_those_of_the_products_of_matrices(
    benchmark: ModuleType, prepared: Path
) -> None:
    text = read_prepared(prepared, "de", "en", joint=True)
    vocabulary, width, wide = len(text.target), 16, 32
    model = benchmark.build("quick", text)
    model.set_attn_implementation("eager")  # torch counts no fused attention on CPU
    rows, source, target = 3, 5, 7
    encoder = source * (4 * width**2 + 2 * width * wide + 2 * source * width)
    decoder = target * (
        6 * width**2 + 2 * width * wide + 2 * (target + source) * width + vocabulary * width
    )
    across = source * 2 * width**2  # keys and values of the encoder's output
    # Two for multiply and add, three for forward and the gradients of both factors.
    expected = 2 * 3 * rows * (encoder + decoder + across)
    batch = benchmark.Batch(rows, source, target, 1, 1)
    assert benchmark.count_flops(model, [batch]) == expected
    assert benchmark.count_flops(model, [batch, batch]) == 2 * expected


def test_matrix_rate_is_the_share_of_the_rate_of_one_large_product(
    benchmark: ModuleType, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert benchmark.matmul_rate("cpu", 16, 2) > 0
    text = read_prepared(prepared, "de", "en", joint=True)
    batch = benchmark.Batch(3, 5, 7, 1, 1)
    flops = benchmark.count_flops(benchmark.build("quick", text), [batch])
    monkeypatch.setattr(benchmark, "matmul_rate", lambda device: 2.0 * flops)
    rounds = [[[batch], [batch]], [[batch, batch], [batch, batch]]]  # of ours and of the stock one
    times = np.array([[4.0, 2.0], [4.0, 2.0]])
    row = benchmark.matrix_rate(options(benchmark, prepared), text, times, rounds)
    assert row.measured == "12.5%" and "stock 50.0%" in row.detail and row.passed is None


def test_trained_run_can_be_decoded(benchmark: ModuleType, prepared: Path, tmp_path: Path) -> None:
    text = read_prepared(prepared, "de", "en", joint=True)
    text.save(tmp_path)
    benchmark.build("quick", text).save_pretrained(tmp_path / "averaged")
    (row,) = benchmark.bench_decode(options(benchmark, prepared, "--run", str(tmp_path)))
    assert row.detail.endswith("trained model")


def test_missing_folders_are_errors_without_a_traceback(
    benchmark: ModuleType, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["train", "--quick", "--data", str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err
    read_prepared(prepared, "de", "en", joint=True).save(tmp_path)
    given = ["decode", "--quick", "--data", str(prepared), "--run", str(tmp_path)]
    assert benchmark.main(given) == 2
    assert "has no model yet" in capsys.readouterr().err
