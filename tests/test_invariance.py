"""Scale invariance is found exactly where it is, on networks whose truth is known."""

from __future__ import annotations

from typing import Any

import pytest
from invariant_networks import Chain

from gamma_nlp.companions.invariance import ScaleInvariance, scale_invariant


def found(report: ScaleInvariance) -> dict[str, Any]:
    """What the report says of each tensor, in the terms of the constructed networks."""
    what: dict[str, Any] = dict.fromkeys(report.sensitive, "sensitive")
    what |= dict.fromkeys(report.no_gradient, "none")
    return what | {one.names[0]: one.units or "alone" for one in report.alone}


def differences(seed: int) -> list[str]:
    net = Chain(seed)
    report = scale_invariant(net, net.inputs())
    what = found(report)
    wrong = [f"{n}: {what.get(n)} is {true}" for n, true in net.truth.items() if what[n] != true]
    groups = {tuple(one.names) for one in report.joint}
    wrong += [f"missed {group}" for group in net.together - groups]
    return [f"seed {seed}: {one}" for one in wrong]


@pytest.mark.parametrize("start", range(0, 40, 10))
def test_every_tensor_of_random_networks_is_judged_right(start: int) -> None:
    wrong = [one for seed in range(start, start + 10) for one in differences(seed)]
    assert wrong == []


@pytest.mark.slow
def test_every_tensor_of_200_random_networks_is_judged_right() -> None:
    wrong = [one for seed in range(200) for one in differences(seed)]
    assert wrong == []
