"""Where a pretrained model is, and whether its files are what its config says and fit the task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to
from gamma_nlp.hf import hub
from gamma_nlp.hf.models import more_layers
from gamma_nlp.tasks.glue.labels import last_linear
from gamma_nlp.tasks.glue.tasks import GlueTask


def locate(source: str) -> str:
    """Return where to load a model from, within seconds; the hub's client alone can take minutes.

    That is the folder itself, or the cached copy of a model on the hub, which needs no network.

    Raises:
        GammaError: There is no such model; the message says what was tried.
    """
    path = Path(source).expanduser()
    if not source.strip():
        raise GammaError("model is empty; give a hub name or a folder")
    if path.is_file():
        raise GammaError(f"model {source!r} is a file; give the folder that save_pretrained wrote")
    folder = hub.find_config(source).parent
    weights = any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
    return str(folder) if path.exists() or weights else source


def check_architecture(config: Any, name: str) -> None:
    """Refuse a config whose ``architectures`` name a class that transformers does not have."""
    import transformers

    for wanted in getattr(config, "architectures", None) or ():
        if not hasattr(transformers, str(wanted)) and not getattr(config, "auto_map", None):
            known = [key for key in dir(transformers) if key.startswith(str(wanted)[:3])]
            raise GammaError(
                f"the config of {name} names the architecture {wanted!r}, which transformers "
                f"{transformers.__version__} does not have{close_to(str(wanted), known)}"
            )


def check_weights(model: Any, found: Any, config: Any, name: str, task: GlueTask) -> None:
    """Refuse weights that do not fit: transformers would start such a layer anew."""
    wrong = [str(key[0] if isinstance(key, tuple) else key) for key in found["mismatched_keys"]]
    if wrong and config.num_labels != task.num_labels:
        classes = f"{config.num_labels} classes ({', '.join(map(str, config.id2label.values()))})"
        raise GammaError(
            f"{name} has a head of {classes}, {task.name} needs {task.num_labels}; give a model "
            "without a classification head, such as the encoder that it was made from"
        )
    if wrong:
        raise GammaError(f"{name}: the file's {wrong[0]!r} has another shape than its config says")
    missing, weights = set(found["missing_keys"]), list(model.state_dict())
    loaded = {_of_any_layer(key) for key in weights if key not in missing}
    lost = [key for key in weights if key in missing and _of_any_layer(key) in loaded]
    if lost or len(missing) > len(weights) / 2:
        raise GammaError(
            f"{name}: {len(missing)} of {len(weights)} weights are not in its file "
            f"({(lost or sorted(missing))[0]} first), so it is of another size or architecture "
            "than its config; give a folder that save_pretrained wrote"
        )
    if surplus := more_layers(model, found["unexpected_keys"]):
        raise GammaError(
            f"{name}: its file has more layers than its config says ({surplus[0]} first); give a "
            "folder that save_pretrained wrote"
        )


def _of_any_layer(key: str) -> str:
    return re.sub(r"\.\d+\.", ".N.", key)


def has_new_head(model: Any, found: Any, task: GlueTask) -> bool:
    """Return whether the head was not in the file, and starts at random."""
    head = last_linear(model, task.num_labels)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return head is not None and names.get(id(head.weight)) in found["missing_keys"]
