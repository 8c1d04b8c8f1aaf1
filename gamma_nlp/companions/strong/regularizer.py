"""Apply strong L1 and L2 only at the steps at which learning survives it.

[S] Beyond a tolerance level, strong L1 or L2 stops the learning of a deep network completely,
because the gradient of the loss vanishes. Remedies: begin without it ("Achieving Strong
Regularization for Deep Neural Networks"), or impose it only while the gradients stay coherent in
its presence (Park et al., "Gradient-Coherent Strong Regularization for Deep Neural Networks",
arXiv:1811.08056).

[R] The rules are our reading. They compare two steps in w: g, what the optimizer took for the loss,
and r = lr (l1 sign(w) + l2 w), what the penalty would take (with L1, both over the weights that are
not 0). Under SGD without momentum g is lr times the gradient. Under momentum, Adam and their kin
the gradient says little about the step: Adam's is the same for a loss of any scale, and momentum m
multiplies a lasting gradient by 1 / (1 - m).

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

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.companions.arguments import (
    bare,
    first_names,
    free_key,
    held_now,
    named_parameters,
    refuse_parts,
)
from gamma_nlp.companions.strong.history import Record, Span, StrongReport, StrongRow
from gamma_nlp.companions.strong.metric import check_metric, reaches
from gamma_nlp.companions.strong.rules import Metric, Rule, Scope, StrongSettings, decide
from gamma_nlp.companions.strong.shrink import shrink, shrink_scaled
from gamma_nlp.companions.strong.steps import compare
from gamma_nlp.companions.strong.targets import (
    NAME,
    check,
    check_gradients,
    places_of,
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

    Step hooks see what the optimizer took from the weights, and decide from that. Its own
    decoupled decay is left out; a coupled one is part of its step. If the rule allows it, the
    weights then shrink [R], in one of two metrics:

    * ``euclidean``: ``w *= 1 - lr l2``, then ``w = sign(w) max(|w| - lr l1, 0)``, the proximal step
      of L1, which makes exact zeros. Under SGD with momentum m, l1 and l2 weigh 1 - m of a
      penalty in the loss. Under Adam this is *not* the lasso: every weight goes toward 0 by lr l1
      and away from it by at most about lr, whatever its gradient is, so that l1 is a share of
      Adam's step size, and at l1 < 1 a weight stays whose loss asks for it however faintly.
    * ``preconditioner``: the proximal step in the metric of the optimizer's own step, lr f for a
      gradient with f = 1 / (sqrt(v) + eps) under Adam: ``w = sign(w) max(|w| - lr f l1, 0) /
      (1 + lr f l2)``. At rest the loss and both penalties balance: l1 and l2 are those of a lasso
      or an elastic net, and count in units of the loss [D].

    Either is decoupled: as parts of the gradient, the penalties would leave no zeros.

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
        ratio: The largest |r| / |g| at which ``magnitude`` acts. Both are steps.
        scope: ``global`` decides for all tensors together, ``tensor`` for each.
        every: Decide at each step that is a multiple of this, and shrink by the sum of the
            learning rates since the last decision. Saves time.
        metric: ``euclidean`` or ``preconditioner``.
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
        metric: Metric = "euclidean",
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
            metric=metric,
        )
        self.optimizer = optimizer = bare(optimizer)
        self.key = free_key(optimizer, KEY)
        known = named_parameters(optimizer, model)
        if names is None:
            names = weights_of(known, model, table, inputs)
        self._places = places_of(optimizer, known, first_names(names, model))
        check(optimizer, self._places, self.settings)
        self._shapes = {name: w.shape for name, (_, w) in known.items() if name in self._places}
        if metric == "preconditioner":
            check_metric(optimizer)
        self._record = Record(list(self._places), every)
        self._calls = 0
        self._steps: int | Tensor = 0
        self._started: bool | Tensor = False
        self._dose: dict[int, Any] = {}
        self._zeros: dict[str, Tensor] = {}
        self._before: list[Tensor] | None = None
        self._keep: Tensor | None = None
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: self.before_step()),
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

    @property
    def _dose_groups(self) -> set[int]:
        return {group for group, _ in self._places.values()}

    def _parameters(self) -> list[Tensor]:
        now = held_now(self.optimizer, self._places, self._shapes)
        refuse_parts(now, NAME, takes=())
        return list(now.values())

    def _tensors(self) -> list[Tensor]:
        return [w.detach() for w in self._parameters()]

    @torch.no_grad()
    def before_step(self) -> None:
        """Count the step and, where there will be a decision, keep the weights; a hook calls it."""
        self._parameters()  # says so where an engine has put others in their place
        found_inf = getattr(self.optimizer, "found_inf", None)
        self._keep = None if found_inf is None else (found_inf == 0).to(torch.float32).reshape(())
        counts: Any = 1 if self._keep is None else self._keep  # 0: a grad scaler skips this step
        self._started = self._steps >= self.settings.delay_steps
        self._steps = self._steps + counts
        self._calls += 1
        for number in self._dose_groups:
            lr = self.optimizer.param_groups[number]["lr"]
            due = (lr.detach() if isinstance(lr, Tensor) else lr) * counts
            # What is delayed is left out, not put off.
            self._dose[number] = self._dose.get(number, 0.0) + due * self._started
        self._before = None
        if self._calls % self.settings.every == 0:
            check_gradients(self.optimizer, self._places)
            self._before = [w.clone() for w in self._tensors()]

    @torch.no_grad()
    def after_step(self) -> None:
        """Compare the two steps, decide and shrink; a hook calls it."""
        before, self._before = self._before, None
        if before is None:
            return
        check_gradients(self.optimizer, self._places)  # a closure has made them since
        live = [i for i, w in enumerate(self._parameters()) if w.grad is not None]
        if not live:
            return
        names = [list(self._places)[i] for i in live]
        tensors = [self._tensors()[i] for i in live]
        places = [list(self._places.values())[i] for i in live]
        found = compare(self.optimizer, places, [before[i] for i in live], tensors, self.settings)
        acts, coherence = decide(found, self.settings, self._started)
        keep = self._keep
        if keep is not None:
            acts = acts & (keep != 0).to(acts.device)
        self._record.add(live, acts, coherence, keep)
        self._shrink(names, places, tensors, acts)
        for number, dose in self._dose.items():
            self._dose[number] = 0.0 if keep is None else dose * (1 - keep)

    def _shrink(
        self,
        names: Sequence[str],
        places: Sequence[tuple[int, int]],
        tensors: list[Tensor],
        acts: Tensor,
    ) -> None:
        l1, l2, zeros = self.settings.l1, self.settings.l2, None
        if self._remembers_zeros:
            zeros = [self._zeros_of(name, w) for name, w in zip(names, tensors, strict=True)]
        doses = [self._dose[group] for group, _ in places]
        if self.settings.metric == "euclidean":
            shrink(tensors, vector(doses, acts.device), l1=l1, l2=l2, acts=acts, zeros=zeros)
        else:
            far = reaches(self.optimizer, places, doses)
            shrink_scaled(tensors, far, l1=l1, l2=l2, acts=acts, zeros=zeros)

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
            "dose": {number: float(dose) for number, dose in self._dose.items()},
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
        saved = state["dose"]
        saved = dict(enumerate(saved)) if isinstance(saved, list) else saved
        self._dose = {n: dose for n, dose in saved.items() if n in self._dose_groups}
        self._record.load(state["record"])
