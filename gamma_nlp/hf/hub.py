"""Find what a name stands for on disk, in Hugging Face's cache or on its hub.

A model is looked for in this order: a local folder or ``config.json``, the cache, the hub. If all
fail, the error says what was tried. The hub is asked **once**, under a hard time limit; its own
client would retry for 23 s before it gave up.
"""

from __future__ import annotations

import os
import time
import urllib.request
import warnings
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, need, one_line
from gamma_nlp.files.read import read_json
from gamma_nlp.workers import NoAnswer, within

HUB_TIMEOUT = 5.0
"""Seconds for the hub to answer, name lookup included, before it counts as unreachable."""

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Variables of the environment that keep the hub's client from the network."""

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")


def find_config(source: str | os.PathLike[str], *, timeout: float = HUB_TIMEOUT) -> Path:
    """Return the path of a model's config file: a local one, the cached one, or one just fetched.

    Its folder holds all that the cache has of the model, so a fully cached model loads from there
    without a network.

    Args:
        source: A folder with a ``config.json``, a config file, or a name on the hub.
        timeout: Seconds for the hub to answer, even if the name lookup hangs.

    Raises:
        GammaError: There is none; says what was tried.
    """
    text = os.fspath(source)
    if not text.strip():
        raise GammaError("MODEL is empty; give a hub name, a folder or a config.json")
    path = local_path(text)
    return _local_config(path) if path.exists() else Path(_hub_config(text, timeout))


def local_path(text: str) -> Path:
    """Return a path with its ``~`` resolved, or as it is where there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _local_config(path: Path) -> Path:
    if path.suffix.lower() in _WEIGHTS and path.is_file():
        raise GammaError(
            f"{path} holds weights and not what they mean; give its folder, or its config.json"
        )
    if not path.is_dir():
        return path
    config = path / "config.json"
    if config.is_file():
        return config
    adapter = path / "adapter_config.json"
    if adapter.is_file():
        base = read_settings(adapter).get("base_model_name_or_path") or "its base model"
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
    """Return where the cache has the model's ``config.json``; fetch it once if it is not there."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    tried = [f"the local path {name} (there is none)"]
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith(".json"):
        raise _not_found(name, tried, "check the path; a hub name looks like owner/model")
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        raise _not_found(name, tried, "check the path; a hub name looks like owner/model") from None
    if isinstance(cached, str):
        return cached
    tried.append(f"the Hugging Face cache {constants.HF_HUB_CACHE} (not in it)")
    if constants.HF_HUB_OFFLINE:
        tried.append(f"not the hub, because offline mode is on ({offline_variable()} is set)")
        advice = f"unset {offline_variable()}, or give a folder or a config.json"
        raise _not_found(name, tried, advice)
    start = time.monotonic()
    found = _ask_hub(name, timeout)
    if isinstance(found, Path):
        return str(found)
    seconds = time.monotonic() - start
    tried.append(f"the hub at {constants.ENDPOINT} ({found}, after {seconds:.1f} s)")
    raise _not_found(
        name, tried, "check the name and the connection, or give a local folder or a config.json"
    )


def offline_variable() -> str:
    """Return the variable of the environment that has put the hub's client in offline mode."""
    return next((name for name in _OFFLINE if os.environ.get(name)), _OFFLINE[0])


def _ask_hub(name: str, timeout: float) -> Path | str:
    """Fetch the config in one attempt, and return its path or the reason why there is none."""
    try:
        return within(timeout, lambda: _fetch_once(name, timeout))
    except NoAnswer as error:
        return str(error)
    except Exception as error:  # each HTTP client raises its own kinds
        return f"failed: {one_line(error, 200)}"


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


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a JSON file of settings holds.

    Raises:
        GammaError: It cannot be read, or holds no JSON object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise GammaError(f"{path} holds a {type(content).__name__}, not the settings of a model")
    return content


def load_hub_dataset(name: str, config: str | None = None, *, otherwise: str) -> Any:
    """Return a ``DatasetDict`` from the cache, the hub, or a local folder that datasets can read.

    Args:
        name: ``OWNER/NAME``, or a folder.
        config: Which of the dataset's configurations.
        otherwise: What the user can do instead; ends the message of an error.

    Raises:
        GammaError: It cannot be loaded; says why.
    """
    datasets = need("datasets", "hf", "data by name needs")
    constants = need("huggingface_hub.constants", "hf", "data by name needs")
    before = (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)
    local, wanted = local_path(name).is_dir(), any(before)
    # Without a network the client tries for 20 s; set to offline, it reads its cache at once.
    offline = wanted or (not local and not _reachable(constants.ENDPOINT))
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = offline
    what = name if config is None else f"{name} ({config})"
    try:
        return datasets.load_dataset(name, config)
    except Exception as error:  # the hub's client raises many kinds
        reason = one_line(error, file=True)
        if offline and not local:
            variable = offline_variable() if before[1] else "HF_DATASETS_OFFLINE"
            why = f"offline mode is on ({variable} is set)"
            why = why if wanted else f"{constants.ENDPOINT} does not answer"
            reason = f"{why}, and the cache does not hold it"
        raise GammaError(f"cannot load {what} from the hub: {reason}; {otherwise}") from error
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def hush() -> None:
    """Silence other libraries' notices: they are about runs, and no run starts here."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.simplefilter("ignore")
    try:
        from huggingface_hub.utils import logging as hub_logging
        from transformers.utils import logging
    except ImportError:
        return  # load_model names the extra
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()


def _reachable(url: str, timeout: float = 4.0) -> bool:
    try:
        within(timeout + 1.0, lambda: urllib.request.urlopen(url, timeout=timeout).close())
    except Exception:  # of the name lookup, of HTTP, or NoAnswer
        return False
    return True
