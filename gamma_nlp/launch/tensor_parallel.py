"""Along which dimension tensor parallel cuts each parameter, by the plan of a transformers model.

Read for this: transformers 5.23, ``distributed/tensor_parallel.py``. ``colwise`` cuts the outputs
of a matrix and its bias, ``rowwise`` its inputs; other styles leave the parameter whole.
"""

from __future__ import annotations

import re

from torch import nn

_NUMBER = re.compile(r"\.\d+(?=\.|$)")


def cut_dimensions(model: nn.Module) -> dict[str, int]:
    """Return the dimension by parameter name; empty for a model without a ``tp_plan``."""
    plan = getattr(model, "tp_plan", None) or {}
    found = {}
    for name, parameter in model.named_parameters():
        style = _style(plan, name)
        dims = parameter.dim()
        if "colwise" in style and dims:
            found[name] = dims - 1 if style.startswith("embedding") else max(dims - 2, 0)
        elif "rowwise" in style and dims > 1:
            found[name] = 0 if style.startswith("embedding") else dims - 1
    return found


def _style(plan: dict[str, str], name: str) -> str:
    """Return the style of a parameter: its own, or that of its module."""
    generic = _NUMBER.sub(".*", name)
    return plan.get(generic) or plan.get(generic.rpartition(".")[0], "")
