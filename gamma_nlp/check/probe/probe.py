"""A numeric check of a gain table on the model itself, in the spirit of mup's coordinate check.

One forward pass of a copy is written down and played again with noise, and with each gain changed
channel by channel. Residual additions are found by how noise travels; a category is what moves up
to the gain's first addition. Nothing is read from the residual graph or the name tables.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from gamma_nlp.check.probe import facts as steps
from gamma_nlp.check.probe.additions import additions
from gamma_nlp.check.probe.model_copy import (
    carries_signal,
    cast,
    duplicate,
    is_silent,
    randomise,
    refuse_silence,
    run,
)
from gamma_nlp.check.probe.noise import Signals
from gamma_nlp.check.probe.report import Finding, ProbeReport
from gamma_nlp.check.probe.verdicts import Judge
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import GainTable
from gamma_nlp.graph.inputs import arguments
from gamma_nlp.wrappers import unwrap

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-6}
LARGE = 500_000_000
"""Models with more parameters than this are checked in float32, others in float64."""


def probe(model: nn.Module, inputs: Any = None, table: GainTable | None = None) -> ProbeReport:
    """Check the category of every gain numerically.

    Args:
        model: Any module with values (not on the meta device). A copy is examined, in eval mode.
        inputs: What the forward pass is called with: a tensor, a tuple of positional or a dict
            of keyword arguments. Eight unequal tokens or more, no padding; values that differ,
            never zeros. Models of transformers need none.
        table: What to check; by default what ``categorize(model, inputs)`` says.

    Raises:
        GammaError: A forward pass that fails, a model that cannot be copied or has no values,
            inputs without a signal, or the table of another model.
    """
    if table is None:
        table = categorize(model, inputs)
    own = dict(model.named_parameters())
    strangers = [gain.name for gain in table if gain.name not in own]
    if strangers:
        raise GammaError(
            f"the table is not of this model, which has no parameter {strangers[0]!r}; make one: "
            "categorize(model, inputs)"
        )
    given = arguments(unwrap(model), inputs)
    refuse_silence(given)
    findings, found, dtype = _examine(model, given, table, stirred=False)
    silent = [f.name for f in findings.values() if f.verdict == "inconclusive"]
    if silent and any(is_silent(p) for p in model.parameters()):
        again, stirred, _ = _examine(model, given, table, stirred=True)
        found = max(found, stirred)
        findings |= {name: again[name] for name in silent}
    return ProbeReport(
        model=type(unwrap(model)).__name__,
        additions=found,
        dtype=str(dtype).removeprefix("torch."),
        findings=tuple(findings[gain.name] for gain in table),
    )


def _examine(
    model: nn.Module, inputs: Any, table: GainTable, stirred: bool
) -> tuple[dict[str, Finding], int, torch.dtype]:
    size = sum(p.numel() for p in model.parameters())
    dtypes = [torch.float32] if size > LARGE else [torch.float64, torch.float32]
    for dtype in dtypes:
        inner, names = duplicate(model, dtype)
        if stirred:
            randomise(inner)
        given = cast(inputs, dtype)
        # Taken before the run, in which a model may replace the data of its parameters.
        memory = {name: p.untyped_storage() for name, p in names.items()}
        try:
            tape = run(inner, unwrap(model), given, dtype)
        except GammaError:
            if dtype is dtypes[-1]:  # some kernels know no float64
                raise
            continue
        if all(bool(tape.value(ref).isfinite().any()) for ref in tape.outputs):
            break  # masks can overflow in float64 alone
    places = {name: tape.key_of(storage) for name, storage in memory.items()}
    sources = [tape.key_of(t.untyped_storage()) for t in tree_leaves(given) if carries_signal(t)]
    facts = steps.examine(
        tape,
        {key: name for name, key in places.items() if key is not None},
        [key for key in sources if key is not None],
    )
    signals = Signals(tape, facts, TOLERANCE[dtype])
    counted, mute = additions(signals)
    judge = Judge(signals, counted, mute, dtype)
    return (
        {gain.name: judge.judge(gain, places.get(gain.name)) for gain in table},
        len(counted),
        dtype,
    )
