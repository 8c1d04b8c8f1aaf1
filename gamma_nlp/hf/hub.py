"""From what a user calls a model to a module without weights.

The gain table of a model needs its code and its config, never its weights: the module is built
on the meta device. A name is looked up in this order, and every stop is named when all fail: a
local folder or ``config.json``, the Hugging Face cache, the hub. The hub is asked **once**, under
a hard limit; its own client would retry for 23 s before it gave up.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gamma_nlp.errors import GammaError

if TYPE_CHECKING:
    from torch import nn

HUB_TIMEOUT = 5.0
"""Seconds the hub may take, name lookup included, before it counts as unreachable."""


def load_model(
    source: str | os.PathLike[str],
    *,
    trust_remote_code: bool = False,
    timeout: float = HUB_TIMEOUT,
) -> nn.Module:
    """Build the model that ``source`` names on the meta device, from its config alone.

    Args:
        source: A folder with a ``config.json``, a config file, or a name on the hub. A folder wins
            over a hub name that reads the same, as in transformers.
        trust_remote_code: Run the Python files that come with the model. Never by default.
        timeout: Seconds the hub may take; honoured even where name resolution hangs.

    Returns:
        The class that the config's ``architectures`` names (else ``AutoModel``'s), in the dtype
        that ``from_pretrained`` would load, with every parameter on the meta device.

    Raises:
        GammaError: if transformers is missing, the model is not found (with what was tried), or
            no model can be built from its config.
    """
    text = os.fspath(source)
    config = read_config(text, trust_remote_code=trust_remote_code, timeout=timeout)
    return build(config, text, trust_remote_code)


def read_config(name: str, *, trust_remote_code: bool, timeout: float = HUB_TIMEOUT) -> Any:
    """The config of a model, found as :func:`load_model` finds it.

    Raises:
        GammaError: As :func:`load_model`.
    """
    _require_transformers()
    return _read_config(find_config(name, timeout=timeout), name, trust_remote_code)


def find_config(source: str | os.PathLike[str], *, timeout: float = HUB_TIMEOUT) -> Path:
    """The config file of a model, on disk: a local one, the cached one, or fetched from the hub.

    Its folder holds all that the cache has of the model, so that a fully cached model loads from
    there without a network.

    Args:
        source: A folder with a ``config.json``, a config file, or a name on the hub.
        timeout: Seconds the hub may take; honoured even where name resolution hangs.

    Raises:
        GammaError: if there is none, with what was tried.
    """
    text = os.fspath(source)
    path = Path(text).expanduser()
    return _local_config(path) if path.exists() else Path(_hub_config(text, timeout))


def _require_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise GammaError(
            "loading a model by name needs transformers: pip install 'gamma_nlp[hf]'"
        ) from error


def _local_config(path: Path) -> Path:
    """The config file behind a path that exists."""
    if path.is_file():
        return path
    config = path / "config.json"
    if config.is_file():
        return config
    adapter = path / "adapter_config.json"
    if adapter.is_file():
        base = _read_json(adapter).get("base_model_name_or_path") or "its base model"
        raise GammaError(
            f"{path} holds an adapter and no config.json; the gains are those of the model it "
            f"was trained on: give {base} instead"
        )
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise GammaError(
        f"{path} has no config.json (it holds {inside}); give the folder that "
        "save_pretrained wrote, or the config file itself"
    )


def _hub_config(name: str, timeout: float) -> str:
    """The path of the hub model's ``config.json`` in the cache, fetched once if it is not there."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    tried = [f"the local path {name} (there is none)"]
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith(".json"):
        raise _not_found(name, tried, "check the path; a hub name looks like owner/model")
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        raise _not_found(name, tried, "no hub name can read like this: check it") from None
    if isinstance(cached, str):
        return cached
    tried.append(f"the Hugging Face cache {constants.HF_HUB_CACHE} (it is not in there)")
    if constants.HF_HUB_OFFLINE:
        tried.append("not the hub, because HF_HUB_OFFLINE is set")
        raise _not_found(name, tried, "unset HF_HUB_OFFLINE, or give a folder or a config.json")
    start = time.monotonic()
    found = _ask_hub(name, timeout)
    if isinstance(found, Path):
        return str(found)
    seconds = time.monotonic() - start
    tried.append(f"the hub at {constants.ENDPOINT} ({found}, after {seconds:.1f} s)")
    raise _not_found(
        name, tried, "check the name and the connection, or give a local folder or a config.json"
    )


def _ask_hub(name: str, timeout: float) -> Path | str:
    """Fetch the config in one attempt: its path, or the reason why there is none.

    In a thread of its own, since no timeout of an HTTP client covers a name lookup that hangs.
    """
    answer: list[Path | str] = []

    def ask() -> None:
        try:
            answer.append(_fetch_once(name, timeout))
        except Exception as error:  # whatever the HTTP client of the day raises
            answer.append(f"failed: {' '.join(str(error).split())[:200] or type(error).__name__}")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return answer[0] if answer else f"no answer within {timeout:g} s"


def _fetch_once(name: str, timeout: float) -> Path | str:
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session

    url = hf_hub_url(name, "config.json")
    reply = get_session().head(
        url, headers=build_hf_headers(), timeout=0.8 * timeout, follow_redirects=True
    )
    if reply.status_code in (401, 403, 404):
        return (
            f"it answered {reply.status_code}: no such public model, or none with a config.json; "
            "a private or gated one needs `hf auth login`"
        )
    if reply.status_code >= 400:
        return f"it answered {reply.status_code}"
    return Path(hf_hub_download(name, "config.json", etag_timeout=timeout))


def _not_found(name: str, tried: list[str], advice: str) -> GammaError:
    return GammaError(f"no model {name!r}. Tried: {'; '.join(tried)}. Next: {advice}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GammaError(f"{path} is no readable JSON file: {error}") from error
    if not isinstance(content, dict):
        raise GammaError(f"{path} holds a {type(content).__name__}, not a model config")
    return content


def _read_config(where: Path, name: str, trust_remote_code: bool) -> Any:
    import transformers

    content = _read_json(where)
    if "model_type" not in content:
        raise GammaError(
            f'{where} has no "model_type", so nothing says which model it configures; '
            "give a config.json that save_pretrained wrote"
        )
    kind, version = content["model_type"], transformers.__version__
    if kind not in transformers.CONFIG_MAPPING and "auto_map" not in content:
        raise GammaError(
            f"{name}: transformers {version} knows no model type {kind!r}; check the config, or "
            "take a newer transformers: pip install --upgrade transformers"
        )
    origin = str(where)
    if trust_remote_code and "auto_map" in content:
        module = str(content["auto_map"].get("AutoConfig", "")).partition(".")[0]
        beside = (where.parent / f"{module}.py").is_file()
        origin = str(where.parent) if beside else name
    try:
        return transformers.AutoConfig.from_pretrained(origin, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise GammaError(_cannot(name, "read the config of", error, content)) from error


def build(config: Any, name: str, trust_remote_code: bool, device: str = "meta") -> nn.Module:
    """The model of a config, of the class that its ``architectures`` name, with fresh weights.

    Raises:
        GammaError: No model can be built from the config.
    """
    cls = model_class(config)
    factory: Any = cls.from_config if hasattr(cls, "from_config") else cls._from_config
    custom = trust_remote_code and getattr(config, "auto_map", None)
    options = {"trust_remote_code": True} if custom else {}
    try:
        with torch.device(device):
            model: nn.Module = factory(config, **options)
    except Exception as error:
        raise GammaError(_cannot(name, "build", error, config.to_dict())) from error
    return model


def model_class(config: Any) -> Any:
    """The class that a config's ``architectures`` name, or the auto class that finds it."""
    import transformers

    wanted = (getattr(config, "architectures", None) or [None])[0]
    remote = getattr(config, "auto_map", None) or {}
    autos = [key for key, value in remote.items() if str(value).endswith(f".{wanted}")]
    if remote:
        return getattr(transformers, autos[0] if autos else "AutoModel")
    cls: Any = getattr(transformers, wanted, None) if wanted else None
    if cls is not None and issubclass(cls, transformers.PreTrainedModel):
        return cls
    return transformers.AutoModel


def _cannot(name: str, what: str, error: Exception, content: dict[str, Any]) -> str:
    """One line for whatever transformers raised, with the one remedy that is known to help."""
    import transformers

    version = transformers.__version__
    kind = content.get("model_type")
    text = f"cannot {what} {name!r} (model type {kind!r}) with transformers {version}"
    if content.get("auto_map"):
        return f"{text}: it comes with its own Python files; to run them, add --trust-remote-code"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{text}: {reason[:300]}"
