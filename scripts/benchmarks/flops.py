"""Operations: those of a model on batches, and how many a second the device can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pair_batches import Batch
from table import seconds
from torch.utils.flop_counter import FlopCounterMode


def count_flops(model: Any, batches: Sequence[Batch]) -> int:
    """Return the operations of forward and backward pass, as torch counts them from shapes."""
    total = 0
    for batch in batches:
        source, target = (
            torch.ones((batch.pairs, width), dtype=torch.long, device=model.device)
            for width in (batch.source_width, batch.target_width)
        )
        half = torch.autocast(model.device.type, torch.bfloat16)
        with FlopCounterMode(display=False) as counter, half:
            found = model(input_ids=source, attention_mask=source, decoder_input_ids=target)
            found.logits.sum().backward()
        total += counter.get_total_flops()
    return total


def matmul_rate(device: str, size: int = 8192, repeats: int = 20) -> float:
    """Return the operations per second of a square bf16 matrix product, the best of five."""
    one, two = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))

    def products() -> None:
        for _ in range(repeats):
            one @ two

    products()  # warms up
    return 2 * size**3 * repeats / min(seconds(products) for _ in range(5))
