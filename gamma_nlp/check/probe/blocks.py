"""Blocks of memory of a tape: a window on one, its values, and noise on them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gamma_nlp.check.probe.tape import HUGE, Key, Ref, Step, Tape


def window_on(tape: Tape, makers: Mapping[Key, Step], key: Key) -> Ref:
    """Return a window that some step has on this version of a block.

    Args:
        tape: The tape.
        makers: The step that made each version of a block.
        key: The version.
    """
    maker = makers.get(key)
    refs = list(maker.writes) if maker else []
    refs += [ref for index in tape.readers(key)[:1] for ref in tape.steps[index].reads]
    return next(ref for ref in refs if ref.key == key)


def flat(tape: Tape, ref: Ref) -> torch.Tensor:
    """Return a copy of the whole block behind a window, as one row of the window's dtype."""
    return tape.whole(ref.key, ref.dtype).clone()


def with_noise(tape: Tape, ref: Ref) -> torch.UntypedStorage:
    """Return the block behind a window with noise on it."""
    return noisy(flat(tape, ref), 0).untyped_storage()


def noisy(values: Tensor, seed: int) -> Tensor:
    """Return values with noise of a tenth of their size added."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.float64 if not values.is_complex() else values.real.dtype
    noise = torch.randn(2, *values.shape, generator=generator, dtype=real)
    noise = noise.to(device=values.device)
    size = values.abs()
    usable = size.isfinite() & (size < HUGE)
    usable = usable if bool(usable.any()) else size.isfinite()
    middle = size[usable].median() if bool(usable.any()) else size.new_ones(())
    step = 0.1 * (values * noise[0] + torch.clamp_min(middle, 1e-3) * noise[1])
    return torch.where(usable, values + step, values).to(values.dtype)
