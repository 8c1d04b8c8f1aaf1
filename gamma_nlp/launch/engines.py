"""What each engine does with a decay policy: right, to be known, or refused, one row for each.

This is the one place that knows. A row tells what the code of this package and of accelerate does
today; who changes the code changes the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from gamma_nlp.errors import listed
from gamma_nlp.launch.launch import Launch
from gamma_nlp.launch.needs import Needs

Verdict = Literal["refused", "warning", "note"]
Fits = Callable[[Launch, Needs], bool]

INSTEAD = "use FSDP2 (distributed_type: FSDP, fsdp_version: 2) or plain data parallel"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What an engine does with a policy, in words.

    Attributes:
        verdict: Whether the run would be refused, or something is to be known.
        says: What happens.
        change: What to change; empty where nothing needs to.
        where: The place in the launch file, ``file:line``; empty where there is none.
    """

    verdict: Verdict
    says: str
    change: str = ""
    where: str = ""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        change = f"; {self.change}" if self.change else ""
        return f"{self.verdict}: {where}{self.says}{change}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that an engine does.

    Attributes:
        verdict: As in :class:`Finding`.
        says: The same; ``{names}`` stands for parameters, ``{hook}`` for why a hook is needed.
        change: The same; ``{remedies}`` stands for what does without the hook.
        feature: What the launch file must ask for, of :attr:`.launch.Launch.features`.
        fits: What else must hold.
    """

    verdict: Verdict
    says: str
    change: str = ""
    feature: str = ""
    fits: Fits = lambda launch, needs: True


ROWS = (
    Row(
        verdict="refused",
        feature="optimizer section",
        says="DeepSpeed makes the optimizer of this section with one group, so no category could "
        "have its own decay",
        change="remove the section (the script's optim then decides)",
    ),
    Row(
        verdict="refused",
        feature="replaced optimizer",
        fits=lambda launch, needs: bool(needs.hook),
        says="GammaTrainer refuses the step hook that this policy needs, since accelerate puts "
        "DeepSpeed's own optimizer in the place of the one that has it: {hook}",
        change="{remedies}; or keep the optimizer's state on the GPU; or " + INSTEAD,
    ),
    Row(
        verdict="refused",
        feature="replaced optimizer",
        fits=lambda launch, needs: needs.optimizer not in ("AdamW", "Adagrad"),
        says="with its state off the GPU, accelerate silently replaces the optimizer by "
        "DeepSpeedCPUAdam with L2 in the gradient, whatever it was",
        change="use optim adamw_torch, or keep the state on the GPU",
    ),
    Row(
        verdict="refused",
        feature="flat parameters",
        says="FSDP1 joins all parameters into flat ones without names",
        change="write fsdp_use_orig_params: true, or fsdp_version: 2",
    ),
    Row(
        verdict="refused",
        feature="FSDP1 on CPU",
        says="accelerate's FSDP1 raises an error on a CPU",
        change="write distributed_type: MULTI_GPU, which on CPUs is plain data parallel",
    ),
    Row(
        verdict="refused",
        feature="FSDP",
        fits=lambda launch, needs: bool(needs.scalars),
        says="FSDP takes no parameters without a dimension: {names}",
        change="give them the shape [1]",
    ),
    Row(
        verdict="refused",
        feature="tensor parallel",
        fits=lambda launch, needs: not needs.cut,
        says="this model brings no tp_plan, so transformers cannot cut it",
        change="write parallelism_config_tp_size: 1",
    ),
    Row(
        verdict="refused",
        feature="Megatron-LM",
        says="Megatron-LM makes its own optimizer and groups, so a policy could not reach them",
        change=INSTEAD,
    ),
    Row(
        verdict="refused",
        feature="precision",
        fits=lambda launch, needs: (
            launch.precision == "fp16"
            and launch.engine in ("one process", "DDP")
            and torch.float16 in needs.dtypes
        ),
        says="torch's gradient scaler refuses float16 parameters",
        change="load the model in float32 (autocast makes 16-bit copies), or use bf16",
    ),
    Row(
        verdict="warning",
        feature="one process starts",
        says="accelerate launch starts one process from this file, however many it asks for",
        change="on CPUs use torchrun --nproc_per_node N, on GPUs distributed_type: MULTI_GPU",
    ),
    Row(
        verdict="warning",
        feature="FSDP2 on CPU",
        says="on CPUs accelerate's FSDP2 silently becomes plain data parallel: nothing is cut",
        change="to cut on CPUs, use torch's fully_shard in a loop of your own",
    ),
    Row(
        verdict="warning",
        feature="replaced optimizer",
        says="GammaTrainer logs that the policy has no effect and writes no gain_table.json; its "
        "groups decay as told all the same",
    ),
    Row(
        verdict="warning",
        feature="scheduler section",
        says="DeepSpeed makes the learning rates, so the doses of gain_table.json are unknown, and "
        "those told here follow --schedule",
        change="remove the section (the script's lr_scheduler_type then decides)",
    ),
    Row(
        verdict="warning",
        feature="auto precision",
        says='"auto" follows the script\'s bf16 and fp16, and is taken for off here',
        change="add --mixed-precision bf16 or fp16 if you train so",
    ),
    *(
        Row(
            verdict="warning",
            feature=f"{name} cuts otherwise",
            says=f"{name} cuts the model in a way that the memory below leaves out",
        )
        for name in ("zero_hpz_partition_size", "mics_shard_size", "autotp_size")
    ),
    Row(verdict="warning", feature="TPU", says="this package was not tried on TPUs"),
    Row(
        verdict="warning",
        feature="precision",
        fits=lambda launch, needs: launch.precision == "fp8",
        says="fp8 was not tried with this package; the memory below is that of bf16",
    ),
    Row(
        verdict="note",
        feature="FSDP",
        fits=lambda launch, needs: launch.mixed and needs.deferred,
        says="decay stays gathered though FSDP's mixed precision trains in float32, since it is "
        "decided before",
        change="load the model in float32 to decay at every step",
    ),
    Row(
        verdict="note",
        fits=lambda launch, needs: launch.engine in ("FSDP1", "FSDP2", "DeepSpeed"),
        says="checkpoints of this engine resume only under a policy with the same groups",
    ),
)
"""What engines do, the worst first."""


def findings(launch: Launch, needs: Needs) -> list[Finding]:
    """Return what this engine does with a policy that needs this."""
    words = {
        "hook": "; ".join(map(str, needs.hook)),
        "remedies": "; ".join(dict.fromkeys(reason.change for reason in needs.hook)),
        "names": listed(needs.scalars),
    }
    found = [
        Finding(
            verdict=row.verdict,
            says=row.says.format(**words),
            change=row.change.format(**words),
            where=launch.features.get(row.feature, ""),
        )
        for row in ROWS
        if (not row.feature or row.feature in launch.features) and row.fits(launch, needs)
    ]
    ignored = [
        Finding(verdict="warning", says=says, where=where) for says, where in launch.ignored.items()
    ]
    order: list[Verdict] = ["refused", "warning", "note"]
    return sorted([*found, *ignored], key=lambda one: order.index(one.verdict))
