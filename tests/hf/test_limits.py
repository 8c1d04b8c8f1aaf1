"""What a config may ask for: no file makes a model that is never built, or fills memory."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.hf import limits
from gamma_nlp.hf.limits import check_counts, limited_modules
from gamma_nlp.hf.models import load_model, load_with_weights, with_random_weights
from tests.support.tiny_models import tiny_bert


def config(folder: Path, **changes: Any) -> str:
    content = tiny_bert().config.to_dict() | changes
    (folder / "config.json").write_text(json.dumps(content))
    return str(folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"num_hidden_layers": 2_001}, r"x: num_hidden_layers is 2001, .*at most 2,000"),
        ({"text_config": {"n_layer": 10**7}}, r"x: text_config\.n_layer is 10000000"),
        ({"depths": [2, 10**6, 2]}, r"x: depths\[1\] is 1000000"),
        ({"encoder_layers": 1e9}, r"x: encoder_layers is 1000000000\.0"),
        ({"num_local_experts": 2_000_000}, r"num_local_experts .*at most 1,000,000"),
        ({"num_labels": 10**30}, "num_labels is "),
        ({"max_position_embeddings": 10**9}, "max_position_embeddings .*at most 100,000,000"),
        ({"decoder_layers": -1}, "decoder_layers must be at least 0, got -1"),
    ],
)
def test_a_count_that_no_model_has_is_named_with_its_limit(
    content: dict[str, Any], told: str
) -> None:
    with pytest.raises(GammaError, match=told):
        check_counts("x", content)


def test_counts_of_real_models_pass() -> None:
    check_counts("x", {"num_hidden_layers": 1_000, "max_position_embeddings": 10_485_760})
    check_counts("x", {"num_experts": 2_048, "layer_types": ["full_attention"] * 126, "n_layer": 0})
    check_counts("x", {"num_labels": True, "depths": [3, 3, 27, 3], "hidden_size": 53_248})


def test_a_config_of_millions_of_layers_is_refused_at_once(tmp_path: Path) -> None:
    start = time.process_time()
    for load in (load_model, with_random_weights, load_with_weights):
        with pytest.raises(GammaError, match=r"99999999, more than .*categorize\(model\)"):
            load(config(tmp_path, num_hidden_layers=99_999_999))
    assert time.process_time() - start < 5


def test_modules_are_counted_while_a_model_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = config(tmp_path)
    assert isinstance(load_model(folder), nn.Module)
    monkeypatch.setattr(limits, "MOST_MODULES", 20)
    with pytest.raises(GammaError, match="asks for more than 20 modules"):
        load_model(folder)
    nn.Sequential(*[nn.ReLU() for _ in range(30)])  # what else is built is not counted


def test_models_of_other_threads_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_MODULES", 5)
    build = threading.Thread(target=lambda: nn.Sequential(*[nn.ReLU() for _ in range(30)]))
    with limited_modules("x"):
        build.start()
        build.join()


def test_random_weights_that_do_not_fit_in_memory_are_refused(tmp_path: Path) -> None:
    folder = config(tmp_path, vocab_size=10**12)
    assert isinstance(load_model(folder), nn.Module)  # a table needs no memory
    with pytest.raises(GammaError, match=r"random weights .* take [\d,.]+ GB, and [\d,.]+ GB of"):
        with_random_weights(folder)


def test_weights_of_more_layers_than_the_config_says_are_refused(tmp_path: Path) -> None:
    tiny_bert(3).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    for layers in (2, 0):
        changed = json.dumps(content | {"num_hidden_layers": layers})
        (tmp_path / "config.json").write_text(changed)
        with pytest.raises(GammaError, match=r"more layers .* no place for '\S*layer\.\d"):
            load_with_weights(str(tmp_path))
