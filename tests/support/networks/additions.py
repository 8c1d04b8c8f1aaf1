"""Sums: which of them are residual additions, and what that makes of the gains around them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .builder import IN_BRANCH, ON_SKIP, Built, Exit, Sums
from .elements import Elements
from .forms import (
    ADDS,
    BENT,
    BRANCHES,
    GATED,
    NAMED,
    NESTED,
    NETWORKS,
    PARALLELS,
    PROJECTIONS,
    SCALES,
    WIDE,
    WRAPS,
    Run,
    add_fused,
    carried,
    scored,
    sum_of_members,
)


class Additions(Elements):
    """A builder that knows which sums the rule counts."""

    # Sums that the rule may count ---------------------------------------------------------------

    def add_residual(self, dim: int, out: int, exit: Exit, sums: Sums, kinds: str = "") -> Built:
        """x + F(x)."""
        counted = sums is not Sums.NONE
        self.depth += 1
        kinds = kinds or self._branch(sums)
        wrap = self.pick(WRAPS) if self.flag(0.06) else ""
        fused = self.flag(0.1)
        ends = IN_BRANCH if counted else exit.blurred()
        inside = Sums.SPAN if counted and not fused else Sums.NONE
        network = kinds in NETWORKS
        self.networks += network
        if network:
            self.kind("outer skip around a network")
            inside = Sums.TOP
        last = self.weight_matrix(dim) if fused else None
        branch = self.stream(kinds, dim, ends.behind_weight() if fused else ends, inside)
        self.depth -= 1
        self.networks -= network
        members: list[Any] = [branch.module]
        text = branch.text
        if wrap:
            self.kind(wrap)
            members = [self.part(WRAPS[wrap], branch.module)]
        if last is not None:
            self.kind("sum fused with a weight")
            run: Run = add_fused
            members.append(last)
            text += " fused"
        elif counted and self.flag(0.15):
            self.kind("layer scale")
            scale, offset, run = self._scale(dim)
            self.use(scale, IN_BRANCH, offset)
            members.append(scale)
            text += " scale"
        elif self.flag(0.15):
            # Gated sums make no trunk, so a network in a branch has none.
            name = self.pick([name for name in GATED if name != "highway" or not self.networks])
            self.kind(name)
            run = GATED[name]
            members.append(self.weight(dim, dim) if name == "highway" else self.vector(dim))
            text += f" {name}"
        else:
            name = self.pick(ADDS)
            self.kind(f"add: {name}")
            run = ADDS[name]
        if counted:
            self.kind("residual" if fused else NAMED.get(kinds, "residual"))
            return Built(self.part(run, *members), ON_SKIP, f"res({text})")
        self.kind("uncounted residual inside a branch")
        before = exit.blurred().join(branch.before)
        return Built(self.part(run, *members), before, f"sum({text})")

    def _branch(self, sums: Sums) -> str:
        if self.wish and (sums is Sums.TOP or self.wish not in NETWORKS):
            kinds, self.wish = self.wish, ""
            return kinds
        if self.depth <= 2 and self.budget > 2 and self.flag(0.35):
            return str(self.pick(NESTED + NETWORKS if sums is Sums.TOP else NESTED))
        return str(self.pick(BRANCHES))

    def weight_matrix(self, dim: int) -> nn.Parameter:
        return self._once(lambda rng: nn.Parameter(torch.randn(dim, dim) / dim**0.5))

    def _scale(self, dim: int) -> tuple[nn.Parameter, int, Run]:
        name = self.pick(SCALES)
        run, offset = SCALES[name]
        shape = self.pick([(dim,), (1,), (1, 1, dim)])
        low, high = 0.5 - offset, 1.5 - offset
        scale = self._once(lambda rng: nn.Parameter(torch.empty(shape).uniform_(low, high)))
        return scale, offset, run

    def add_parallel(
        self, dim: int, out: int, exit: Exit, sums: Sums, rows: tuple[str, ...] = ()
    ) -> Built:
        """x + A(h) + B(h), where h is x or its norm."""
        counted = sums is not Sums.NONE
        name = "branches first" if rows else self.pick(PARALLELS)
        ends = IN_BRANCH if counted else exit.blurred()
        if name != "in turn":
            ends = ends.blurred()
        rows = rows or (self.pick(BRANCHES), self.pick(BRANCHES))
        arms = [self.stream(row, dim, ends, Sums.NONE) for row in rows]
        before = arms[0].before.join(arms[1].before)
        members = [arm.module for arm in arms]
        text = " | ".join(arm.text for arm in arms)
        if self.flag():
            members.append(self.norm(dim, before))
            before, text = before.renewed(), f"norm {text}"
        module = self.part(PARALLELS[name], *members)
        self.kind("parallel branches")
        return Built(module, ON_SKIP if counted else exit.blurred().join(before), f"par({text})")

    def add_project(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """A projection shortcut outside all branches; inside one, a sum like any other."""
        counted = sums is Sums.TOP
        skip, branch = self.pick(PROJECTIONS), self.pick(BENT)
        ends = (ON_SKIP, IN_BRANCH) if counted else (exit.blurred(), exit.blurred())
        left = self.stream(skip, dim, ends[0], Sums.NONE, out)
        right = self.stream(branch, dim, ends[1], Sums.NONE, out)
        module = self.part(sum_of_members, *self._shuffled(left.module, right.module))
        self.kind("projection shortcut" if counted else "projection in a branch")
        before = ON_SKIP if counted else exit.behind_weight()
        return Built(module, before, f"project({left.text} | {right.text})")

    def add_beside(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """x + (A(x) + B(x)), x behind a weight W: to A and B this looks like a projection by W."""
        x = self.weight(dim, dim)
        self.kind("projection in a branch")
        after = self.add_parallel(dim, dim, exit, sums, ("norm", "linear act linear"))
        module = self.part(lambda m, x, env: m[1](m[0](x), env), x, after.module)
        return Built(module, after.before.behind_weight(), f"linear {after.text}")

    def add_carried(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """Two pre-norm blocks, the addition of the first delayed into the second."""
        counted = sums is not Sums.NONE
        ends = IN_BRANCH if counted else exit.blurred()
        members: list[nn.Module] = []
        before = exit.blurred()
        for _ in range(2):
            body = self.add_body(dim, dim, ends, Sums.NONE)
            norm = self.norm(dim, body.before)
            members[:0] = [norm, body.module]
            before = before.join(body.before.renewed())
        self.kind("delayed addition")
        module = self.part(carried, *members)
        return Built(module, ON_SKIP if counted else before, "carried")

    # Sums that never count ----------------------------------------------------------------------

    def add_wide(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """A sum of two maps of which neither carries x: no skip, whatever surrounds it."""
        first, second = self.pick(WIDE)
        arms = [self.stream(kinds, dim, exit.blurred(), Sums.NONE) for kinds in (first, second)]
        self.kind(f"sum of {first} and {second}")
        module = self.part(sum_of_members, *self._shuffled(*(arm.module for arm in arms)))
        return Built(module, exit.behind_weight(), f"wide({first} | {second})")

    def add_scored(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """A sum that enters a softmax, of a weight and of two with a nonlinearity between them."""
        inside = exit.behind_weight()
        arms = [
            self.stream(kinds, dim, inside, Sums.NONE) for kinds in ("simple", "linear act linear")
        ]
        self.kind("sum that enters a softmax")
        module = self.part(scored, *(arm.module for arm in arms), self.weight(dim, dim))
        return Built(module, inside, "scored")

    def add_long(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """x + S(x) where x reaches S(x) over skips: both operands carry x, neither is a branch."""
        rows = ["residual", "residual act"] + ["residual residual"] * (sums is Sums.TOP)
        inner = self.stream(self.pick(rows), dim, exit.blurred(), sums)
        self.kind("long skip over pre-norm blocks")
        module = self.part(ADDS[self.pick(["x + y", "y + x", "weighted"])], inner.module)
        return Built(module, inner.before.join(exit.blurred()), f"long({inner.text})")

    def _shuffled(self, *members: Any) -> list[Any]:
        return self.rng.sample(members, len(members))
