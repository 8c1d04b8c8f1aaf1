"""What to tell users whose inputs do not fit their model, and the call to type next."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
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
