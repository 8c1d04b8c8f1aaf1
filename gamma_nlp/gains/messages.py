"""What to tell users of gains that the forward pass does not reach or does not use as gains."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from gamma_nlp.errors import listed
from gamma_nlp.graph.messages import detour


def unreached(names: Sequence[str]) -> str:
    """Warn that the forward pass never reads these gains."""
    what = "1 gain is" if len(names) == 1 else f"{len(names)} gains are"
    return (
        f"{what} never reached by the forward pass and will not decay: {listed(names, 3)}. If "
        "another input reaches more (an image, ids for a decoder), pass it: "
        "categorize(model, inputs={...})"
    )


def no_gains(names: Sequence[str], before: Collection[str]) -> str:
    """Warn that parameters that look like gains are none.

    Args:
        names: The parameters.
        before: Those among them that multiply the signal before a norm.
    """
    early = [name for name in names if name in before]
    other = [name for name in names if name not in before]
    parts = []
    if early:
        parts.append(
            f"{listed(early, 3)}: multiplies the signal before a norm, which divides its size out "
            "again, and so is no gain"
        )
    if other:
        parts.append(f"{listed(other, 3)}: belongs to a norm, but multiplies no normalised signal")
    return (
        f"{'; '.join(parts)}. Its role is 'other', which only presets such as all_params decay, "
        "which decay everything; to decay it, name it under patterns in a policy"
    )


def unplaced(model: nn.Module, name: str, row: str | None) -> str:
    """Say that a norm's weight is used, but not as a gain.

    Args:
        model: The model.
        name: The parameter.
        row: The start of the table row that would place it, if tables are read for this model.
    """
    path = name.rpartition(".")[0]
    owner = model.get_submodule(path)
    plain = "LayerNorm" if getattr(owner, "bias", None) is not None else "RMSNorm"
    way_out = detour(path, f"torch.nn.{plain}({model.get_parameter(name).numel()})")
    if type(owner).__module__.startswith("torch."):  # another module uses its weight
        way_out = detour(path.rpartition(".")[0])
    table = f", or add the row `{row} = CATEGORY` to its name table" if row else ""
    return (
        f"{name!r} belongs to a norm ({type(owner).__name__}), but neither source can place it: "
        "the forward pass multiplies no normalised signal by it. If a kernel fuses the norm with "
        f"what follows, switch that kernel off for the trace{table}{way_out}"
    )
