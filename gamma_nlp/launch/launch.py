"""How a run is spread over processes: what was read from a launch file, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Engine = Literal["one process", "DDP", "FSDP1", "FSDP2", "DeepSpeed", "Megatron-LM", "TPU"]
Precision = Literal["no", "bf16", "fp16", "fp8"]
Place = Literal["GPU", "CPU", "NVMe"]

PRECISIONS: tuple[Precision, ...] = ("no", "bf16", "fp16", "fp8")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How a run is spread over processes.

    Attributes:
        engine: What shares the work among them.
        processes: How many there are in all.
        machines: How many machines they run on.
        precision: Mixed precision; ``no`` where tensors compute in the dtype they have.
        stage: DeepSpeed's ZeRO stage.
        shard: How many processes hold one copy of what is cut together.
        tensor: How many processes hold one matrix together (tensor parallel).
        gathered: Whether FSDP keeps whole weights between the forward and the backward pass.
        gradient_dtype: DeepSpeed's ``grad_accum_dtype``; ``None`` for that of the weights.
        device: Where it computes.
        weights_on: Where weights rest.
        optimizer_on: Where the optimizer's state rests, and with it what it works on.
        features: What :mod:`.engines` has a word on, with the place in the file.
        ignored: What to say of keys that accelerate does not read, with their place in the file.
    """

    engine: Engine = "one process"
    processes: int = 1
    machines: int = 1
    precision: Precision = "no"
    stage: int = 0
    shard: int = 1
    tensor: int = 1
    gathered: bool = False
    gradient_dtype: str | None = None
    device: Place = "GPU"
    weights_on: Place = "GPU"
    optimizer_on: Place = "GPU"
    features: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The engine as people call it."""
        if self.engine == "DeepSpeed":
            return f"DeepSpeed ZeRO stage {self.stage}"
        copies = self.processes // (self.shard * self.tensor)
        if self.engine == "FSDP2" and copies > 1:
            return f"FSDP2, {copies} copies of the model in {self.shard} shards each"
        return self.engine

    @property
    def mixed(self) -> bool:
        """Whether the optimizer works on float32 whatever the weights compute in."""
        if self.engine == "DeepSpeed":
            return self.stage > 0 or self.precision != "no"
        return self.engine in ("FSDP1", "FSDP2") and self.precision != "no"
