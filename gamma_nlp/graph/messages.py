"""What to tell users whose model cannot be traced: where it broke, and what to type next."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import listed, one_line

EXAMPLES = {
    "input_ids": "torch.randint(1, 100, (1, 8))",
    "decoder_input_ids": "torch.randint(1, 100, (1, 8))",
    "attention_mask": "torch.ones(1, 8)",
    "frame_idx": "0",
}
TAKES = 8  # how many optional arguments of a forward pass are listed


def unknown_inputs(model: nn.Module, function: str = "categorize") -> str:
    """Say that a model needs inputs from the user."""
    return (
        f"{type(model).__name__} has no name table, and its inputs are not known; pass some, so "
        f"that its graph can be traced: {smallest_call(model, function)}, where {_run(model)} runs "
        "(make_optimizer, param_groups and the trainers take inputs= too)"
    )


def unguessed(model: nn.Module, error: Exception, function: str = "categorize") -> str:
    """Say that no inputs could be made after a model's config."""
    _, required = _arguments(model)
    session = next((name for name in required if name.endswith("session")), None)
    how = (
        f". Make it by {session} = processor.init_video_session(video=frames), and give it a "
        "point, a box or a text to follow"
        if session
        else ""
    )
    parts = _parts(model)
    way_out = f". Or place the gains of its parts: {_calls(parts, function)}" if parts else ""
    return (
        f"the config of {type(model).__name__} does not say what its inputs look like "
        f"({type(error).__name__}: {one_line(error, most=160).rstrip('.!')}); pass some that its "
        f"processor makes: {smallest_call(model, function)}{how}{way_out}"
    )


def forward_failed(
    model: nn.Module,
    place: str,
    error: Exception,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    function: str = "categorize",
) -> str:
    """Say that the forward pass raised an error of its own.

    Args:
        model: The model.
        place: The module that was running, ``""`` for the model itself.
        error: What it raised.
        args: The positional arguments of the pass.
        kwargs: Its keyword arguments.
        function: What the user called and will call again.
    """
    inputs = [*args, *(kwargs or {}).values()]
    given = [_describe(value) for value in args]
    given += [f"{name} {_describe(value)}" for name, value in (kwargs or {}).items()]
    what = one_line(error, most=200).rstrip(".!")
    return (
        f"the forward pass of {type(model).__name__} failed"
        f"{f' in module {place!r}' if place else ''}: {type(error).__name__}: {what}. "
        f"It was given {', '.join(given) or 'nothing'}. {_remedy(model, inputs, error, function)}"
    )


def _remedy(model: nn.Module, inputs: Sequence[Any], error: Exception, function: str) -> str:
    homes = {p.device.type for p in model.parameters()}
    elsewhere = {t.device.type for t in _tensors(inputs)} - homes
    if elsewhere and len(homes) == 1:
        (home,) = homes
        return f"The model is on {home}; pass inputs that are there too: x.to({home!r})"
    if "meta" in homes and "meta" in str(error):
        return (
            "Nothing can depend on values on the meta device; build the model on the CPU, with "
            f"fewer layers if it is large: {_on_cpu(model, function)}"
        )
    return f"Pass inputs that it accepts: {smallest_call(model, function)}"


def _on_cpu(model: nn.Module, function: str) -> str:
    name = type(model).__name__
    if not hasattr(model, "config"):
        return f"model = {name}(...); {smallest_call(model, function)}"
    own = type(model).__module__.startswith("transformers.")
    build = f"{name}(config)" if own else "AutoModel.from_config(config, trust_remote_code=True)"
    source = repr(getattr(model.config, "_name_or_path", "") or "...")
    trust = "" if own else ", trust_remote_code=True"
    return (
        f"config = AutoConfig.from_pretrained({source}{trust}); config.num_hidden_layers = 2; "
        f"{function}({build})"
    )


def smallest_call(model: nn.Module, function: str = "categorize") -> str:
    """Return the shortest call that gives a model what its forward pass asks for."""
    names, required = _arguments(model)
    main: Any = getattr(model, "main_input_name", None) or ()
    mains = [main] if isinstance(main, str) else list(main)
    if required and not mains and not any(name in EXAMPLES for name in required):
        return f"{function}(model, inputs={_tuple(required)})"
    wanted = [name for name in names if name in required or name in mains]
    wanted = wanted or [name for name in names if name in ("input_ids", "pixel_values")][:1]
    if any(name.endswith("session") for name in wanted):
        wanted += [name for name in names if name == "frame_idx" and name not in wanted]
    if not wanted:
        return f"{function}(model, inputs=(x,))"
    pairs = ", ".join(f"{name!r}: {EXAMPLES.get(name, name)}" for name in wanted)
    call = f"{function}(model, inputs={{{pairs}}})"
    known = [f"{name} {_shape(model, name)}" for name in wanted if name not in EXAMPLES]
    shapes = ", ".join(text for text in known if text.endswith(")"))
    call += f" with {shapes}" if shapes else ""
    others = [name for name in names if name not in wanted]
    return f"{call}; its forward also takes {listed(others, TAKES)}" if others else call


def _shape(model: nn.Module, name: str) -> str:
    """Return the shape that the documentation of a forward pass gives an argument, if it does."""
    documented = inspect.getdoc(model.forward) or ""
    found = re.search(rf"^ *{name} \(.*of shape `?(\([^`()]+\))", documented, re.MULTILINE)
    return found[1] if found and "{" not in found[1] else ""


def _run(model: nn.Module) -> str:
    _, required = _arguments(model)
    return f"model({', '.join(required) or 'x'})"


def _arguments(model: nn.Module) -> tuple[list[str], list[str]]:
    """Return all arguments of a forward pass, and those without a default."""
    named = [
        parameter
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return [p.name for p in named], [p.name for p in named if p.default is p.empty]


def _tuple(names: Sequence[str]) -> str:
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return repr(value) if value is None or isinstance(value, (bool, int)) else type(value).__name__


def _tensors(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    for leaf in torch.utils._pytree.tree_leaves(list(values)):
        if isinstance(leaf, torch.Tensor):
            yield leaf


# What the trace cannot follow: the module, and a way around it ------------------------------------


def hidden_kernel(place: str, shape: Sequence[int], reader: str) -> str:
    """Say that memory was allocated empty and read full, with no operation in between."""
    return (
        f"{_module(place)} fills a tensor of shape {tuple(shape)} with a kernel that the trace "
        f"cannot see into ({reader} reads it). Switch that kernel off for the trace{_copy(place)}"
    )


def fused_kernel(place: str, kernel: str, other: str) -> str:
    """Say that one operation does the work of a norm and of a weight or an addition."""
    return (
        f"{_module(place)} calls a kernel ({kernel}) that fuses a norm with {other}, so the trace "
        f"cannot tell where its gain sits. Switch the fused kernel off for the trace{_copy(place)}"
    )


def higher_order(place: str, name: str) -> str:
    """Say that an operator runs functions where no operation is seen."""
    return (
        f"{_module(place)} calls {name}, and the trace cannot see into the functions that it runs. "
        f"Write that step in plain Python for the trace{_copy(place)}"
    )


def forward_mode(place: str) -> str:
    """Say that a pass takes derivatives in forward mode."""
    return (
        f"{_module(place)} takes derivatives in forward mode (torch.func.jvp), whose operations "
        "cannot be told from the model's own; take them with torch.autograd.grad, or leave them "
        f"out for the trace{_copy(place)}"
    )


def left_torch(place: str, method: str) -> str:
    """Say that the signal left PyTorch, and that something which may hold it came back."""
    return (
        f"the signal leaves PyTorch in {_module(place)} (Tensor.{method}) and comes back, and the "
        f"trace cannot follow it outside. Write that step with PyTorch's operations{_copy(place)}"
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
        "the table first, then shard: table = categorize(model, inputs); shard the model; "
        "make_optimizer(OPTIMIZER, model, table=table)"
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


def no_forward(model: nn.Module, methods: Sequence[str], function: str = "categorize") -> str:
    """Say that a model has no forward pass, only parts that have one or methods of other names."""
    parts = _parts(model)
    if parts:
        return (
            f"{type(model).__name__} has no forward pass of its own; place the gains of its "
            f"parts: {_calls(parts, function)}"
        )
    method = next((name for name in methods if "encode" in name), None)
    method = method or next((name for name in methods if "loss" not in name), "METHOD")
    has = f" (it has {listed(methods)})" if methods else ""
    return (
        f"{type(model).__name__} defines no forward pass{has}; say which method is to run: "
        f"model.forward = model.{method}; {function}(model, inputs)"
    )


def _parts(model: nn.Module) -> list[str]:
    """Return the parts of a model that are models of transformers with inputs of their own."""
    return [name for name, child in model.named_children() if hasattr(child, "main_input_name")]


def _calls(parts: Sequence[str], function: str) -> str:
    return listed([f"{function}(model.{name})" for name in parts], 4)


def no_tensors(model: nn.Module, given: Sequence[Any], function: str = "categorize") -> str:
    """Say that the inputs hold nothing that a signal could start from."""
    what = ", ".join(_describe(value) for value in given)
    return (
        f"no tensor was found among the inputs ({what}), so no signal can be followed; pass "
        f"tensors, or what holds them: {smallest_call(model, function)}"
    )


def other_thread(place: str) -> str:
    """Say that a module runs in a thread in which no operation is seen."""
    return (
        f"{_module(place)} runs in a thread of its own, and the trace sees only the thread that "
        "called it; run the whole forward pass in one thread"
    )


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
        f"{'; '.join(parts)}. Its role is 'other', which no preset but all_params decays; to decay "
        "it, name it in a policy (overrides)"
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
    way_out = _copy(path, f"torch.nn.{plain}({model.get_parameter(name).numel()})")
    if type(owner).__module__.startswith("torch."):  # another module uses its weight
        way_out = _copy(path.rpartition(".")[0])
    table = f", or add the row `{row} = CATEGORY` to its name table" if row else ""
    return (
        f"{name!r} belongs to a norm ({type(owner).__name__}), but neither source can place it: "
        "the forward pass multiplies no normalised signal by it. If a kernel fuses the norm with "
        f"what follows, switch that kernel off for the trace{table}{way_out}"
    )


def _module(place: str) -> str:
    return f"module {place!r}" if place else "this model"


def _copy(place: str, plain: str = "PLAIN") -> str:
    """Return the way out that always works: trace a copy, and use its table for the model."""
    if not place:
        return ""
    what = " (PLAIN: a module with the same parameters, in plain PyTorch)"
    return (
        ". Or place the gains of a copy without it: traceable = copy.deepcopy(model); "
        f"traceable.set_submodule({place!r}, {plain}){what if plain == 'PLAIN' else ''}; "
        "table = categorize(traceable, ...); param_groups(model, table=table, ...)"
    )
