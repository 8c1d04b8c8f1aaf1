"""Elements without sums of their own, each with the exit before it.

Every ``add_*`` method takes the width before and after the element, the exit behind it and
whether sums count there. Where these methods are right, so are the labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from .bodies import BODIES, QUERIES, attention
from .builder import AT_END, HEAD, INNER, Builder, Built, Exit, Sums
from .forms import MOVES, STEERS, Env, aside, half, portion, similar
from .parts import Part, make_weight


class Elements(Builder):
    """A builder that knows what each element does to the exit behind it."""

    # Elements of one line -----------------------------------------------------------------------

    def add_norm(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        module = self.norm(dim, exit)
        before = Exit(None, INNER) if self.plain else exit.renewed()
        return Built(self.part(lambda m, x, env: m[0](x), module), before, "norm")

    def add_token(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """The norm by which a parameter is known to be tokens and not a weight."""
        module = self.norm(dim, exit, only="nn.LayerNorm")
        return Built(self.part(lambda m, x, env: m[0](x), module), exit.renewed(), "norm")

    def add_half(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        module = self.part(half, self.norm(dim // 2, exit))
        self.kind("norm on half of the channels")
        return Built(module, exit.blurred(), "half")

    def add_aside(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """A head of its own in the middle of the trunk: no addition follows its norm."""
        self.kind("head in the middle")
        norm = self.norm(dim, AT_END)
        return Built(self.part(aside, norm, self.weight(dim, 4)), exit, "aside")

    def add_act(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        return Built(self.part(lambda m, x, env: m[0](x), self.act()), exit, "act")

    def add_move(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """What moves values or scales them by constants."""
        name = self.pick(MOVES)
        self.kind("moves")
        members = [nn.Dropout(0.1)] if name == "dropout" else []
        return Built(self.part(MOVES[name], *members), exit, name)

    def add_linear(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        module = self.part(lambda m, x, env: m[0](x), self.weight(dim, out))
        return Built(module, exit.behind_weight(), "linear")

    def add_simple(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """A weight that is one contraction, without low-rank adapter."""
        module = self.part(lambda m, x, env: m[0](x), self.weight(dim, out, simple=True))
        return Built(module, exit.behind_weight(), "linear")

    def add_steered(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """A weight whose output is masked or put in order by what the signal says."""
        run = STEERS[self.pick(STEERS)]
        self.kind("choice made from the signal")
        return Built(
            self.part(run, self.weight(dim, out, simple=True)), exit.behind_weight(), "steered"
        )

    def add_adapted(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """Wx + BAx: more than one weight on some path."""
        weight = self._once(lambda rng: make_weight("low rank", dim, dim, self.names))
        module = self.part(lambda m, x, env: m[0](x), weight)
        return Built(module, exit.behind_weight(), "adapted")

    def add_portion(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """A vector times some of the channels: no gain, as it scales no whole branch."""
        self.kind("vector on some of the channels")
        return Built(self.part(portion, self.vector(dim // 4)), exit, "portion")

    def add_similar(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """Tokens mixed by how similar they are, without weight or softmax."""
        self.kind("contraction of the signal with itself")
        return Built(self.part(similar), exit.renewed(), "similar")

    def add_soft(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """Only behind a weight: a sum that enters a softmax does not count."""
        self.kind("softmax over channels")
        return Built(self.part(lambda m, x, env: x.softmax(-1)), exit.blurred(), "soft")

    def add_down(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        def run(m: Part, x: Tensor, env: Env) -> Tensor:
            return m[0](x.reshape(x.shape[0], x.shape[1] // 2, -1))

        return Built(self.part(run, self.weight(2 * dim, dim)), exit.behind_weight(), "down")

    def add_up(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        def run(m: Part, x: Tensor, env: Env) -> Tensor:
            return m[0](x).reshape(x.shape[0], -1, x.shape[2])

        return Built(self.part(run, self.weight(dim, 2 * dim)), exit.behind_weight(), "up")

    def add_body(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        # Outside all branches, a sum of gated experts might or might not be a projection shortcut,
        # and a recurrent state adds up over time.
        here = sums is Sums.TOP
        common = ("mlp", "mlp", "attention")
        name = self.pick(
            k for k in (*BODIES, *common) if not here or k not in ("experts", "recurrent")
        )
        return self._body(name, lambda: BODIES[name](self, dim), exit)

    def add_cross(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        assert exit.weighted is INNER
        return self._body("cross", lambda: attention(self, dim, cross=True), exit)

    def _body(self, name: str, make: Callable[[], nn.Module], exit: Exit) -> Built:
        # Outside all branches only a tail has bodies, so that scores carried on stay in branches.
        assert self.plain or exit.weighted in (INNER, HEAD)
        # Without any addition, a gain before a weight needs a later norm on every path.
        settled = not self.plain or exit.weighted is INNER
        self._inner = exit.weighted if settled else None
        self.budget -= 1
        before = replace(exit.behind_weight(), query=name in QUERIES)
        return Built(make(), before, name)

    def add_squeeze(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """The signal times a gate made of its mean: some path crosses weights, some none."""

        def run(m: Part, x: Tensor, env: Env) -> Tensor:
            return x * torch.sigmoid(m[1](torch.relu(m[0](x.mean(1, keepdim=True)))))

        module = self.part(run, self.weight(dim, 8), self.weight(8, dim))
        return Built(module, exit.join(exit.behind_weight()), "squeeze")

    def add_pool(self, dim: int, out: int, exit: Exit, sums: Sums) -> Built:
        """The tokens weighted by a softmax of what a weight makes of them."""

        def run(m: Part, x: Tensor, env: Env) -> Tensor:
            return (m[0](x).softmax(1) * x).sum(1, keepdim=True)

        self.kind("softmax pooling")
        before = exit.join(exit.behind_weight())
        return Built(self.part(run, self.weight(dim, 1)), before, "pool")
