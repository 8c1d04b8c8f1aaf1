"""What the tests of structures share: networks as functions, and gain tables in a short form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp import GainTable, categorize

D = 8

# The short form of a gain: category, kind, and the offset where it is not 0.
INNER, LAST = "branch_inner layer_norm", "branch_last layer_norm"
SHORTCUT, HEAD = "shortcut layer_norm", "head layer_norm"
QK, SCALE = "branch_inner qk_norm", "branch_last layer_scale"
INNER_RMS, LAST_RMS = "branch_inner rms_norm", "branch_last rms_norm"
SHORTCUT_RMS, HEAD_RMS = "shortcut rms_norm", "head rms_norm"


class Net(nn.Module):
    """A network given as a function of its own modules and parameters."""

    def __init__(self, forward: Callable[..., Any], **members: Any) -> None:
        super().__init__()
        for name, member in members.items():
            setattr(self, name, member)
        self.run = forward

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def linear(inputs: int = D, outputs: int = D) -> nn.Linear:
    return nn.Linear(inputs, outputs)


def norm(size: int = D) -> nn.LayerNorm:
    return nn.LayerNorm(size)


def mlp() -> nn.Module:
    return nn.Sequential(linear(), nn.GELU(), linear())


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.rand(shape) + 0.5)


def block(branch: Callable[[Any, Tensor], Tensor], **members: Any) -> Net:
    """One pre-norm block around ``branch``, whose parameters ``members`` are."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.head(m.last(x + m.out(branch(m, m.pre(x)))))

    return Net(
        forward, stem=linear(), pre=norm(), out=linear(), last=norm(), head=linear(), **members
    )


def roles(model: nn.Module, names: Iterable[str], inputs: Any = None) -> dict[str, str]:
    """The roles that the graph gives some parameters, by default on dense inputs."""
    table = categorize(model, signal() if inputs is None else inputs, method="graph")
    return {name: str(table.roles[name]) for name in names}


def signal(*shape: int) -> Tensor:
    return torch.randn(shape or (2, 5, D), generator=torch.Generator().manual_seed(0))


def short(table: GainTable) -> dict[str, str]:
    """The short form of every gain, by its name without ``.weight``."""
    return {
        gain.name.removesuffix(".weight"): f"{gain.category or 'unused'} {gain.kind}"
        + (f" +{gain.offset:g}" if gain.offset else "")
        for gain in table
    }


def placed(model: nn.Module, inputs: Any = None) -> dict[str, str]:
    """What the graph says of a model, by default on dense inputs of shape (2, 5, D)."""
    return short(categorize(model, signal() if inputs is None else inputs, method="graph"))


def placed_small(model_type: str, model: nn.Module) -> dict[str, str]:
    """What the graph says of a small model of transformers."""
    from gamma_nlp.check.sweep import small_inputs

    return placed(model, small_inputs.inputs(model_type, model))


def build(model_type: str, class_name: str, **fields: Any) -> nn.Module:
    """A small model of transformers, some fields of its config set to other values."""
    import transformers

    from gamma_nlp.check.sweep import small_models

    config = small_models.small_config(model_type, class_name)
    for name, value in fields.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    return getattr(transformers, class_name)(config).eval()


def spelled(model: nn.Module, rows: Mapping[str, str]) -> dict[str, str]:
    """Rows for every parameter of ``model`` that they match, ``*`` for one part of a name.

    The first pattern that matches decides. One that matches nothing is an error, so that no row
    stands for gains that are not there.
    """
    patterns = {re.compile(re.escape(k).replace(r"\*", "[^.]+")): v for k, v in rows.items()}
    found: dict[str, str] = {}
    used = set()
    for name, _ in model.named_parameters():
        name = name.removesuffix(".weight")
        for pattern, value in patterns.items():
            if pattern.fullmatch(name):
                found[name] = value
                used.add(pattern)
                break
    idle = [pattern.pattern for pattern in patterns if pattern not in used]
    assert not idle, f"these patterns match no parameter: {idle}"
    return found
