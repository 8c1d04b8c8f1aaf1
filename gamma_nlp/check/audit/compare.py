"""Compare what a rule, or an optimizer, decays with what the parameters of a model are.

By default the rule is that of ``transformers.Trainer``, as installed: it spares a parameter if its
name contains ``bias`` or a word such as ``layernorm``, or if it belongs to an ``nn.LayerNorm``.
What counts as an accident is in :mod:`gamma_nlp.check.judge`.
"""

from __future__ import annotations

from typing import Any, overload

from torch import nn
from torch.optim.swa_utils import AveragedModel

from gamma_nlp.check.audit.judged import judged, parameters_of
from gamma_nlp.check.audit.optimizer import audit_optimizer
from gamma_nlp.check.audit.optimizer_report import OptimizerAudit
from gamma_nlp.check.audit.report import Audit
from gamma_nlp.check.audit.rules import RuleName, rule_of
from gamma_nlp.decay.assign import table_for
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.table import GainTable
from gamma_nlp.wrappers import unwrap


@overload
def audit(
    model: nn.Module,
    table: GainTable | None = None,
    *,
    optimizer: None = None,
    rule: RuleName = "hugging_face",
    inputs: Any = None,
) -> Audit: ...


@overload
def audit(
    model: nn.Module,
    table: GainTable | None = None,
    *,
    optimizer: Any,
    rule: RuleName = "hugging_face",
    inputs: Any = None,
) -> OptimizerAudit: ...


def audit(
    model: nn.Module,
    table: GainTable | None = None,
    *,
    optimizer: Any = None,
    rule: RuleName = "hugging_face",
    inputs: Any = None,
) -> Audit:
    """Compare what a library's rule, or an optimizer, decays with what the parameters are.

    Args:
        model: Any module, also on the meta device. Frozen parameters are left out, since nobody
            trains them; an optimizer that holds some all the same is told.
        table: The model's gain table, also one from before the model was wrapped; by default
            ``categorize(model, inputs)``.
        optimizer: An optimizer that somebody made for this model, or a list of those that train it
            together, or what Lightning's ``configure_optimizers`` returns. It may be inside the
            wrappers of accelerate, DeepSpeed and fairseq.
        rule: Whose rule to audit where there is no optimizer: ``hugging_face`` for the installed
            Trainer, ``llama_factory``, ``axolotl``, ``torchtitan``, ``megatron``, ``olmo_core``,
            ``timm`` or ``fairseq``; :mod:`gamma_nlp.check.audit.rules` has versions and dates.
        inputs: Example inputs for :func:`categorize`, where it cannot make them itself.

    Returns:
        What is an accident, under ``accidents``, and what else there is to know. Print it.

    Raises:
        GammaError: A rule needs a package that is not installed; the gains cannot be placed; the
            table is of another model; ``optimizer`` is no optimizer.

    Example:
        Plain AdamW over all that was there when it was made, with a norm added afterwards:

        >>> import torch
        >>> from torch import nn
        >>> from gamma_nlp import audit, categorize
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
        >>> model.append(nn.LayerNorm(2))[3].weight.numel()
        2
        >>> found = audit(model, optimizer=optimizer, inputs=torch.randn(3, 4))
        >>> [accident.name for accident in found.accidents]
        ['3.weight', '3.bias']
        >>> for act in found.acts:
        ...     print(act.what, act.coefficient, *act.modes)
        gain, branch_inner (0.01, 0.01) decoupled
        weight (0.01, 0.01) decoupled
        shift (0.01, 0.01) decoupled
        bias (0.01, 0.01) decoupled
    """
    if not isinstance(model, nn.Module):
        raise GammaError(f"audit takes a torch.nn.Module, not a {type(model).__name__}")
    if isinstance(unwrap(model), AveragedModel):
        raise GammaError(
            "audit takes the model that is trained; an AveragedModel holds a copy that no "
            "optimizer moves"
        )
    if optimizer is not None and rule != "hugging_face":
        raise GammaError(
            f"rule={rule!r} has no effect beside optimizer=, which is audited as it is; leave "
            "one of them out"
        )
    made = None if optimizer is not None else rule_of(rule, model)
    table = table_for(model, inputs, table)
    known = parameters_of(model, table)
    if made is None:
        return audit_optimizer(known, optimizer)
    return Audit(model=known.title, rule=made.title, **judged(known, made))
