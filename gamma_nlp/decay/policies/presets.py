"""The policies with a name: what each decays, and whose practice it is.

``guidelines``
    Gains in residual branches. Kim et al., arXiv:2205.07260 (2022), as this package reads its
    abstract: a reconstruction.
``iwd``, also called ``input_only``
    Gains before a branch's weights, and no q/k norms. Wang et al., arXiv:2605.26895 (26 May 2026),
    **second-hand**: the paper's rule is known from others' accounts of it, by which q/k norms count
    as output norms, whose gains must not decay.
``none``
    No gain. What Hugging Face intends, whatever names and classes say.
``all``
    Every gain, toward gain 0.
``all_params``
    Every parameter, as it is stored: plain ``optimizer(model.parameters())``, fairseq.
``torchtitan``
    The same. ``default_adamw`` in torchtitan/components/optimizer/optimizer.py of
    pytorch/torchtitan 0.3.0 (3 September 2026): one group with the pattern ``.*``.
``olmo``
    Every parameter but the embeddings, as it is stored. The pre-training scripts in
    src/scripts/official of allenai/OLMo-core, commit fa6c501 (22 June 2026): one override, weight
    decay 0 for ``embeddings.weight``.
``qwen3_next``
    Every norm's gain, toward gain 1, which is weight 0 of a zero-centred norm. Qwen's post on
    Qwen3-Next (September 2025), **second-hand**: it says that norm weights decay, not which, nor
    what else. Megatron-LM's option for that model, ``--apply-wd-to-qk-layernorm`` (pull request
    2753), decays q/k norms alone.
``hugging_face``
    What the Trainer of the installed transformers decays, by name and class;
    src/transformers/trainer.py, read in huggingface/transformers 5.23.0 (2026).
``timm``
    No parameter with fewer than two dimensions, no ``.bias``, nothing in ``no_weight_decay()``.
    ``param_groups_weight_decay`` in timm/optim/_param_groups.py of
    huggingface/pytorch-image-models 1.0.31 (3 November 2026).

Unless said otherwise weights and embeddings decay, and shifts, other biases and the rest do not.
Those that decay parameters as they are stored keep the rounding of the library, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gamma_nlp.decay.policies.keys import CATEGORY_KEYS, ROLE_KEYS

_NO_GAIN = dict.fromkeys(CATEGORY_KEYS, 0.0)
_EVERY_GAIN = dict.fromkeys(CATEGORY_KEYS, 1.0)
_EVERYTHING = {
    **dict.fromkeys((*CATEGORY_KEYS, *ROLE_KEYS), 1.0),
    "target": "stored",
    "rounding": "keep",  # as the library does it, rounding included
}
_INPUT_NORMS = {**_NO_GAIN, "branch_inner": 1.0, "kinds": {"qk_norm": 0.0}}

PRESET_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "guidelines": {**_NO_GAIN, "branch_last": 1.0, "branch_inner": 1.0},
    "input_only": _INPUT_NORMS,
    "iwd": _INPUT_NORMS,
    "none": _NO_GAIN,
    "all": _EVERY_GAIN,
    "all_params": _EVERYTHING,
    "hugging_face": {**_EVERYTHING, "rule": "hugging_face"},
    "timm": {**_EVERYTHING, "rule": "timm"},
    "olmo": {**_EVERYTHING, "embedding": 0.0},
    "torchtitan": _EVERYTHING,
    "qwen3_next": {**_EVERY_GAIN, "target": "one", "kinds": {"layer_scale": 0.0}},
}
"""The fields of each that differ from the defaults of ``DecayPolicy``, or might."""
