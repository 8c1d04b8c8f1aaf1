"""The classes of a pretrained head in the order of the task's labels.

Checkpoints for the same task number its classes differently: MNLI's are entailment, neutral,
contradiction in GLUE and the reverse in many models. The names in the model's config tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.tasks import GlueTask

_SHORT = {
    "neg": "negative",
    "pos": "positive",
    "entail": "entailment",
    "contradict": "contradiction",
}
_NOT = re.compile(r"^(not|non|no|in|un)_?(?=\w)")


def class_order(names: Mapping[int, str], task: GlueTask, origin: str) -> list[int] | None:
    """Return which class of the model is each of the task's labels.

    Args:
        names: ``id2label`` of the model's config.
        task: The task.
        origin: What to call the model in an error.

    Returns:
        The model's classes in the task's order; ``None`` where the names say nothing, as
        ``LABEL_0`` does.

    Raises:
        GammaError: The names are of other classes than the task's.
    """
    own = [str(names[index]) for index in sorted(names)]
    if all(re.fullmatch(r"(?i)(label|class)?[ _-]?\d+", name) for name in own):
        return _by_number(own, task)
    plain, wanted = [_plain(name) for name in own], [_plain(label) for label in task.labels]
    if sorted(plain) == sorted(wanted):
        return [plain.index(label) for label in wanted]
    raise GammaError(
        f"{origin} is a classifier of {', '.join(own)}; {task.name} has {', '.join(task.labels)}. "
        "If they are the same classes, write the task's names into id2label and label2id of its "
        "config.json; else give a model without a classification head"
    )


def _by_number(own: Sequence[str], task: GlueTask) -> list[int] | None:
    """Names that are numbers say something where the task's files number its classes so."""
    numbers = [re.sub(r"\D", "", name) for name in own]
    order = [str(index) for index in range(len(own))]
    if numbers == order:
        return None
    wanted = list(task.spellings) or order
    return [numbers.index(one) for one in wanted] if sorted(numbers) == sorted(wanted) else None


def _plain(name: str) -> str:
    """Return a label's name without case, punctuation and short forms."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.strip()).lower()
    word = re.sub(r"[\W_]+", "_", words).strip("_")
    stem = _NOT.sub("", word)
    if stem != word and _SHORT.get(stem, stem) in _STEMS:
        return f"not_{_SHORT.get(stem, stem)}"
    return _SHORT.get(word, word)


_STEMS = {"entailment", "equivalent", "duplicate", "acceptable"}
"""Classes whose opposite is spelled with a ``not`` or the like."""


def reorder_classes(model: Any, order: Sequence[int], origin: str) -> None:
    """Put the rows of a model's head into another order.

    Args:
        model: A sequence classifier.
        order: From :func:`class_order`.
        origin: What to call the model in an error.

    Raises:
        GammaError: The model's last linear layer is not to be found.
    """
    if list(order) == list(range(len(order))):
        return
    head = last_linear(model, len(order))
    if head is None:
        raise GammaError(
            f"the classes of {origin} stand in another order than the task's, and its head is no "
            "linear layer that could be put in order; give a model without a classification head"
        )
    rows = torch.tensor(list(order))
    with torch.no_grad():
        head.weight.copy_(head.weight[rows].clone())
        if head.bias is not None:
            head.bias.copy_(head.bias[rows].clone())


def last_linear(model: Any, classes: int) -> nn.Linear | None:
    """Return the layer that makes a classifier's scores, outside its encoder."""
    inside = set()
    if model.base_model is not model:
        inside = {id(module) for module in model.base_model.modules()}
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear)
        and module.out_features == classes
        and id(module) not in inside
    ]
    return found[-1] if found else None
