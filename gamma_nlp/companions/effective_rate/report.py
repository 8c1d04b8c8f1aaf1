"""The result of :func:`.invariance.scale_invariant`, as data and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gamma_nlp.companions.effective_rate.zero_sums import Range
from gamma_nlp.errors import listed


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """Tensors, or slices of them, that can be rescaled without changing the function.

    Attributes:
        names: One tensor, or a group that is rescaled by a common factor.
        whole: One factor for all elements changes nothing.
        dim: The dimension along which ``units`` count, the same in all tensors of a group.
        units: Half-open ranges of rows (or columns) along ``dim``, each of which can be rescaled
            by a factor of its own: rows before a batch norm, heads before a q/k norm. Empty where
            only the whole can.
    """

    names: tuple[str, ...]
    whole: bool
    dim: int = 0
    units: tuple[Range, ...] = ()

    def __str__(self) -> str:
        text = " + ".join(self.names)
        if not self.units:
            return text
        sizes = {stop - start for start, stop in self.units}
        axis = ("rows", "columns")[self.dim]
        size = f"{min(sizes)} {axis}" if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)} {axis}"
        return f"{text}: {len(self.units)} x {size}" + ("" if self.whole else ", not the rest")


@dataclass(frozen=True, kw_only=True)
class ScaleInvariance:
    """The scale invariances of a model; iterating yields those of single tensors.

    Attributes:
        model: Name of the model's class.
        alone: One :class:`Invariance` for each tensor that can be rescaled alone, as a whole or in
            some of its rows.
        joint: Groups of tensors none of which can be rescaled alone, small ones first. Not every
            such group is listed, but every tensor of one is in a group that is. Groups overlap
            where tensors can replace one another, as the weights of a branch do.
        no_gradient: Tensors that the outputs do not depend on at all, such as the biases of keys.
        sensitive: All others, the members of joint groups among them.
        not_examined: Tensors of complex or whole numbers.
    """

    model: str
    alone: tuple[Invariance, ...]
    joint: tuple[Invariance, ...]
    no_gradient: tuple[str, ...]
    sensitive: tuple[str, ...]
    not_examined: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Invariance]:
        return iter(self.alone)

    def __len__(self) -> int:
        return len(self.alone)

    def of(self, name: str) -> Invariance | None:
        """Return the invariance of one tensor alone; ``None`` if it has none."""
        return next((one for one in self.alone if one.names == (name,)), None)

    def __str__(self) -> str:
        lines = [f"{self.model}: {len(self.alone)} scale-invariant tensors"]
        lines += [f"  {one}" for one in self.alone]
        shown: list[Invariance] = []
        for one in self.joint:
            if all(set(one.names).isdisjoint(other.names) for other in shown):
                shown.append(one)
        lines += [f"together only: {len(self.joint)}"] if shown else []
        lines += [f"  {one}" for one in shown]
        if len(shown) < len(self.joint):
            lines.append(f"  and {len(self.joint) - len(shown)} that overlap with these")
        if self.no_gradient:
            lines.append(f"no gradient: {listed(self.no_gradient)}")
        if self.not_examined:
            lines.append(f"not examined, no real numbers: {listed(self.not_examined)}")
        return "\n".join(lines)
