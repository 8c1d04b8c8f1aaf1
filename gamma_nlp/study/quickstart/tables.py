"""What a user gets before any training: the gain table, the stock rule's mistakes, the dose."""

from __future__ import annotations

from collections.abc import Sequence

import transformers
from torch import nn

from gamma_nlp.check.audit.compare import audit
from gamma_nlp.decay.assign import assign
from gamma_nlp.decay.dose import decay_dose
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import GainTable, gain_table
from gamma_nlp.hf.models import build

# (what, peak learning rate, steps, weight decay); the rates fall linearly to 0.
PRETRAINING = ("10,000 steps at a peak learning rate of 2e-4, weight decay 0.1", 2e-4, 10_000, 0.1)
FINETUNING = ("SST-2, 6,315 steps at 2e-5, weight decay 0.01", 2e-5, 6_315, 0.01)


def print_tables() -> None:
    """Print the three; models are built from their configs, without weights, in seconds."""
    what, peak, steps, decay = PRETRAINING
    print("=== 1. Where each gain of Gemma 2 (2.6 B) sits, and what decay would do to it\n")
    print(_table_text(categorize(_model("Gemma2")), decay, _linear(peak, steps)))
    print(f"\npolicy guidelines; {what}")
    print("\n=== 2. What the usual rule gets wrong: Hugging Face's Trainer on Mamba\n")
    mamba = _model("Mamba")
    print(audit(mamba, categorize(mamba)))
    print("\nThe same for a model of yours: gamma-nlp audit MODEL")
    print("\n=== 3. The dose: how far decay alone pulls a gain over a whole run\n")
    for what, peak, steps, decay in (PRETRAINING, FINETUNING):
        print(f"  {decay_dose(decay, _linear(peak, steps)):8.2%}   {what}")
    print(
        "\nFar below 1 % no policy can matter: the gains hardly move. Look at the dose of a run "
        "before\nyou compare policies: "
        "gamma-nlp table MODEL --lr 2e-5 --steps 6315 --weight-decay 0.01"
    )


def _model(name: str) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(architectures=[f"{name}ForCausalLM"])
    return build(config, name, trust_remote_code=False)


def _linear(peak: float, steps: int) -> list[float]:
    return [peak * (1 - step / steps) for step in range(steps)]


def _table_text(table: GainTable, weight_decay: float, rates: Sequence[float]) -> str:
    settings = assign(table, DecayPolicy.load("guidelines"), weight_decay)
    coefficients = {gain.name: settings[gain.name].coefficient for gain in table}
    doses = {value: decay_dose(value, rates) for value in set(coefficients.values())}
    return gain_table(table, coefficients, {name: doses[c] for name, c in coefficients.items()})
