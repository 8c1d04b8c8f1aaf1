"""Check a gain table numerically on the model itself, in the spirit of mup's coordinate check.

One forward pass of a copy is recorded, then played again with noise, and with each gain changed
channel by channel. How noise travels shows the residual additions; what moves at a gain's first
addition shows its category. Nothing is read from the residual graph or the name tables.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gamma_nlp.check.probe.additions import additions
from gamma_nlp.check.probe.facts import examine
from gamma_nlp.check.probe.model_copy import is_silent, refuse_silence
from gamma_nlp.check.probe.noise import Signals
from gamma_nlp.check.probe.norms import written_out
from gamma_nlp.check.probe.recording import record_pass
from gamma_nlp.check.probe.report import Finding, ProbeReport
from gamma_nlp.check.probe.verdicts import Judge
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import GainTable
from gamma_nlp.graph.inputs import arguments
from gamma_nlp.graph.obstacles import refuse_obstacles
from gamma_nlp.wrappers import unwrap

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-6}
LARGE = 500_000_000
"""Models with more parameters than this are checked in float32, others in float64."""


def probe(model: nn.Module, inputs: Any = None, table: GainTable | None = None) -> ProbeReport:
    """Check the category of every gain numerically.

    Args:
        model: Any module with values (not on the meta device). The probe works on a copy of it,
            in eval mode.
        inputs: The inputs of the forward pass: a tensor, a tuple of positional arguments or a
            dict of keyword arguments. Pass eight different tokens or more and no padding; floats
            must differ from each other. Models of transformers need none.
        table: The table to check; by default ``categorize(model, inputs)``.

    Raises:
        GammaError: The forward pass fails, the model cannot be copied or has no values, the
            inputs carry no signal, or the table belongs to another model.
    """
    refuse_obstacles(model, "probe")
    if table is None:
        table = categorize(model, inputs)
    own = dict(model.named_parameters())
    unknown = [gain.name for gain in table if gain.name not in own]
    if unknown:
        raise GammaError(
            f"the table belongs to another model: this one has no parameter {unknown[0]!r}; make "
            "a table of this model: categorize(model, inputs)"
        )
    call = arguments(unwrap(model), inputs, "probe")
    refuse_silence(call)
    if not table.gains:
        return ProbeReport(model=type(unwrap(model)).__name__, additions=0, dtype="", findings=())
    findings, found, dtype = _examine(model, call, table, noisy=False)
    unsettled = [f.name for f in findings.values() if f.verdict == "inconclusive"]
    if unsettled and any(is_silent(p) for p in model.parameters()):
        # Zero-initialised branches (LoRA's B, gates) let nothing through: try with noise on them.
        again, found_again, _ = _examine(model, call, table, noisy=True)
        found = max(found, found_again)
        findings |= {name: again[name] for name in unsettled}
    return ProbeReport(
        model=type(unwrap(model)).__name__,
        additions=found,
        dtype=str(dtype).removeprefix("torch."),
        findings=tuple(findings[gain.name] for gain in table),
    )


def _examine(
    model: nn.Module, call: Any, table: GainTable, noisy: bool
) -> tuple[dict[str, Finding], int, torch.dtype]:
    """Return a finding per gain, the number of residual additions, and the precision.

    Args:
        model: The user's model.
        call: Positional and keyword arguments of the forward pass.
        table: The gains.
        noisy: Whether to put noise on silent parameters first.
    """
    size = sum(p.numel() for p in model.parameters())
    dtypes = [torch.float32] if size > LARGE else [torch.float64, torch.float32]
    for dtype in dtypes:
        try:
            recording = record_pass(model, call, dtype, noisy=noisy)
        except GammaError:
            if dtype is dtypes[-1]:  # some kernels have no float64
                raise
            continue
        tape = recording.tape
        if all(bool(tape.value(ref).isfinite().any()) for ref in tape.outputs):
            break  # masks can overflow in float64 alone
    facts = examine(
        tape, recording.parameters, recording.sources, recording.held, given=recording.given
    )
    facts.norms |= written_out(tape, facts, recording.vectors)
    signals = Signals(tape, facts, TOLERANCE[dtype])
    counted, mute = additions(signals)
    judge = Judge(signals, counted, mute, dtype)
    return (
        {gain.name: judge.judge(gain, recording.gains.get(gain.name)) for gain in table},
        len({addition.step for addition in counted}),
        dtype,
    )
