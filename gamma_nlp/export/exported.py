"""A policy's decision for one model, in the words of another engine's settings.

The decision is made here as everywhere; then parameters get the engine's names, the fewest
patterns are found, and before anything is shown the engine's own rules are applied to them and
compared with the decision, parameter by parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import nn

from gamma_nlp.decay import assign
from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.policy import DecayPolicy, PolicyLike
from gamma_nlp.errors import GammaError, close_to
from gamma_nlp.export import limits, text
from gamma_nlp.export.applied_back import check_back
from gamma_nlp.export.deciding import decide
from gamma_nlp.export.engine import Engine, Parameter, Rules, plain
from gamma_nlp.export.engines import megatron, nemo_automodel, olmo_core, timm, torchtitan
from gamma_nlp.export.names import layout_of, own_names
from gamma_nlp.gains.table import GainTable
from gamma_nlp.wrappers import plain_names

ENGINES: Mapping[str, Engine] = {
    module.ENGINE.key: module.ENGINE
    for module in (torchtitan, nemo_automodel, olmo_core, megatron, timm)
}
JSON = "json"
TARGETS = (*ENGINES, JSON)

Names = Literal["engine", "model"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """A decision as text to paste; ``str(export)`` is that text.

    Attributes:
        to: The engine, or ``json``.
        text: What to paste.
        rules: The patterns with what they match; ``None`` for ``json``.
        coefficients: What each parameter decays by, under the engine's names.
    """

    to: str
    text: str
    rules: Rules | None
    coefficients: Mapping[str, float]

    def __str__(self) -> str:
        return self.text


def export(
    model: nn.Module,
    *,
    to: str,
    policy: PolicyLike = "guidelines",
    weight_decay: float = 0.01,
    table: GainTable | None = None,
    inputs: Any = None,
    names: Names = "engine",
    source: str = "",
) -> Export:
    """Write what a policy decides for a model in the settings of another engine.

    Args:
        model: The model; the meta device will do.
        to: ``torchtitan``, ``nemo_automodel``, ``olmo_core``, ``megatron``, ``timm``, or ``json``,
            which lists every parameter with its coefficient and the reason.
        policy: The policy.
        weight_decay: What a multiplier of 1 stands for.
        table: The gain table, if it is there already.
        inputs: For :func:`gamma_nlp.categorize`, where a table is not.
        names: ``engine``: the names of the engine's own model code, where it has its own.
            ``model``: those of ``model``.
        source: What the user calls the model, for the head of the text.

    Raises:
        GammaError: An unknown engine; a model that it does not have; a policy that its settings
            cannot say; whatever the policy and the table refuse.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gamma_nlp.export import export
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> done = export(model, to="timm", inputs=torch.randn(3, 4))
        >>> done.rules.spares_vectors, done.rules.rules
        (True, ())
    """
    check_target(to)
    if names not in get_args(Names):
        raise GammaError(f"names must be 'engine' or 'model', not {names!r}")
    policy = DecayPolicy.load(policy)
    table = assign.table_for(model, inputs, table, policy)
    source = source or type(model).__name__
    if to == JSON:
        decays = _decays(model, policy, weight_decay, table)
        coefficients = {name: decay.coefficient for name, decay in decays.items()}
        listing = text.listing(source, policy, weight_decay, table, decays)
        return Export(to=to, text=listing, rules=None, coefficients=coefficients)
    engine = ENGINES[to]
    trained = plain_names(n for n, p in model.named_parameters() if p.requires_grad)
    layout = layout_of(engine, model, trained.values()) if names == "engine" else None
    if layout is not None and layout.offset is not None:
        gains = tuple(replace(gain, offset=layout.offset) for gain in table)
        table = replace(table, gains=gains)
    decays = _decays(model, policy, weight_decay, table)
    limits.check(engine, policy, table, decays)
    by_model = {name: plain(d.coefficient / weight_decay) for name, d in decays.items()}
    from_own = own_names(layout, by_model, engine)
    ndims = {trained[n]: p.ndim for n, p in model.named_parameters() if p.requires_grad}
    forms = engine.model_forms if layout is None and engine.layouts else engine.forms
    wanted = {Parameter(own, ndims[name]): by_model[name] for own, name in from_own.items()}
    coupled = any(decay.mode == "coupled" for decay in decays.values())
    rules, held = decide(engine, wanted, weight_decay, forms, coupled=coupled)
    coefficients = {p.name: weight_decay * value for p, value in wanted.items()}
    whose = check_back(engine, rules, wanted, held)
    plainly = len(held) < len(forms)
    written = text.snippet(
        source, policy, table, engine, rules, whose=whose, own=layout is not None, plainly=plainly
    )
    return Export(to=to, text=written, rules=rules, coefficients=coefficients)


def check_target(to: str) -> None:
    """Refuse an engine that is not known.

    Raises:
        GammaError: It names what is known.
    """
    if to not in TARGETS:
        raise GammaError(
            f"unknown engine {to!r}{close_to(to, TARGETS)} (known: {', '.join(TARGETS)})"
        )


def _decays(
    model: nn.Module, policy: DecayPolicy, weight_decay: float, table: GainTable
) -> dict[str, Decay]:
    """Return how every trained parameter decays, by its name without wrappers."""
    found = assign.decays_for(model, weight_decay=weight_decay, policy=policy, table=table)
    if not weight_decay:
        raise GammaError("weight_decay is 0, so there is no decay to export; set it, as to 0.1")
    trained = plain_names(n for n, p in model.named_parameters() if p.requires_grad)
    if not trained:
        raise GammaError("every parameter of the model is frozen, so there is nothing to export")
    return {trained[name]: found[name] for name in trained}
