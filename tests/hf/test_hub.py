from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.hf import hub
from gamma_nlp.hf.models import load_model

BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 16,
}

CUSTOM = """
import torch
from transformers import PretrainedConfig, PreTrainedModel

class TinyConfig(PretrainedConfig):
    model_type = "tiny-custom"

class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.norm = torch.nn.LayerNorm(4)
        self.post_init()
"""


def folder(path: Path, **changes: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({**BERT, **changes}), encoding="utf-8")
    return path


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose cache is empty and where nothing forbids the hub."""
    import huggingface_hub

    cache = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return cache


def test_folder_gives_the_class_its_config_names_on_meta(tmp_path: Path) -> None:
    model = load_model(folder(tmp_path / "m"))
    assert type(model).__name__ == "BertForMaskedLM"
    assert all(p.is_meta for p in model.parameters())


def test_config_file_alone_is_enough(tmp_path: Path) -> None:
    path = folder(tmp_path / "m") / "config.json"
    renamed = path.rename(tmp_path / "my-config.json")
    assert type(load_model(str(renamed))).__name__ == "BertForMaskedLM"


@pytest.mark.parametrize("architectures", [None, ["BertForSomethingOfThePast"]])
def test_unknown_class_falls_back_to_the_base_model(tmp_path: Path, architectures: Any) -> None:
    model = load_model(folder(tmp_path / "m", architectures=architectures))
    assert type(model).__name__ == "BertModel"


def test_parameters_have_the_dtype_of_the_checkpoint(tmp_path: Path) -> None:
    model = load_model(folder(tmp_path / "m", dtype="bfloat16"))
    assert {str(p.dtype) for p in model.parameters()} == {"torch.bfloat16"}


def test_missing_path_is_not_sought_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_fetch_once", lambda *_: pytest.fail("asked the hub"))
    for name in ("./nope", "/nope/at/all", "a/b/c", "nope.json"):
        with pytest.raises(GammaError, match="check the path"):
            load_model(name)


def test_folder_without_config_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").touch()
    with pytest.raises(GammaError, match=r"no config\.json \(it holds vocab\.txt\)"):
        load_model(tmp_path)


def test_adapter_folder_names_its_base_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    with pytest.raises(GammaError, match="give owner/base"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a readable JSON"),
        ("[]", "holds a list"),
        ("{}", 'no "model_type"'),
        ('{"model_type": "no-such-type"}', "knows no model type 'no-such-type'"),
    ],
)
def test_bad_config_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(GammaError, match=message):
        load_model(path)


def test_config_that_no_model_fits_is_an_error(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", hidden_size=9)
    with pytest.raises(GammaError, match=r"cannot (build|read the config of) .*bert"):
        load_model(path)


def test_custom_code_runs_only_when_trusted(tmp_path: Path, monkeypatch: Any) -> None:
    import transformers

    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "x"))
    path = folder(
        tmp_path / "tiny",
        model_type="tiny-custom",
        architectures=["TinyModel"],
        auto_map={"AutoConfig": "code.TinyConfig", "AutoModel": "code.TinyModel"},
    )
    (path / "code.py").write_text(CUSTOM, encoding="utf-8")
    with pytest.raises(GammaError, match="--trust-remote-code"):
        load_model(path)
    assert type(load_model(path, trust_remote_code=True)).__name__ == "TinyModel"


def test_offline_error_says_what_was_tried(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_fetch_once", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(GammaError) as error:
        load_model("owner/model")
    for word in ("local path owner/model", str(empty_cache), "HF_HUB_OFFLINE"):
        assert word in str(error.value)


@pytest.mark.usefixtures("empty_cache")
def test_unreachable_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail(name: str, timeout: float) -> str:
        calls.append(name)
        raise OSError("Name or service not known")

    monkeypatch.setattr(hub, "_fetch_once", fail)
    with pytest.raises(GammaError, match="Name or service not known"):
        load_model("owner/model")
    assert calls == ["owner/model"]


@pytest.mark.usefixtures("empty_cache")
def test_hub_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(hub, "_fetch_once", lambda *_: release.wait(30))
    with pytest.raises(GammaError, match=r"no answer within 0\.05 s"):
        load_model("owner/model", timeout=0.05)
    release.set()


@pytest.mark.usefixtures("empty_cache")
def test_config_from_the_hub_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "m") / "config.json"
    monkeypatch.setattr(hub, "_fetch_once", lambda *_: path)
    assert type(load_model("owner/model")).__name__ == "BertForMaskedLM"


def test_cached_config_is_used_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    path = folder(tmp_path / "m") / "config.json"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    monkeypatch.setattr(hub, "_fetch_once", lambda *_: pytest.fail("asked the hub"))
    assert type(load_model("owner/model")).__name__ == "BertForMaskedLM"


@pytest.mark.usefixtures("empty_cache")
def test_name_that_cannot_be_a_hub_name_is_refused() -> None:
    with pytest.raises(GammaError, match="this cannot be a name on the hub"):
        load_model("we ird")


def test_missing_transformers_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(GammaError, match=r"gamma_nlp\[hf\]"):
        load_model("bert-base-uncased")
