"""What a run will be: its groups, the memory of one process, and what its engine does with both."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.known_optimizers import native_mode
from gamma_nlp.gains.table import GainTable
from gamma_nlp.launch.engines import Finding, findings
from gamma_nlp.launch.groups import GroupPlan, group_plans, groups_of_run
from gamma_nlp.launch.launch import Launch
from gamma_nlp.launch.memory import Part, memory_of
from gamma_nlp.launch.needs import Needs, needs_of
from gamma_nlp.launch.states import States
from gamma_nlp.launch.tensor_parallel import cut_dimensions
from gamma_nlp.rows import align

GIB = 1024**3
WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """What a run will be.

    Attributes:
        model: The model's class.
        tensors: How many parameters it has, tied ones once.
        elements: How many numbers those are.
        frozen: How many of these are not trained.
        groups: The parameter groups.
        launch: How it is spread over processes.
        optimizer: The optimizer's class.
        needs: What the policy needs of the engine.
        memory: What one process holds.
        findings: What the engine does with the policy.
        doses: The smallest and the largest dose of each category of gains; empty if no run is
            planned, ``None`` where a dose is unknown.
    """

    model: str
    tensors: int
    elements: int
    frozen: int
    groups: tuple[GroupPlan, ...]
    launch: Launch
    optimizer: str
    needs: Needs
    memory: tuple[Part, ...]
    findings: tuple[Finding, ...]
    doses: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        """Whether the run would be refused."""
        return any(one.verdict == "refused" for one in self.findings)

    def __str__(self) -> str:
        return "\n\n".join([self._head(), self._groups(), self._memory(), self._findings()])

    def _head(self) -> str:
        launch = self.launch
        on = f" on {launch.machines} machines" if launch.machines > 1 else ""
        processes = f"{launch.processes} processes" if launch.processes > 1 else "1 process"
        engine = "" if launch.engine == "one process" else f", {launch.name}"
        tensor = f", tensor parallel {launch.tensor}" if launch.tensor > 1 else ""
        precision = "no" if launch.precision == "no" else launch.precision
        frozen = f", {self.frozen:,} of them frozen" if self.frozen else ""
        return (
            f"{self.model}: {self.elements:,} parameters in {self.tensors:,} tensors{frozen}\n"
            f"{processes}{on}{engine}{tensor}; {precision} mixed precision, {self.optimizer}"
        )

    def _groups(self) -> str:
        head = ("weight decay", "tensors", "parameters", "by", "holds")
        lines = [
            (
                f"{group.coefficient:g}",
                f"{group.tensors:,}",
                f"{group.elements:,}",
                ("hook" if group.hook else self.optimizer) if group.coefficient else "-",
                ", ".join(f"{count:,} {what}" for what, count in group.holds.items()),
            )
            for group in self.groups
        ]
        text = align(head, lines, {"weight decay", "tensors", "parameters"})
        if not self.doses:
            return text
        told = ", ".join(f"{name} {_dose(dose)}" for name, dose in self.doses.items())
        return f"{text}\ndose: {told}"

    def _memory(self) -> str:
        head = ("memory of one process", "GiB", "on", "dtype", "cut")
        lines: list[tuple[str, ...]] = [
            (
                part.what,
                gib(part.bytes),
                part.place,
                part.dtypes or "-",
                self._cut(part),
            )
            for part in self.memory
        ]
        for place, size in self.totals().items():
            lines.append((f"total on {place}", gib(size), place, "", ""))
        return (
            align(head, lines, {"GiB"}) + "\nleft out: activations, buffers, layers that are put "
            "together while they compute"
        )

    def _cut(self, part: Part) -> str:
        cut = f"1/{part.shard}" if part.shard > 1 else "whole"
        tensor = self.launch.tensor
        return f"{cut}, matrices 1/{part.shard * tensor}" if tensor > 1 else cut

    def totals(self) -> dict[str, int]:
        """Return the bytes of one process at each place."""
        totals: dict[str, int] = {}
        for part in self.memory:
            totals[part.place] = totals.get(part.place, 0) + part.bytes
        return totals

    def _findings(self) -> str:
        hook = "; ".join(map(str, self.needs.hook))
        first = f"the policy needs the step hook: {hook}"
        if not hook:
            first = f"the policy needs no step hook: {self.optimizer} decays each group itself"
        end = ["this run would be refused"] if self.refused else []
        lines = [first, *map(str, self.findings), *end]
        return "\n".join(_wrapped(line) for line in lines)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        data = asdict(self)
        del data["needs"]
        data["launch"]["name"] = self.launch.name
        data["hook"] = [asdict(reason) for reason in self.needs.hook]
        data["bytes"] = self.totals()
        data["refused"] = self.refused
        return data


def plan_launch(
    model: nn.Module,
    table: GainTable,
    decays: Mapping[str, Decay],
    launch: Launch,
    states: States,
    *,
    rates: Sequence[float] | None = None,
    doses: Mapping[str, float | None] | None = None,
) -> LaunchPlan:
    """Return what a run will be.

    Nothing is allocated: the model may be on the meta device.

    Args:
        model: The model.
        table: Its gain table.
        decays: The decay of each parameter, of :func:`gamma_nlp.decay.assign.decays_for`.
        launch: How the run is spread.
        states: The optimizer.
        rates: The learning rate of every step, if a run is planned.
        doses: The dose of each gain then.
    """
    native = native_mode(states.cls, states.kwargs)
    groups = groups_of_run(
        model,
        table,
        decays,
        native=native,
        rates=rates or (),
        # GammaTrainer and DTensors tell all processes the same values, but FSDP1 keeps its parts.
        processes=launch.processes if launch.engine == "FSDP1" else 1,
        dtype=torch.float32 if launch.engine == "DeepSpeed" else None,
    )
    cut = cut_dimensions(model) if launch.tensor > 1 else {}
    needs = needs_of(
        groups,
        model,
        optimizer=states.cls,
        native=native,
        planned=rates is not None,
        cut=bool(cut) or launch.tensor == 1,
    )
    parameters = list(model.parameters())
    return LaunchPlan(
        model=type(model).__name__,
        tensors=len(parameters),
        elements=sum(p.numel() for p in parameters),
        frozen=sum(p.numel() for p in parameters if not p.requires_grad),
        groups=group_plans(groups, table),
        launch=launch,
        optimizer=states.cls.__name__,
        needs=needs,
        memory=tuple(memory_of(model, groups, launch, states, cut)),
        findings=tuple(findings(launch, needs)),
        doses=_by_category(table, doses or {}),
    )


def gib(size: int) -> str:
    """Return bytes in GiB with three digits or so."""
    value = size / GIB
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _wrapped(line: str) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _by_category(
    table: GainTable, doses: Mapping[str, float | None]
) -> dict[str, tuple[float, float] | None]:
    found: dict[str, list[float | None]] = {}
    for gain in table:
        if gain.name in doses:
            found.setdefault(str(gain.category or "unused"), []).append(doses[gain.name])
    ends: dict[str, tuple[float, float] | None] = {}
    for category, own in found.items():
        known = [dose for dose in own if dose is not None]
        ends[category] = (min(known), max(known)) if len(known) == len(own) else None
    return ends


def _dose(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "unknown"
    least, most = (f"{100 * end:.3g} %" for end in ends)
    return most if least == most else f"{least} to {most}"
