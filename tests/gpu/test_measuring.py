"""What speeds are made of: windows that agree, made-up text, and operations of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import transformers

from gamma_nlp import GammaTrainer
from gamma_nlp.tasks.translation.data import load_splits
from gamma_nlp.tasks.translation.text import read_prepared
from tests.support.tiny_models import arguments, texts, tiny_gpt2

Load = Callable[[str], ModuleType]


def test_only_three_windows_that_agree_are_steady(load: Load) -> None:
    windows = load("windows").Windows(steps=50)
    seen = []
    for seconds in (29.3, 14.2, 2.7, 2.5, 2.5, 2.55):
        windows.seconds.append(seconds)
        seen.append(windows.steady)
    assert seen == [False] * 5 + [True]
    assert windows.step == pytest.approx((2.5 + 2.5 + 2.55) / 150)
    assert windows.told().startswith("steady after 150 steps, 46.2 s; windows of 50 steps: 586, ")
    windows.seconds.append(3.0)
    assert not windows.steady and windows.step == pytest.approx(0.06)
    assert windows.told().startswith("NOT steady after 57 s")


def test_time_that_is_up_ends_the_wait(load: Load) -> None:
    windows = load("windows").Windows(steps=2, ends=0.0)
    assert not windows.enough  # nothing is measured yet
    windows.seconds.append(1.0)
    assert windows.enough and not windows.steady


def test_the_start_does_not_count_with_tiny_sizes(load: Load) -> None:
    settings = load("parts").Settings(device="cpu", quick=True, data=None, work="")
    windows = load("windows").windows_of(settings, 50)
    for seconds in (9.0, 1.2, 0.8):
        windows.seconds.append(seconds)
        assert not windows.enough
    windows.seconds.append(1.0)
    assert windows.enough and not windows.steady
    assert windows.step == pytest.approx(3.0 / (3 * windows.steps))


@pytest.mark.parametrize("kind", [GammaTrainer, transformers.Trainer])
def test_a_clock_ends_the_training_that_it_measured(load: Load, tmp_path: Path, kind: Any) -> None:
    module = load("windows")
    windows = module.Windows(steps=2, ends=0.0)
    args = arguments(tmp_path, max_steps=1000, logging_strategy="no")

    def train() -> None:
        trainer = kind(model=tiny_gpt2(), args=args, train_dataset=texts(40))
        trainer.train()

    module.measure(windows, train)
    assert len(windows.seconds) == 1 and windows.seconds[0] > 0
    assert windows.steps_per_epoch == 10
    assert module.Clock not in map(type, transformers.trainer.DEFAULT_CALLBACKS)


def test_training_that_ends_too_early_is_an_error(load: Load) -> None:
    module = load("windows")
    with pytest.raises(RuntimeError, match="before one window of 50 steps"):
        module.measure(module.Windows(steps=50), lambda: None)


def test_made_up_text_is_a_prepared_folder_and_the_same_each_time(
    load: Load, tmp_path: Path
) -> None:
    corpus = load("corpus")
    one, other = (corpus.write_corpus(tmp_path / name, quick=True) for name in "ab")
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert all((one / path).read_bytes() == (other / path).read_bytes() for path in files)
    for joint in (True, False):
        splits = load_splits(one, read_prepared(one, "de", "en", joint=joint))
        assert {name: len(data) for name, data in splits.items()} == corpus.QUICK
    source, target = splits["train"].lengths
    assert 15 < np.mean(source) < 30 and 15 < np.mean(target) < 30
    assert max(source) > 2 * np.mean(source)
    unknown = read_prepared(one, "de", "en", joint=False).source.unk_token_id
    assert not any((ids == unknown).any() for ids in splits["train"].source)


def test_operations_are_those_that_torch_counts(load: Load, tmp_path: Path) -> None:
    folder = load("corpus").write_corpus(tmp_path / "text", quick=True)
    flops, batch = load("flops"), load("pair_batches").Batch
    text = read_prepared(folder, "de", "en", joint=True)
    model = load("translators").build("quick", text)
    model.set_attn_implementation("eager")  # torch counts no fused attention on the CPU
    counted = flops.count_flops(model, [batch(1, s, t, s, t) for s, t in ((5, 7), (9, 4))])
    operations = load("products").operations(model.config, np.array([5, 9]), np.array([7, 4]))
    assert operations == counted


def test_options_that_a_recipe_lacks_are_said_or_left_out(load: Load) -> None:
    module = load("translating")
    recipe = dataclasses.make_dataclass("Recipe", ["graphs"])
    assert module.chosen(recipe, {"graphs": "on"}, {"batch_shapes": "few"}) == {"graphs": "on"}
    with pytest.raises(load("parts").Skip, match="only a GPU has CUDA graphs"):
        module.chosen(recipe, {"graphs": "on"}, {}, cuda=False)
    with pytest.raises(load("parts").Skip, match="the recipe has no option batch_shapes"):
        module.chosen(recipe, {"batch_shapes": "few"}, {})
    assert list(module.words({"graphs": "on"})) == ["--graphs", "on"]


def test_windows_of_fairseq_are_read_from_its_log(load: Load, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    head = "INFO | fairseq.data.iterators | grouped total_num_itrs = 40\n"
    line = '2026 | INFO | train_inner | {"epoch": 1, "wps": "%s", "wpb": "3000"}\n'
    log.write_text(head + line % "0" + line % "6000" + line % "12000" + "2026 | INFO | train_inn")
    windows = load("windows").Windows(steps=50)
    load("fairseq_speed")._fill(windows, log)
    assert windows.seconds == [25.0, 12.5]
    assert windows.steps_per_epoch == 40
