"""What an engine's settings cannot say is refused: which gains, what it can say, what to type."""

from __future__ import annotations

from collections.abc import Mapping

from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.schedule import LR
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.export.engine import Engine
from gamma_nlp.export.names import folded
from gamma_nlp.gains.table import GainTable


def check(
    engine: Engine, policy: DecayPolicy, table: GainTable, decays: Mapping[str, Decay]
) -> None:
    """Refuse what the engine cannot say.

    Args:
        engine: The engine.
        policy: The policy, for messages.
        table: The gain table, with the offsets of the engine's own norms.
        decays: What decays, and how, by the names in the table.

    Raises:
        GammaError: A target other than 0 of what is stored, a schedule, decay in the gradient
            where the engine has none, several strengths where it knows yes and no.
    """
    acting = {name: decay for name, decay in decays.items() if decay.coefficient > 0}
    start = f"policy {policy.name!r} cannot be said in {engine.title}: "
    _check_centers(start, policy, table, acting)
    scheduled = [name for name, decay in acting.items() if decay.schedule != LR]
    if scheduled:
        kind = acting[scheduled[0]].schedule.kind
        raise GammaError(
            f"{start}{listed(folded(scheduled))} should decay on the schedule {kind!r}, and a "
            "pattern only says how strongly, not when; leave the schedule out of the policy, or "
            "train with gamma_nlp.make_optimizer"
        )
    if not engine.coupled and any(decay.mode == "coupled" for decay in acting.values()):
        raise GammaError(
            f"{start}its mode is 'coupled', decay in the gradient, and the engine sets decay for "
            "decoupled optimizers (AdamW) only; use mode: decoupled, or another engine"
        )
    strengths = sorted({decay.coefficient for decay in acting.values()})
    if engine.numbers == "on_off" and len(strengths) > 1:
        weakest = [name for name, decay in acting.items() if decay.coefficient == strengths[0]]
        raise GammaError(
            f"{start}{listed(folded(weakest))} should decay by {strengths[0]:g} and others by "
            f"{strengths[-1]:g}, and the engine knows one strength, on or off; use 0 or one "
            "multiplier for all in the policy, or another engine"
        )


def _check_centers(
    start: str, policy: DecayPolicy, table: GainTable, acting: Mapping[str, Decay]
) -> None:
    elsewhere = [name for name, decay in acting.items() if decay.center != 0]
    if not elsewhere:
        return
    first = elsewhere[0]
    what = listed(folded(elsewhere))
    if acting[first].center == "start":
        raise GammaError(
            f"{start}{what} should decay toward their first values, and the engine decays what "
            "it stores toward 0; use target: zero, or train with gamma_nlp.make_optimizer"
        )
    offset = next((gain.offset for gain in table if gain.name == first), 0.0)
    stored = "the parameter is gain - 1" if offset else "the parameter is the gain"
    center = float(acting[first].center) + offset
    reached = f"gain {1 - center:g}"
    raise GammaError(
        f"{start}{what} should decay toward gain {center:g} ({stored}), and the engine decays "
        f"what it stores toward 0, which is {reached}; for that give a policy file with "
        f"`base: {policy.name}` and `target: stored`, to spare all gains the policy 'none', or "
        "train with gamma_nlp.make_optimizer"
    )
