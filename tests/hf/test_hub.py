"""Where a config is looked for, and what the error says when there is none."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.hf import hub
from gamma_nlp.hf.models import load_model
from tests.support.tiny_models import config_folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose cache is empty and where nothing forbids the hub."""
    import huggingface_hub

    cache = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return cache


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


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.usefixtures("empty_cache")
def test_offline_mode_is_named_by_its_variable(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(GammaError, match=f"unset {variable}, or give a folder"):
        load_model("owner/model")
    with pytest.raises(GammaError, match=rf"offline mode is on \({variable} is set\)") as error:
        hub.load_hub_dataset("owner/data", otherwise="give a folder")
    assert "does not answer" not in str(error.value)


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
    path = config_folder(tmp_path / "m") / "config.json"
    monkeypatch.setattr(hub, "_fetch_once", lambda *_: path)
    assert type(load_model("owner/model")).__name__ == "BertForMaskedLM"


def test_cached_config_is_used_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    path = config_folder(tmp_path / "m") / "config.json"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    monkeypatch.setattr(hub, "_fetch_once", lambda *_: pytest.fail("asked the hub"))
    assert type(load_model("owner/model")).__name__ == "BertForMaskedLM"


@pytest.mark.usefixtures("empty_cache")
def test_name_that_cannot_be_a_hub_name_is_refused() -> None:
    with pytest.raises(GammaError, match="a hub name looks like owner/model"):
        load_model("we ird")
