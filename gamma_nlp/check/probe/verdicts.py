"""Change one gain at a time and derive its category from what moves.

Each use of a gain is changed by itself, every channel by its own factor. The totals of all residual
additions are held, so the change ends at the gain's first addition on every path. What moves there
is the category::

    x ──┬───────────────────────────────┐        shortcut      a skip moves
        └── norm ── weight ── norm ─────+──      branch_last   a branch moves, and still does with
              │                │                               all weights held
        branch_inner      branch_last            branch_inner  a branch moves through weights only
                                                 head          the output moves, no addition does
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gamma_nlp.check.probe.additions import Sum
from gamma_nlp.check.probe.changes import Changes, stronger
from gamma_nlp.check.probe.noise import Signals
from gamma_nlp.check.probe.report import Finding, Verdict
from gamma_nlp.check.probe.tape import Key, Play, Ref, Step
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import Gain

CAUTION = (Category.SHORTCUT, Category.HEAD, Category.BRANCH_LAST, Category.BRANCH_INNER)
"""Of the categories of several uses, the first in this order decides."""

CLEAR = 1e-3
"""A strong change must move something by more than this; tiny weights may hide other paths."""

EMPTY = 1e-6
"""What may be left of a branch whose gain is 0, relative to the branch."""


@dataclass(frozen=True, kw_only=True)
class _Use:
    category: Category | None
    deviation: float
    why: str
    where: str = ""
    """The addition that decides, as the end of a reason."""
    decides: tuple[Ref, ...] = ()
    """The operand or outputs that decide."""
    route: frozenset[tuple[str, str]] | None = None
    """The modules and operations that the change reaches; ``None`` if the use always counts."""


def _may_be_ignored(use: _Use, settled: list[_Use]) -> bool:
    """Return whether a use in which nothing moves may follow another that was settled.

    In a loop over queries, one query may have nothing to choose from.
    """
    route = use.route
    return route is not None and any(route <= other.route for other in settled if other.route)


STILL = "nothing moves when the gain changes"


class Judge:
    """Experiments on the gains of one tape.

    Args:
        signals: The tape and what its steps are.
        counted: The residual additions.
        mute: Sums that may be residual additions, see :func:`additions`.
        dtype: The precision of the parameters.
    """

    def __init__(
        self, signals: Signals, counted: list[Sum], mute: list[int], dtype: torch.dtype
    ) -> None:
        self.signals, self.counted, self.mute = signals, counted, mute
        self.tape, self.facts = signals.tape, signals.facts
        # What comes after a mute sum would look like what comes after no addition: stop there too.
        self.totals = {addition.step for addition in counted} | {*mute}
        self.changes = Changes(signals, counted, dtype)

    def judge(self, gain: Gain, key: Key | None) -> Finding:
        """Compare one row of a gain table with what the gain does."""
        uses = [] if key is None else self.changes.reads(gain.name, key)
        if not uses:
            verdict: Verdict = "agrees" if gain.category is None else "inconclusive"
            return self._finding(gain, None, verdict, 0.0, "no operation reads it")
        assert key is not None
        found = [self._use(gain, key, step, position) for step, position in uses]
        settled = [use for use in found if use.category is not None]
        if gain.category is None and all(use.why == STILL for use in found):
            return self._finding(gain, None, "agrees", 0.0, STILL)
        if not any(use.category is CAUTION[0] for use in settled):
            for use in found:
                if use.category is None and not _may_be_ignored(use, settled):
                    return self._finding(gain, None, "inconclusive", use.deviation, use.why)
        measured = min((use.category for use in settled if use.category), key=CAUTION.index)
        use = next(use for use in settled if use.category is measured)
        verdict = "agrees" if measured is gain.category else "contradicts"
        return self._finding(gain, measured, verdict, use.deviation, use.why)

    def _finding(
        self,
        gain: Gain,
        measured: Category | None,
        verdict: Verdict,
        deviation: float,
        why: str,
    ) -> Finding:
        return Finding(
            name=gain.name,
            claimed=gain.category,
            measured=measured,
            verdict=verdict,
            deviation=deviation,
            tolerance=self.signals.tolerance,
            why=why,
        )

    def _use(self, gain: Gain, key: Key, step: Step, position: int) -> _Use:
        """Change the gain where one step reads it, and see what moves."""
        place = (step.index, position)
        factors = self.changes.factors(key)
        changed = {place: self.changes.operand(gain, key, place, factors)}
        play = self.changes.play(changed, hold=self.totals)
        found = self._settle(play, changed)
        # Without additions, norms that it reaches by itself would look as if a choice led there.
        if found is not None and self.counted and self.changes.steers(play):
            found = self._steered(changed, found, self._leads_to_a_skip(play))
        if found is not None and found.decides:  # say how far the change itself moves it
            plain = self.changes.play(changed, hold=self.totals, renewed=False)
            movement = max(plain.moved(ref) for ref in found.decides)
            found = replace(found, deviation=movement)
        if found is None:
            found = self._change_more(changed) or self._muted(play) or self._dropped(play)
        if found is None:
            found = _Use(category=None, deviation=0.0, why=STILL)
        elif found.category is None:
            return found
        elif found.category is Category.BRANCH_LAST:
            found = self._check_zero(gain, key, place, found)
        return replace(found, route=self.changes.route(play))

    def _settle(
        self, play: Play, changed: dict[tuple[int, int], Tensor] | None = None
    ) -> _Use | None:
        """Derive the category from what a change moves; ``None`` if nothing moves.

        Without ``changed`` the play let choices follow the gain, and these count as weights.
        """
        by = "" if changed else " by a choice"
        skips = self.changes.moved(play, [(a, a.skip) for a in self.counted])
        if skips:
            return self._moving(Category.SHORTCUT, f"the skip moves{by}", skips)
        if muted := self._muted(play):
            return muted
        branches = self.changes.moved(play, [(a, a.branch) for a in self.counted])
        if branches and changed:
            near = self.changes.play(changed, hold=self.totals | self.facts.weights)
            straight = self.changes.moved(near, [(a, a.branch) for a in self.counted])
            if straight:
                return self._moving(Category.BRANCH_LAST, "the branch moves", straight)
        if branches:
            why = f"the branch moves{by or ' through a weight'}"
            return self._moving(Category.BRANCH_INNER, why, branches)
        outputs = max((play.moved(ref) for ref in self.tape.outputs), default=0.0)
        if outputs <= self.signals.tolerance:
            return None
        again = not self.counted and (
            self.changes.renormalised(play)
            if changed
            else self.changes.reaches_norm(self.changes.chosen(play))
        )
        if again:
            what = "weight" if changed else "choice"
            why = f"no addition in the model; a {what} and a norm follow"
            return _Use(
                category=Category.BRANCH_INNER,
                deviation=outputs,
                why=why,
                decides=self.tape.outputs,
            )
        why = f"the output moves{by} and no addition does"
        return _Use(category=Category.HEAD, deviation=outputs, why=why, decides=self.tape.outputs)

    def _change_more(self, changed: dict[tuple[int, int], Tensor]) -> _Use | None:
        """Change the gain more strongly, signs included, then let choices follow it.

        A norm undoes a change of size alone, and indices and masks change only now and then.
        """
        for larger in stronger(changed):
            held = self.changes.play(larger, hold=self.totals)
            if movement := self.changes.largest(held):
                found = self._settle(held, larger) if movement > CLEAR else None
                if found is not None:
                    return found
                continue  # something moves without a choice, too little to tell what
            if found := self._by_choice(larger):
                return found
        return None

    def _by_choice(
        self, changed: dict[tuple[int, int], Tensor], *, renewed: bool = False
    ) -> _Use | None:
        """Let choices follow a change, and see what moves."""
        try:
            play = self.changes.play(changed, hold=self.totals, choices=True, renewed=renewed)
        except (RuntimeError, IndexError):  # the choice changes the shapes of what follows
            return None
        return self._settle(play)

    def _leads_to_a_skip(self, play: Play) -> bool:
        """Return whether a skip is made of what a change moves, even if it stays still."""
        edge = [*play.live]
        seen = {*edge}
        while edge:
            for index in self.tape.readers(edge.pop()):
                if index not in self.totals:
                    new = {ref.key for ref in self.tape.steps[index].writes} - seen
                    edge += new
                    seen |= new
        return any(addition.skip.key in seen for addition in self.counted)

    def _steered(
        self, changed: dict[tuple[int, int], Tensor], found: _Use, skip_ahead: bool
    ) -> _Use:
        """Return the use of a gain once choices follow it, ``found`` if they change nothing.

        They can lead it to a branch, where it moved an output alone, and to a skip: of some
        tokens the recorded pass may have chosen none.
        """
        better = {*CAUTION[:1]} if skip_ahead else set()
        if found.category is Category.HEAD:
            better = {*CAUTION} - {Category.HEAD}
        if found.category in (None, Category.SHORTCUT) or not better:
            return found
        for turn, larger in enumerate(stronger(changed)):
            # Renewed noise has the size of the recorded values, however strong the change.
            use = self._by_choice(larger, renewed=turn % 2 == 1)
            if use is not None and use.category in better:
                return use
        return found

    def _muted(self, play: Play) -> _Use | None:
        """Return a use without a category if the change moves a mute sum."""
        for index in self.mute:
            step = self.tape.steps[index]
            if any(self.signals.moves(play, ref) for ref in self.signals.operands(step)):
                place = f" in {step.module!r}" if step.module else ""
                why = f"it moves an addition{place} whose other side nothing moves"
                return _Use(category=None, deviation=0.0, why=why)
        return None

    def _dropped(self, play: Play) -> _Use | None:
        """Return ``head`` if all that the gain reaches moves, and nothing uses it."""
        moved = []
        for key in play.live:
            for index in self.tape.readers(key):
                step = self.tape.steps[index]
                if not all(ref.is_float for ref in step.writes):
                    return None  # a choice uses it
                # Of a fused attention its statistic may move, which nothing reads.
                used = [ref for ref in step.writes if self.tape.readers(ref.key)]
                moved.append(max(play.moved(ref) for ref in used or step.writes))
        moved += [max(play.moved(r) for r in self.facts.maker[k].writes) for k in play.live]
        if not moved or min(moved) <= self.signals.tolerance:
            return None
        why = "no addition and no output uses it"
        return _Use(category=Category.HEAD, deviation=max(moved), why=why)

    def _moving(self, category: Category, what: str, moved: list[tuple[Sum, Ref, float]]) -> _Use:
        addition, ref, movement = moved[0]
        module = self.tape.steps[addition.step].module
        where = f" at the addition in {module!r}" if module else ""
        return _Use(
            category=category, deviation=movement, why=what + where, where=where, decides=(ref,)
        )

    def _check_zero(self, gain: Gain, key: Key, place: tuple[int, int], found: _Use) -> _Use:
        """Add to the reason whether the branch is 0 with the gain and later shifts at 0."""
        zero = {place: self.changes.operand(gain, key, place, 0.0)}
        hold = self.totals | self.facts.weights
        near = self.changes.play(zero, hold=hold, renewed=False)
        zero |= self.changes.shifts(near, place)
        play = self.changes.play(zero, hold=hold, renewed=False)
        left = []
        for addition in self.counted:
            if near.moved(addition.branch) > self.signals.tolerance:
                before = self.tape.value(addition.branch).abs().max()
                left.append(float(play.value(addition.branch).abs().max() / before))
        if left and left[0] <= EMPTY:
            why = f"with the gain at 0 the branch is 0{found.where}"
            return replace(found, deviation=left[0], why=why)
        return replace(
            found, why=f"the branch moves without a weight, beside other parts,{found.where}"
        )
