"""Draw the dose of decay in bfloat16, told and achieved, with deferral and without.

python scripts/dose_picture.py [FILE]; the default is scripts/dose.png. It takes some seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gamma_nlp import DecayPolicy, make_optimizer
from gamma_nlp.decay.dose import decay_dose
from gamma_nlp.decay.optimizer_doses import group_doses
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.tasks.run.plots import pyplot

STEPS, PEAK, DECAY = 3_000, 2e-5, 3.4
RATES = [PEAK * (1 - step / STEPS) for step in range(STEPS)]
TOLD = range(0, STEPS + 1, 10)
MARKS = range(0, STEPS + 1, 150)
COLOURS = {"defer": "#0072b2", "keep": "#d55e00"}
NAMES = {"defer": "deferred (the default)", "keep": "rounding: keep"}


def optimizer(rounding: str, gains: torch.Tensor) -> torch.optim.Optimizer:
    """Return AdamW for one vector of bfloat16 gains, all of which decay."""
    model = nn.Module()
    model.register_parameter("gain", nn.Parameter(gains.bfloat16()))
    row = Gain(
        name="gain", category=Category.BRANCH_INNER, kind="rms_norm", offset=0.0, source="table",
        reason="by hand", dtype="bfloat16", numel=len(gains),
    )  # fmt: skip
    policy = DecayPolicy(rounding=rounding)  # type: ignore[arg-type]
    return make_optimizer(
        torch.optim.AdamW, model, weight_decay=DECAY, lr=PEAK, rates=RATES, policy=policy,
        table=GainTable(gains=(row,)),
    )  # fmt: skip


def told(made: torch.optim.Optimizer) -> list[float | None]:
    """Return what is told of the run up to each of many steps."""
    (group,) = made.param_groups
    return [group_doses(made, group, RATES[:step])["gain"].told for step in TOLD]


def achieved(made: torch.optim.Optimizer) -> list[float]:
    """Train with zero gradients, and return the dose at each step that has a mark."""
    (group,) = made.param_groups
    (gain,) = group["params"]
    gain.grad = torch.zeros_like(gain)
    whole, found = gain.detach().double().abs().sum(), [0.0]
    for step, rate in enumerate(RATES, start=1):
        group["lr"] = rate
        made.step()
        if step in MARKS:
            found.append(float(1 - gain.detach().double().abs().sum() / whole))
    return found


def draw(path: Path) -> None:
    """Draw the picture."""
    gains = torch.linspace(0.6, 2.4, 256)
    exact = [decay_dose(DECAY, RATES[:step], dtype=torch.float64) for step in TOLD]
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained", dpi=110)
    axis.plot(TOLD, _percent(exact), "--", color="#888888", label="without rounding")
    for rounding, colour in COLOURS.items():
        made = optimizer(rounding, gains)
        line = {"color": colour, "label": f"{NAMES[rounding]}: told"}
        axis.plot(TOLD, _percent(told(made)), "-", linewidth=1.2, **line)
        line["label"] = f"{NAMES[rounding]}: achieved"
        axis.plot(MARKS, _percent(achieved(made)), "o", markersize=4, **line)
    axis.set(
        title=f"Decay of bfloat16 gains: AdamW, peak lr {PEAK:g}, decay {DECAY:g}",
        xlabel="step", ylabel="dose (%)", xlim=(0, STEPS),
    )  # fmt: skip
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    plt.close(figure)


def _percent(values: list[Any]) -> list[float]:
    return [100 * value for value in values]


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("dose.png"))
