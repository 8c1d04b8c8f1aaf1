"""Elements of several blocks: shared, concatenated, in two streams, or reading a memory."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from .additions import Additions
from .builder import IN_BRANCH, ON_SKIP, Built, Exit, Sums
from .forms import BRANCHES, Env, exchange, repeat, two_streams
from .parts import Part


class Stacks(Additions):
    """A builder that knows all elements."""

    def add_concat(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """W [x, S(x)], as in U-shaped networks that concatenate."""
        kinds = self.pick(["residual", "down residual up", "linear norm", "residual norm"])
        here = sums if sums is Sums.TOP else Sums.NONE
        inner = self.stream(kinds, dim, exit.behind_weight(), here)

        def run(m: Part, x: Tensor, env: Env) -> Tensor:
            return m[1](torch.cat((x, m[0](x, env)), dim=-1))

        module = self.part(run, inner.module, self.weight(2 * dim, dim))
        self.kind("concatenated skip")
        before = inner.before.join(exit.behind_weight())
        return Built(module, before, f"concat({inner.text})")

    def add_xres(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """A residual block that reads the memory."""
        kinds = self.pick(["norm cross", "cross", "norm cross norm", "cross norm"])
        return self.add_residual(dim, out, exit, sums, kinds)

    def add_latent(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """The first block of latent tokens, which are a parameter."""
        return self.add_residual(dim, out, exit, sums, "token cross")

    def add_loop(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """One block run several times: built once per run, from the same members."""
        kinds, turns = self.pick(["residual", "residual norm", "norm residual"]), self.pick([2, 3])
        assert sums is Sums.TOP and self._tape is None
        state, self._tape = (self.rng.getstate(), self.budget, self.wish), []
        built = block = self.stream(kinds, dim, exit, sums)
        tape, self._tape = self._tape, None
        for _ in range(turns - 1):
            after, self._replay = self.rng.getstate(), list(tape)
            self.rng.setstate(state[0])
            self.budget, self.wish = state[1:]
            block = self.stream(kinds, dim, block.before, sums)
            assert self.rng.getstate() == after and not self._replay
        module = self.part(repeat, built.module, turns=turns)
        self.kind("shared block")
        return Built(module, block.before, f"{turns} x ({built.text})")

    def add_streams(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """Two streams, each with its own additions, that read each other's last state."""
        assert sums is Sums.TOP
        cut = dim == 16 and self.flag()
        size = dim // 2 if cut else dim
        turns, closing = self.pick([1, 2]), self.flag()
        members: list[nn.Module] = []
        ends, texts = exit.behind_weight(), []
        for turn in range(turns):  # the last turn first
            for _ in range(2):
                after = ends if turn == 0 else ON_SKIP
                post = [self.norm(size, replace(after, clear=True))] if closing else []
                branch = self.stream(self.pick(BRANCHES), size, IN_BRANCH, Sums.NONE)
                mix = self.weight(2 * size, size)
                into = replace(branch.before.behind_weight(), clear=True)
                norms = [self.norm(size, into) for _ in range(2)]
                cell = self.part(exchange, branch.module, mix, *norms, *post)
                members.insert(0, cell)
                texts.insert(0, branch.text)
        merge = self.weight(2 * size, dim)
        module = self.part(two_streams, *members, merge, cut=cut)
        self.kind("two streams" + (", post-norm" if closing else ""))
        return Built(module, ON_SKIP, f"streams({', '.join(texts)})")
