"""Train with the norms of scale-invariant tensors held constant.

[S] Forcing |w| to a constant removes the effect that weight decay has on the effective learning
rate, and with it a hyperparameter (van Laarhoven, arXiv:1706.05350). The function ignores the norm,
so it does not change; the effective rate, lr / |w|**2 (SGD) or lr / |w| (Adam), is then set by the
schedule alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.companions.arguments import (
    bare,
    first_names,
    free_key,
    held_now,
    is_number,
    named_parameters,
    positions,
    refuse_parts,
    whole_number,
    wide,
)
from gamma_nlp.companions.effective_rate.report import ScaleInvariance
from gamma_nlp.errors import GammaError
from gamma_nlp.names import renamed_arguments
from gamma_nlp.wrappers import mesh_of, whole

KEY = "unit_norm"
"""The key of the norms in the optimizer's ``state_dict``."""
COUNT = "_steps"
"""Suffix of the key of the steps since norms were last restored, saved if ``every`` is above 1."""
WITHIN = 5e-5
"""Relative tolerance on a CPU. The float32 norm of a million elements is no more exact."""


@dataclass(frozen=True, kw_only=True)
class _Held:
    """One tensor: its position in the optimizer, its shape, and ``count`` units along ``dim``."""

    group: int
    index: int
    dim: int
    count: int
    shape: torch.Size


class UnitNorm:
    """Restore the norms of tensors after each step of an optimizer.

    Norms are held to within :data:`WITHIN` on a CPU, elsewhere to rounding; in half precision to
    the rounding of the elements, which is 0.4 % at most in bfloat16 and 0.05 % in float16. Tensors
    with units (rows before a batch norm, heads before a q/k norm) are held unit by unit, and
    DTensors (``fully_shard``, ``parallelize_module``) as the whole tensors that they are parts of.
    The norms are saved with the optimizer's ``state_dict`` and loaded with it. A copied or pickled
    optimizer loses the hook: make a new ``UnitNorm`` for it.

    Decay of a held tensor has no lasting effect; leave it out of the decayed groups.

    Args:
        optimizer: An optimizer with these tensors, or what accelerate's ``prepare`` made of it.
        names: Parameter names, as in the groups' ``param_names``.
        invariance: What :func:`.invariance.scale_invariant` found in the model.
        norm: The norm of each unit; by default the current one, so that nothing changes at the
            start. It must not be 0.
        per: ``"unit"``, or ``"tensor"`` to hold each tensor as a whole.
        every: Restore norms after every ``every``-th step only, which shares the cost among the
            steps. In between a norm moves by half the square of the angle per step, so a few
            steps change the rate little.
        model: The model whose names these are, for an optimizer that was made without names.
        force: Hold tensors that are not known to be scale invariant too; the model then
            computes something else.

    Raises:
        GammaError: ``names`` is empty; the optimizer lacks one; a tensor is not scale invariant,
            has units of unequal size or a norm of 0, or is cut up by FSDP1 or DeepSpeed; or a
            setting is out of range.

    Example:
        >>> from torch import nn
        >>> from gamma_nlp.companions.effective_rate.invariance import scale_invariant
        >>> net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.LayerNorm(6), nn.Linear(6, 2))
        >>> optimizer = torch.optim.SGD(net.named_parameters(), lr=0.1)
        >>> held = UnitNorm(
        ...     optimizer, ["0.weight"], invariance=scale_invariant(net, torch.randn(5, 4)), norm=1
        ... )
        >>> round(float(net[0].weight.detach().norm()), 4)
        1.0
    """

    @renamed_arguments(params="names")
    def __init__(
        self,
        optimizer: Optimizer,
        names: Iterable[str],
        *,
        invariance: ScaleInvariance | None = None,
        norm: float | None = None,
        per: str = "unit",
        every: int = 1,
        model: nn.Module | None = None,
        force: bool = False,
    ) -> None:
        if norm is not None and not (is_number(norm) and 0 < norm < math.inf):
            raise GammaError(f"norm must be a positive number, got {norm!r}")
        if per not in ("unit", "tensor"):
            raise GammaError(f"per must be 'unit' or 'tensor', got {per!r}")
        if not isinstance(invariance, ScaleInvariance | None):
            raise GammaError(
                f"invariance is a {type(invariance).__name__}; expected what "
                "scale_invariant(model, inputs) returns"
            )
        self.optimizer = optimizer = bare(optimizer)
        self.every, self._since = whole_number(every, "every"), 0
        self.key = free_key(optimizer, KEY)
        known = named_parameters(optimizer, model)
        chosen = first_names(names, model)
        if not chosen:
            raise GammaError(
                "there is no tensor to hold: names is empty; pass names of scale-invariant tensors "
                "(scale_invariant(model, inputs) finds them), or leave UnitNorm out"
            )
        self._held = {
            name: _hold(name, at, known[name][1], _units(name, invariance, per, force))
            for name, at in positions(optimizer, known, chosen).items()
        }
        now = self._norms()
        for name, value in zip(self._held, now, strict=True):
            if not bool(value.isfinite().all()):
                raise GammaError(f"{name!r} has values that are not finite; no norm can be held")
            if not bool((value > 0).all()):
                raise GammaError(f"{name!r} has a norm of 0 somewhere, which cannot be held")
        self.norms: dict[str, Tensor] = {
            name: value.clone() if norm is None else torch.full_like(value, norm)
            for name, value in zip(self._held, now, strict=True)
        }
        if norm is not None:
            self.apply()
        self._hooks = [
            optimizer.register_step_post_hook(lambda *_: self._count()),
            optimizer.register_state_dict_post_hook(self._save),
            # Before other hooks, which may pass on a state without our entry.
            optimizer.register_load_state_dict_pre_hook(self._load, prepend=True),
        ]

    def remove(self) -> None:
        """Stop holding the norms."""
        for hook in self._hooks:
            hook.remove()

    def _count(self) -> None:
        self._since = (self._since + 1) % self.every
        if self._since == 0:
            self.apply()

    def _tensors(self) -> list[Tensor]:
        """Return each tensor as it is in the groups now."""
        places = {name: (one.group, one.index) for name, one in self._held.items()}
        shapes = {name: one.shape for name, one in self._held.items()}
        now = held_now(self.optimizer, places, shapes)
        refuse_parts(now, "UnitNorm")
        return [w.detach() for w in now.values()]

    @torch.no_grad()
    def _norms(self) -> list[Tensor]:
        tensors, held, found = self._tensors(), list(self._held.values()), dict[int, Tensor]()
        plain = [i for i, one in enumerate(held) if one.count == 1 and mesh_of(tensors[i]) is None]
        for dtype in {tensors[i].dtype for i in plain}:
            alike = [i for i in plain if tensors[i].dtype == dtype]
            norms = torch._foreach_norm(
                [tensors[i] for i in alike], 2, dtype=wide(tensors[alike[0]])
            )
            found |= dict(zip(alike, norms, strict=True))
        for i, (w, one) in enumerate(zip(tensors, held, strict=True)):
            if i not in found:
                found[i] = (
                    _norms_of_parts(w, one) if mesh_of(w) is not None else _unit_norms(w, one)
                )
        return [found[i] for i in range(len(tensors))]

    @torch.no_grad()
    def apply(self) -> None:
        """Restore all norms, without waiting for the device.

        On a CPU, a tensor whose norms are all within :data:`WITHIN` of their values is left alone,
        which saves a pass over memory.
        """
        factors = torch._foreach_div(list(self.norms.values()), self._norms())
        for factor in factors:  # a unit that has become 0 stays 0
            factor.clamp_(max=torch.finfo(factor.dtype).max)
        rows = zip(factors, self._tensors(), self._held.values(), strict=True)
        due = [_factor_and_view(f, w, one) for f, w, one in rows if _is_off(f)]
        for some in _together([(f, v) for f, v in due if f.dtype == v.dtype]):
            torch._foreach_mul_([v for _, v in some], [f for f, _ in some])
        for f, v in due:
            if f.dtype != v.dtype:  # a factor near 1 would be rounded to 1 in half precision
                v.copy_(v.to(f.dtype).mul_(f))

    @torch.no_grad()
    def apply_reference(self) -> None:
        """Do what :meth:`apply` does in the plainest way, unit by unit, for the tests."""
        for name, one in self._held.items():
            w = self.optimizer.param_groups[one.group]["params"][one.index]
            units = w.detach().chunk(one.count, dim=one.dim)
            for unit, norm in zip(units, self.norms[name].flatten(), strict=True):
                values = unit.to(wide(unit))
                length = values.norm()
                if length > 0:
                    unit.copy_(values * (norm / length))

    def _save(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        count = {} if self.every == 1 else {self.key + COUNT: self._since}
        norms = {name: norm.clone() for name, norm in self.norms.items()}
        return {**state_dict, self.key: norms, **count}

    def _load(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        saved: Mapping[str, Tensor] = state_dict.get(self.key, {})
        for name, norm in saved.items():
            if name not in self.norms:
                continue
            if norm.shape != self.norms[name].shape:
                raise GammaError(
                    f"the saved norms of {name!r} are {tuple(norm.shape)}, here they are "
                    f"{tuple(self.norms[name].shape)}: it was held with another per="
                )
        self.norms |= {n: v.to(self.norms[n]) for n, v in saved.items() if n in self.norms}
        self._since = int(state_dict.get(self.key + COUNT, 0)) % self.every
        own = (self.key, self.key + COUNT)
        return {key: value for key, value in state_dict.items() if key not in own}


def _unit_norms(w: Tensor, held: _Held) -> Tensor:
    view = _view(w, held)
    around = tuple(range(1, view.dim()))
    return torch.linalg.vector_norm(view, dim=around, keepdim=True, dtype=wide(view))


def _norms_of_parts(w: Tensor, held: _Held) -> Tensor:
    """Return the same of a DTensor, as a plain tensor that is equal in every process."""
    if held.count == 1:
        return whole(torch.linalg.vector_norm(w, dtype=wide(w)))
    around = tuple(dim for dim in range(w.dim()) if dim != held.dim)
    rows = (
        w.abs().to(wide(w)) if not around else torch.linalg.vector_norm(w, 2, around, dtype=wide(w))
    )
    norms = torch.linalg.vector_norm(whole(rows).unflatten(0, (held.count, -1)), dim=1)
    return norms.reshape(held.count, *[1] * w.dim())


def _view(w: Tensor, held: _Held) -> Tensor:
    """Return a tensor with its units along the first dimension."""
    return w.movedim(held.dim, 0).unflatten(0, (held.count, -1)) if held.count > 1 else w


def _factor_and_view(factor: Tensor, w: Tensor, held: _Held) -> tuple[Tensor, Tensor]:
    """Return what to multiply, and a factor that fits it: a DTensor takes another one."""
    mesh = mesh_of(w)
    if mesh is None:
        return factor, _view(w, held)
    from torch.distributed.tensor import DTensor, Replicate

    size = w.shape[held.dim] // held.count if held.count > 1 else 1
    rows = factor.reshape(-1).repeat_interleave(size)
    shape = [len(rows) if dim == held.dim else 1 for dim in range(w.dim())]
    copies = [Replicate()] * mesh.ndim
    full = DTensor.from_local(rows.reshape(shape).expand(w.shape), mesh, copies, run_check=False)
    return full.redistribute(placements=w.placements), w  # type: ignore[attr-defined]


def _together(due: list[tuple[Tensor, Tensor]]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Split into what one multi-tensor call can take."""
    found: dict[Any, list[tuple[Tensor, Tensor]]] = {}
    for one in due:
        found.setdefault(mesh_of(one[1]), []).append(one)
    yield from found.values()


def _is_off(factors: Tensor) -> bool:
    return not factors.is_cpu or float((factors - 1).abs().max()) > WITHIN


def _units(
    name: str, invariance: ScaleInvariance | None, per: str, force: bool
) -> tuple[int, int, int]:
    """Return the units' dimension, the end of the last, and their size; zeros for the whole."""
    found = None if invariance is None else invariance.of(name)
    if force and (found is None or not found.whole):
        return 0, 0, 0
    if invariance is None:
        raise GammaError(
            f"{name!r} is not known to be scale invariant; pass "
            "invariance=scale_invariant(model, inputs), or force=True"
        )
    if found is None or not found.whole:
        group = next((one for one in invariance.joint if name in one.names), None)
        why = f"only together with others ({group})" if group else "its scale matters"
        if found is not None:
            why = f"only some of its rows are ({found})"
        raise GammaError(
            f"{name!r} is not scale invariant: {why}, so holding its norm would change what the "
            "model can learn; leave it out of names, or pass force=True"
        )
    sizes = {stop - start for start, stop in found.units}
    if per == "tensor" or not sizes:
        return 0, 0, 0
    uniform = tuple((i, i + min(sizes)) for i in range(0, found.units[-1][1], min(sizes)))
    if found.units != uniform:
        raise GammaError(
            f"the units of {name!r} are not all of one size, side by side ({found}); pass "
            "per='tensor'"
        )
    return found.dim, found.units[-1][1], sizes.pop()


def _hold(name: str, at: tuple[int, int], w: Tensor, units: tuple[int, int, int]) -> _Held:
    dim, stop, size = units
    if size and stop != w.shape[dim]:
        raise GammaError(
            f"the units of {name!r} end at {stop}, the tensor at {w.shape[dim]}; pass per='tensor'"
        )
    group, index = at
    count = stop // size if size else 1
    return _Held(group=group, index=index, dim=dim, count=count, shape=w.shape)
