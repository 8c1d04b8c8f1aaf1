"""The recipe for a GPU trains, made small, and its learning rates are what its head derives."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gamma_nlp.tasks.translation.arguments import read_arguments
from gamma_nlp.tasks.translation.train import train_translation
from tests.support.paths import RECIPES
from tests.support.translation_runs import MARIAN, prepared_corpus

FILE, PUBLISHED = RECIPES / "iwslt14_de_en_gpu.yaml", RECIPES / "iwslt14_de_en.yaml"


def test_its_rates_fall_along_the_published_curve() -> None:
    ours, theirs = (yaml.safe_load(file.read_text("utf-8")) for file in (FILE, PUBLISHED))
    curves = [float(one["learning_rate"]) * one["warmup_steps"] ** 0.5 for one in (ours, theirs)]
    assert curves[0] == pytest.approx(curves[1])
    assert 25_000 <= ours["max_tokens"] <= 32_000
    assert ours["eval_steps"] % ours["save_steps"] == 0  # the best score has a checkpoint
    own = {"max_tokens", "learning_rate", "warmup_steps", "patience", "output_dir"}
    own |= {"eval_strategy", "eval_steps", "save_strategy", "save_steps"}
    assert {k: v for k, v in ours.items() if k not in own} == {
        k: v for k, v in theirs.items() if k not in own
    }


def test_it_trains_when_made_small(tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(MARIAN), "utf-8")
    data = prepared_corpus(tmp_path / "corpus")
    changes = {
        "data": data,
        "model_config": config,
        "max_tokens": 128,
        "max_steps": 4,
        "save_steps": 2,
        "eval_steps": 4,
        "use_cpu": "true",
        "disable_tqdm": "true",
        "output_dir": tmp_path / "run",
    }
    words = [word for key, value in changes.items() for word in (f"--{key}", str(value))]
    found = train_translation(*read_arguments([str(FILE), *words]), quiet=True)
    assert found["steps"] == 4 and "test" in found["scores"]
