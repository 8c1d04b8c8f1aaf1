"""What to tell users of what the trace cannot follow: the module, and a way around it."""

from __future__ import annotations

from collections.abc import Sequence

from gamma_nlp.errors import listed


def hidden_kernel(place: str, shape: Sequence[int], reader: str) -> str:
    """Say that memory was allocated empty and read full, with no operation in between."""
    return (
        f"{_module(place)} fills a tensor of shape {tuple(shape)} with a kernel that the trace "
        f"cannot see into ({reader} reads it). Switch that kernel off for the trace{detour(place)}"
    )


def fused_kernel(place: str, kernel: str, other: str) -> str:
    """Say that one operation does the work of a norm and of a weight or an addition."""
    return (
        f"{_module(place)} calls a kernel ({kernel}) that fuses a norm with {other}, so the trace "
        f"cannot tell where its gain sits. Switch the fused kernel off for the trace{detour(place)}"
    )


def higher_order(place: str, name: str) -> str:
    """Say that an operator runs functions where no operation is seen."""
    return (
        f"{_module(place)} calls {name}, and the trace cannot see into the functions that it runs. "
        f"Write that step in plain Python for the trace{detour(place)}"
    )


def forward_mode(place: str) -> str:
    """Say that a pass takes derivatives in forward mode."""
    return (
        f"{_module(place)} takes derivatives in forward mode (torch.func.jvp), whose operations "
        "cannot be told from the model's own; take them with torch.autograd.grad, or leave them "
        f"out for the trace{detour(place)}"
    )


def left_torch(place: str, method: str) -> str:
    """Say that the signal left PyTorch, and that something which may hold it came back."""
    return (
        f"the signal leaves PyTorch in {_module(place)} (Tensor.{method}) and comes back, and the "
        f"trace cannot follow it outside. Write that step with PyTorch's operations{detour(place)}"
    )


def scripted(place: str, function: str = "categorize") -> str:
    """Say that a module is TorchScript, which runs where no operation is seen."""
    return (
        f"{_module(place)} is TorchScript, and the trace cannot see into it; {function} the Python "
        "model that it was made from"
    )


def sharded(name: str, how: str, function: str = "categorize") -> str:
    """Say that a parameter was cut into shards before its table was made."""
    return (
        f"{name!r} is sharded ({how}), and the forward pass of a shard shows no gain's place; make "
        "the table first, then shard: table = categorize(model, inputs); shard the model (tp_plan: "
        "load it twice, first without); make_optimizer(OPTIMIZER, model, table=table)"
        + ("" if function == "categorize" else f". Call {function} before sharding too")
    )


def uninitialised(name: str, function: str = "categorize") -> str:
    """Say that a lazy module has no parameters yet."""
    return (
        f"{name!r} has no shape yet: its lazy module makes it in the first forward pass. Run the "
        f"model once, model(x), and then {function}(model, inputs)"
    )


def grows(names: Sequence[str], function: str = "categorize") -> str:
    """Say that a model makes parameters in its forward pass, which no optimizer has yet."""
    return (
        f"the forward pass makes parameters that the model did not have: {listed(names, 3)}. "
        f"Run the model once, model(x), so that they are there, and then {function}(model, inputs)"
    )


def other_thread(place: str) -> str:
    """Say that a module runs in a thread in which no operation is seen."""
    return (
        f"{_module(place)} runs in a thread of its own, and the trace sees only the thread that "
        "called it; run the whole forward pass in one thread"
    )


def detour(place: str, plain: str = "PLAIN") -> str:
    """Return the way out that always works: trace a copy, and use its table for the model."""
    if not place:
        return ""
    what = " (PLAIN: a module with the same parameters, in plain PyTorch)"
    return (
        ". Or place the gains of a copy without it: traceable = copy.deepcopy(model); "
        f"traceable.set_submodule({place!r}, {plain}){what if plain == 'PLAIN' else ''}; "
        "table = categorize(traceable, ...); param_groups(model, table=table, ...)"
    )


def _module(place: str) -> str:
    return f"module {place!r}" if place else "this model"
