"""Build models of transformers by name: from a config alone on the meta device, or with weights.

A gain table needs a model's code and config, never its weights.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gamma_nlp.errors import GammaError, need, one_line
from gamma_nlp.hf.hub import HUB_TIMEOUT, find_config, read_json

if TYPE_CHECKING:
    from torch import nn


def load_model(
    source: str | os.PathLike[str],
    *,
    trust_remote_code: bool = False,
    timeout: float = HUB_TIMEOUT,
) -> nn.Module:
    """Build the model that ``source`` names on the meta device, from its config alone.

    Args:
        source: A folder with a ``config.json``, a config file, or a name on the hub. A folder wins
            over a hub name spelled the same, as in transformers.
        trust_remote_code: Run the Python files that come with the model. Never by default.
        timeout: Seconds for the hub to answer, even if the name lookup hangs.

    Returns:
        The class that the config's ``architectures`` names (else ``AutoModel``'s), in the dtype
        that ``from_pretrained`` would load, with every parameter on the meta device.

    Raises:
        GammaError: transformers is missing, the model is not found (says what was tried), or no
            model can be built from its config.
    """
    text = os.fspath(source)
    config = read_config(text, trust_remote_code=trust_remote_code, timeout=timeout)
    return build(config, text, trust_remote_code)


def read_config(name: str, *, trust_remote_code: bool, timeout: float = HUB_TIMEOUT) -> Any:
    """Return the config of a model, found as :func:`load_model` finds it.

    Raises:
        GammaError: As :func:`load_model`.
    """
    need("transformers", "hf", "loading a model by name needs")
    return _read_config(find_config(name, timeout=timeout), name, trust_remote_code)


def _read_config(where: Path, name: str, trust_remote_code: bool) -> Any:
    import transformers

    content = read_json(where)
    if "model_type" not in content:
        raise GammaError(
            f'{where} has no "model_type", so nothing says which model it configures; '
            "give a config.json that save_pretrained wrote"
        )
    kind, version = content["model_type"], transformers.__version__
    if kind not in transformers.CONFIG_MAPPING and "auto_map" not in content:
        raise GammaError(
            f"{name}: transformers {version} knows no model type {kind!r}; check the config, or "
            "use a newer transformers: pip install --upgrade transformers"
        )
    origin = str(where)
    if trust_remote_code and "auto_map" in content:
        module = str(content["auto_map"].get("AutoConfig", "")).partition(".")[0]
        own_code = (where.parent / f"{module}.py").is_file()
        origin = str(where.parent) if own_code else name
    try:
        return transformers.AutoConfig.from_pretrained(origin, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise GammaError(_cannot(name, "read the config of", error, content)) from error


def build(config: Any, name: str, trust_remote_code: bool, device: str = "meta") -> nn.Module:
    """Return a config's model, of the class that its ``architectures`` name, with fresh weights.

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
    """Return the class that a config's ``architectures`` name, or the auto class that finds it."""
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
    """Return one line for whatever transformers raised, with the one remedy that helps."""
    import transformers

    version = transformers.__version__
    kind = content.get("model_type")
    text = f"cannot {what} {name!r} (model type {kind!r}) with transformers {version}"
    if content.get("auto_map"):
        return f"{text}: it comes with its own Python files; to run them, add --trust-remote-code"
    return f"{text}: {one_line(error, file=True)}"


def keep_positions(model: Any) -> None:
    """Let ``save_pretrained`` write a position table that the architecture would not make.

    Marian's models leave their table out of the file and rebuild it on loading, which would
    silently replace a table from elsewhere, such as fairseq's. Call this before
    ``save_pretrained``, as the trainers and loading functions of this package do. A model whose
    table is its own, or is saved anyway, stays as it is.

    Tables are compared by their first two rows, which no two kinds of table share.

    Args:
        model: Any model; only those of transformers can be changed.
    """
    left_out = getattr(model, "_keys_to_ignore_on_save", None)
    if left_out:
        kept = {name for name in left_out if _is_foreign(model, name)}
        if kept:
            model._keys_to_ignore_on_save = set(left_out) - kept


def _is_foreign(model: Any, name: str) -> bool:
    try:
        table = model.get_submodule(name.rpartition(".")[0])
    except AttributeError:
        return False
    if not hasattr(table, "create_weight"):
        return False
    first = table.weight.detach()[:2].cpu()
    with torch.device("meta"):  # elsewhere its random start would change the run's next draws
        own = type(table)(*first.shape)
    return not torch.equal(first, own.create_weight().to(first.dtype))


def load_with_weights(name: str, *, trust_remote_code: bool = False) -> nn.Module:
    """Load the model that ``name`` (a folder or a name on the hub) stands for, in eval mode.

    Raises:
        GammaError: The model is not found, cannot be built, or has no weights there.
    """
    config = read_config(name, trust_remote_code=trust_remote_code)
    path = Path(name)
    try:
        model: nn.Module = model_class(config).from_pretrained(
            path.parent if path.is_file() else name, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        raise GammaError(
            f"the weights of {name!r} do not load ({type(error).__name__}: "
            f"{one_line(error, 200, file=True)}). Name a "
            "folder that save_pretrained wrote, or add --random-weights to check the architecture"
        ) from error
    return model.eval()


def with_random_weights(name: str, *, trust_remote_code: bool = False) -> nn.Module:
    """Build the model from its config alone, with random weights that are the same every time.

    Raises:
        GammaError: The model is not found or cannot be built.
    """
    config = read_config(name, trust_remote_code=trust_remote_code)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(config, name, trust_remote_code, device="cpu").eval()
