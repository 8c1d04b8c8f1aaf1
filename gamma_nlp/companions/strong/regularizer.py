"""Apply strong L1 and L2 only at the steps at which learning survives it.

[S] Beyond a tolerance level, strong L1 or L2 stops the learning of a deep network completely,
because the gradient of the loss vanishes. Remedies: begin without it ("Achieving Strong
Regularization for Deep Neural Networks"), or impose it only while the gradients stay coherent in
its presence (Park et al., "Gradient-Coherent Strong Regularization for Deep Neural Networks",
arXiv:1811.08056).

[R] The rules are our reading, with g the gradient of the loss, r = l1 sign(w) + l2 w (with L1,
both over the weights that are not 0):

=============  ============================================
always         at every step, the usual way
delayed [S]    after the first ``delay_steps`` steps
direction      only if cos(g, g + r) >= ``threshold``
magnitude      only if |r| <= ``ratio`` |g|
=============  ============================================

[D] Where r and g are orthogonal, as nearly so in a network with many weights, cos(g, g + r) is
1 / (1 + |r|**2 / |g|**2)**0.5: ``direction`` at ``threshold`` t is then ``magnitude`` at ``ratio``
(1 / t**2 - 1)**0.5.

[D] The collapse needs a network without normalisation: there a layer's gradient scales with the
product of the other layers' norms, and all of them shrink together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.companions.arguments import bare, free_key, name_list, named_parameters
from gamma_nlp.companions.strong.history import Record, Span, StrongReport, StrongRow
from gamma_nlp.companions.strong.rules import Rule, Scope, StrongSettings, decide, measure, shrink
from gamma_nlp.companions.strong.targets import (
    check,
    gradients_of,
    places_of,
    unscaled,
    vector,
    weights_of,
)
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.table import GainTable
from gamma_nlp.names import renamed_arguments

KEY = "strong_regularization"
"""The key of the state in the optimizer's ``state_dict``."""


class StrongRegularizer:
    """Add L1 and L2 to an optimizer, at the steps at which a rule allows it.

    A step hook decides from the gradients before the optimizer changes anything. After the
    optimizer's step it shrinks the weights [R]: ``w *= 1 - lr l2``, then
    ``w = sign(w) max(|w| - lr l1, 0)``, the proximal step of L1, which makes exact zeros. Both are
    decoupled: as parts of the gradient, Adam would divide them by the size of the gradient, and no
    zeros would appear. With momentum m, SGD moves 1 / (1 - m) times as far for a gradient, so l1
    and l2 weigh 1 - m of a penalty in the loss.

    A weight that was made 0 stays 0 until the regulariser acts again; then the optimizer's step
    can bring it back. Between decisions (``every`` > 1) such weights move: call
    :meth:`restore_zeros` before saving and at the end.

    Half-precision weights lose steps that are below their rounding: keep them in float32.

    The state is saved with the optimizer's ``state_dict`` and loaded with it. A copied or pickled
    optimizer loses the hooks: make a new ``StrongRegularizer`` for it.

    Args:
        optimizer: A ``torch.optim`` optimizer with an ``lr`` in its groups, or what accelerate's
            ``prepare`` made of it.
        l1: Coefficient of L1.
        l2: Coefficient of L2.
        rule: ``always``, ``delayed``, ``direction`` or ``magnitude``.
        delay_steps: Steps without regularisation at the start, under any rule.
        threshold: The least cosine at which ``direction`` acts.
        ratio: The largest |r| / |g| at which ``magnitude`` acts.
        scope: ``global`` decides for all tensors together, ``tensor`` for each.
        every: Decide at each step that is a multiple of this, and shrink by the sum of the
            learning rates since the last decision. Saves time.
        names: Names of the tensors. By default the model's weights: what is contracted with the
            signal (matrices, convolutions), without gains, shifts, biases, embeddings.
        model: The model whose names these are, and whose weights are regularised without ``names``.
        table: The model's gain table, if there is one already.
        inputs: Inputs that the model takes, to find its weights; models of transformers need none.

    Raises:
        GammaError: A setting is out of range, the optimizer lacks a name, there is no tensor to
            regularise, or ``l2`` meets tensors that the optimizer decays itself.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2))
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> strong = StrongRegularizer(
        ...     optimizer, model=net, inputs=torch.ones(3, 20), l1=10, rule="always"
        ... )
        >>> net(torch.ones(3, 20)).sum().backward()
        >>> optimizer.step()
        >>> strong.report().sparsity
        1.0
    """

    @renamed_arguments(example_inputs="inputs", params="names")
    def __init__(
        self,
        optimizer: Optimizer,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        rule: Rule = "direction",
        delay_steps: int = 0,
        threshold: float = 0.3,
        ratio: float = 3.0,
        scope: Scope = "global",
        every: int = 1,
        names: Iterable[str] | None = None,
        model: nn.Module | None = None,
        table: GainTable | None = None,
        inputs: Any = None,
    ) -> None:
        self.settings = StrongSettings(
            l1=l1,
            l2=l2,
            rule=rule,
            delay_steps=delay_steps,
            threshold=threshold,
            ratio=ratio,
            scope=scope,
            every=every,
        )
        self.optimizer = optimizer = bare(optimizer)
        self.key = free_key(optimizer, KEY)
        known = named_parameters(optimizer, model)
        if names is None:
            names = weights_of(known, model, table, inputs)
        self._places = places_of(optimizer, known, name_list(names))
        check(optimizer, self._places, self.settings)
        self._record = Record(list(self._places), every)
        self._calls = 0
        self._steps: int | Tensor = 0
        self._dose: list[Any] = [0.0] * len(optimizer.param_groups)
        self._zeros: dict[str, Tensor] = {}
        self._due: tuple[list[int], Tensor, Tensor | None] | None = None
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(lambda *_: self.after_step()),
            optimizer.register_state_dict_post_hook(self._save),
            # Before other hooks, which may pass on a state without our entry.
            optimizer.register_load_state_dict_pre_hook(self._load, prepend=True),
        ]

    def remove(self) -> None:
        """Stop regularising; zeros are free to move from now on."""
        for hook in self._hooks:
            hook.remove()

    def report(self) -> StrongReport:
        """Return what it did so far, tensor by tensor, and the zeros there are now."""
        zeros = torch.stack([(w == 0).sum().cpu() for w in self._tensors()]).tolist()
        *each, (acted, coherence) = self._record.means()
        rows = [
            StrongRow(name=name, elements=w.numel(), zeros=zero, acted=one[0], coherence=one[1])
            for name, w, zero, one in zip(self._places, self._tensors(), zeros, each, strict=True)
        ]
        return StrongReport(
            rows=tuple(rows), acted=acted, coherence=coherence, steps=int(self._steps)
        )

    def history(self) -> list[Span]:
        """Return how often it acted and how coherent the gradients were, over the run."""
        return self._record.history()

    def totals(self) -> tuple[float, float, float]:
        """Return sums over all decisions so far: of acted, of coherence, and their number."""
        return self._record.totals()

    @torch.no_grad()
    def restore_zeros(self) -> None:
        """Set weights to 0 again that the last shrinking made 0 and the optimizer moved since."""
        for name, w in zip(self._places, self._tensors(), strict=True):
            if name in self._zeros:
                w.masked_fill_(self._zeros[name].to(w.device), 0.0)

    def _tensors(self) -> list[Tensor]:
        """Return the tensors that are in the groups now: sharded data parallel replaces them."""
        groups = self.optimizer.param_groups
        return [groups[group]["params"][index].detach() for group, index in self._places.values()]

    def _before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self._due = None
        # As in gamma_nlp.decay.step_hook: a closure makes the gradients inside the step.
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self.before_step()
            return None
        once = partial(self._run_then_observe, closure, [])
        if "closure" in kwargs:
            return args, {**kwargs, "closure": once}
        return (args[0], once, *args[2:]), kwargs

    def _run_then_observe(self, closure: Any, seen: list[bool]) -> Any:
        loss = closure()
        if not seen:  # some optimizers call it several times in one step
            seen.append(True)
            self.before_step()
        return loss

    @torch.no_grad()
    def before_step(self) -> None:
        """Decide from the current gradients; the hook calls it."""
        found_inf = getattr(self.optimizer, "found_inf", None)
        keep = None if found_inf is None else (found_inf == 0).to(torch.float32).reshape(())
        counts: Any = 1 if keep is None else keep  # 0 at a step that a grad scaler skips
        started = self._steps >= self.settings.delay_steps
        self._steps = self._steps + counts
        self._calls += 1
        for number, group in enumerate(self.optimizer.param_groups):
            lr = group["lr"]
            lr = lr.detach() if isinstance(lr, Tensor) else lr
            self._dose[number] = self._dose[number] + lr * counts
        if self._calls % self.settings.every:
            return
        tensors = self._tensors()
        gradients = gradients_of(self.optimizer, self._places)
        live = [i for i, g in enumerate(gradients) if g is not None]
        if not live:
            return
        found = measure(
            [tensors[i] for i in live],
            [g for g in gradients if g is not None],
            l1=self.settings.l1,
            l2=self.settings.l2,
        )
        groups = [group for group, _ in self._places.values()]
        found = unscaled(found, self.optimizer, [groups[i] for i in live])
        acts, coherence = decide(found, self.settings, started)
        if keep is not None:
            acts = acts & (keep != 0).to(acts.device)
        self._record.add(live, acts, coherence, keep)
        self._due = live, acts, keep

    @torch.no_grad()
    def after_step(self) -> None:
        """Shrink the tensors of the last decision; the hook calls it."""
        if self._due is None:
            return
        live, acts, keep = self._due
        self._due = None
        tensors, places = self._tensors(), list(self._places.items())
        doses = [self._dose[places[i][1][0]] for i in live]
        shrink(
            [tensors[i] for i in live],
            vector(doses, acts.device),
            l1=self.settings.l1,
            l2=self.settings.l2,
            acts=acts,
            zeros=[self._zeros_of(places[i][0], tensors[i]) for i in live]
            if self._remembers_zeros
            else None,
        )
        self._dose = [0.0 if keep is None else dose * (1 - keep) for dose in self._dose]

    @property
    def _remembers_zeros(self) -> bool:
        """Whether zeros have to be remembered: some steps may move them without shrinking."""
        steady = self.settings.rule in ("always", "delayed") and self.settings.every == 1
        return bool(self.settings.l1) and not steady

    def _zeros_of(self, name: str, w: Tensor) -> Tensor:
        found = self._zeros.get(name)
        if found is None or found.device != w.device:
            new = torch.zeros_like(w, dtype=torch.bool)
            found = self._zeros[name] = new if found is None else found.to(w.device)
        return found

    def _save(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        state = {
            "calls": self._calls,
            "steps": int(self._steps),
            "dose": [float(dose) for dose in self._dose],
            "zeros": {name: zero.clone() for name, zero in self._zeros.items()},
            "record": self._record.state(),
        }
        return {**state_dict, self.key: state}

    def _load(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        state: Mapping[str, Any] | None = state_dict.get(self.key)
        if state is not None:
            self._take(state)
        return {key: value for key, value in state_dict.items() if key != self.key}

    def _take(self, state: Mapping[str, Any]) -> None:
        shapes = {name: w.shape for name, w in zip(self._places, self._tensors(), strict=True)}
        zeros = {name: zero for name, zero in state["zeros"].items() if name in shapes}
        for name, zero in zeros.items():
            if zero.shape != shapes[name]:
                raise GammaError(
                    f"the saved zeros of {name!r} have shape {tuple(zero.shape)}, the tensor has "
                    f"{tuple(shapes[name])}: the saved state is of another model"
                )
        self._zeros = {name: zero.clone() for name, zero in zeros.items()}
        self._calls, self._steps = int(state["calls"]), int(state["steps"])
        same = len(state["dose"]) == len(self._dose)
        self._dose = list(state["dose"]) if same else [0.0] * len(self._dose)
        self._record.load(state["record"])
