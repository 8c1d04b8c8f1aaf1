"""Build models of transformers by name: from a config alone on the meta device, or with weights.

A gain table needs a model's code and config, never its weights.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from gamma_nlp.errors import GammaError, listed, one_line
from gamma_nlp.files.manifest import is_sealed, lost, tells_of_model
from gamma_nlp.hf.config import cannot, model_class, read_config
from gamma_nlp.hf.hub import HUB_TIMEOUT, local_path, offline_variable
from gamma_nlp.hf.limits import check_memory, limited_modules
from gamma_nlp.wrappers import DTENSOR, ZERO_3, sharded

if TYPE_CHECKING:
    from torch import nn

_CHECKPOINT = re.compile(r"checkpoint-\d+")  # elsewhere a manifest.json may be anybody's
_WEIGHT_FILES = (".safetensors", ".bin", ".index.json")
_OR_RANDOM = (
    "give a folder that save_pretrained wrote, or add --random-weights to check the architecture"
)


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


def build(config: Any, name: str, trust_remote_code: bool, device: str = "meta") -> nn.Module:
    """Return a config's model, of the class that its ``architectures`` name, with fresh weights.

    Raises:
        GammaError: No model can be built from the config.
    """
    cls = model_class(config, name)
    auto = hasattr(cls, "from_config")
    factory: Any = cls.from_config if auto else cls._from_config
    brings_code = bool(getattr(config, "auto_map", None))
    # Said in either case: where nothing is said, transformers asks on standard input.
    options = {"trust_remote_code": brings_code and trust_remote_code} if auto else {}
    try:
        with limited_modules(name), torch.device(device):
            model: nn.Module = factory(config, **options)
    except GammaError:
        raise
    except Exception as error:
        raise cannot(
            "build", name, config.model_type, error, brings_code, trust_remote_code
        ) from error
    return model


def whole_model(model: nn.Module) -> nn.Module:
    """Return a model that was cut up while it was loaded anew, on the meta device; others as is.

    DeepSpeed ZeRO-3 and ``tp_plan`` do so. What the latter cut and no config makes, as with
    adapters, is returned as it is: a table by name may still fit it.

    Raises:
        GammaError: ZeRO-3 has cut it, and its class is not made from a config alone.
    """
    cut = {sharded(p) for p in model.parameters()}
    if not cut & {ZERO_3, DTENSOR}:
        return model
    kind, config = type(model), getattr(model, "config", None)
    why = "its class is not made from a config alone"
    if kind.__module__.startswith("transformers.") and config is not None:
        try:
            with torch.device("meta"):
                made: nn.Module = kind(config).to(getattr(model, "dtype", torch.float32))
        except Exception as error:
            why = one_line(error)
        else:
            own = {name for name, _ in model.named_parameters()}
            if own == {name for name, _ in made.named_parameters()}:
                return made
            why = "its parameters are not those of its config, as with adapters"
    if ZERO_3 not in cut:
        return model
    raise GammaError(
        f"DeepSpeed ZeRO-3 has cut the parameters of {kind.__name__} into parts, and its gain "
        f"table cannot be made without them: {why}; use stage 1 or 2, or FSDP2"
    )


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
        GammaError: The model is not found, cannot be built, or has no weights there, or not all
            of them, or some that are not finite or not those that its manifest tells of.
    """
    config = read_config(name, trust_remote_code=trust_remote_code)
    path = local_path(name)
    folder = path.parent if path.is_file() else path
    sealed = _CHECKPOINT.fullmatch(folder.name) and is_sealed(folder)
    if sealed and (why := lost(folder, thorough=True, among=tells_of_model)):
        raise GammaError(f"{folder}: {why}; give another checkpoint")
    try:
        model, found = model_class(config, name).from_pretrained(
            folder if path.exists() else name,
            config=config,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, where they are named
        )
    except GammaError:
        raise
    except Exception as error:
        raise GammaError(f"{_no_weights(name, path, error)}; {_OR_RANDOM}") from error
    if other := sorted(found["mismatched_keys"]):
        key, stored, wanted = other[0]
        raise GammaError(
            f"the weights of {name!r} are of other sizes than its config says: {key!r} is "
            f"{list(stored)} and should be {list(wanted)}; {_OR_RANDOM}"
        )
    if missing := sorted(found["missing_keys"]):
        raise GammaError(
            f"the weights of {name!r} lack {listed(missing)}, which would be random; {_OR_RANDOM}"
        )
    surplus = more_layers(model, found["unexpected_keys"])
    if surplus and not path.is_file():  # a config by itself may ask for the first layers
        raise GammaError(
            f"the weights of {name!r} are of a model with more layers than its config says: it "
            f"has no place for {listed(surplus)}; {_OR_RANDOM}"
        )
    broken = [
        key
        for key, value in model.named_parameters()
        if value.element_size() > 1 and not value.isfinite().all()
    ]
    if broken:
        raise GammaError(
            f"the weights of {name!r} are not finite (nan or inf) in {listed(broken)}, so nothing "
            f"can be measured; {_OR_RANDOM}"
        )
    return cast("nn.Module", model.eval())


def more_layers(model: nn.Module, unexpected: Iterable[str]) -> list[str]:
    """Return those names of weights left out that belong into one of the model's own lists."""
    from torch import nn

    lists = {
        f".{key}" for key, module in model.named_modules() if isinstance(module, nn.ModuleList)
    }

    def in_a_list(key: str) -> bool:
        found = re.finditer(r"\.\d+\.", key)  # the file may have a prefix that the model has not
        return any(f".{key[: at.start()]}".endswith(tuple(lists)) for at in found)

    return sorted(key for key in unexpected if in_a_list(key))


def _no_weights(name: str, path: Path, error: Exception) -> str:
    """Say why weights do not load, in fewer words than transformers."""
    from huggingface_hub import constants

    folder = path.parent if path.is_file() else path
    if folder.is_dir() and not any(list(folder.glob(f"*{end}")) for end in _WEIGHT_FILES):
        what = f"{path} is a config alone" if path.is_file() else f"{path} holds a config alone"
        return f"{what}: there are no weights beside it"
    if not path.exists() and constants.HF_HUB_OFFLINE and isinstance(error, OSError):
        variable = offline_variable()
        return (
            f"the weights of {name!r} are not in the cache, and offline mode is on ({variable} is "
            f"set): unset {variable}"
        )
    reason = one_line(error, 200, file=True)
    return f"the weights of {name!r} do not load ({type(error).__name__}: {reason})"


def with_random_weights(name: str, *, trust_remote_code: bool = False) -> nn.Module:
    """Build the model from its config alone, with random weights that are the same every time.

    Raises:
        GammaError: The model is not found or cannot be built.
    """
    config = read_config(name, trust_remote_code=trust_remote_code)
    with torch.random.fork_rng(devices=[]):
        check_memory(build(config, name, trust_remote_code), name)
        torch.manual_seed(0)
        return build(config, name, trust_remote_code, device="cpu").eval()
