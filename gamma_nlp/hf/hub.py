"""From what a user calls a model to a module without weights.

The gain table of a model needs its code and its config, never its weights: the module is built
on the meta device. A name is looked up in this order, and every stop is named when all fail: a
local folder or ``config.json``, the Hugging Face cache, the hub. The hub is asked **once**, under
a hard limit; its own client would retry for 23 s before it gave up.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma_nlp.errors import GammaError

if TYPE_CHECKING:
    pass

HUB_TIMEOUT = 5.0
"""Seconds the hub may take, name lookup included, before it counts as unreachable."""


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


def _local_config(path: Path) -> Path:
    """The config file behind a path that exists."""
    if path.is_file():
        return path
    config = path / "config.json"
    if config.is_file():
        return config
    adapter = path / "adapter_config.json"
    if adapter.is_file():
        base = read_json(adapter).get("base_model_name_or_path") or "its base model"
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


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GammaError(f"{path} is no readable JSON file: {error}") from error
    if not isinstance(content, dict):
        raise GammaError(f"{path} holds a {type(content).__name__}, not a model config")
    return content


def load_hub_dataset(name: str, config: str | None = None, *, otherwise: str) -> Any:
    """A ``DatasetDict`` from the cache, the hub, or a local folder that datasets can read.

    Args:
        name: ``OWNER/NAME``, or a folder.
        config: Which of the data set's configurations.
        otherwise: What to do instead; ends the message of an error.

    Raises:
        GammaError: It cannot be loaded; says why.
    """
    try:
        import datasets
        from huggingface_hub import constants
    except ImportError as error:
        raise GammaError("data by name needs datasets: pip install 'gamma_nlp[hf]'") from error
    # Without a network the client tries for 20 s; told so, it looks into its cache at once.
    before = (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)
    local = Path(name).expanduser().is_dir()
    offline = before[1] or (not local and not _reachable(constants.ENDPOINT))
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = offline
    what = name if config is None else f"{name} ({config})"
    try:
        return datasets.load_dataset(name, config)
    except Exception as error:  # the hub's client raises many kinds
        reason = f"{constants.ENDPOINT} does not answer, and the cache does not hold it"
        said = " ".join(str(error).split())
        raise GammaError(
            f"cannot load {what} from the hub: {reason if offline and not local else said}; "
            f"{otherwise}"
        ) from error
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def hush() -> None:
    """Keep other libraries' notices off the screen: they are about runs, and no run starts here."""
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
    answers: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=timeout).close()
            answers.append(True)

    # In a thread, since no timeout covers a name lookup that hangs.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout + 1.0)
    return bool(answers)
