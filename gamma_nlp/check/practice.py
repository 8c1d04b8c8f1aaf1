"""What authors decay although others spare it, as read in their training code.

Most training code has a rule: Megatron, timm, BEiT, V-JEPA and open_clip spare every parameter of
one dimension, RWKV every one with a single long side; Mamba, S4 and Swin mark what else is to be
spared. Where such a rule spares what the stock one decays, that is an accident. Some authors decay
on purpose, or decay everything. What their code decays is no accident of the stock rule::

    batch and group norms      torchvision (2022, references/classification/train.py): every
                               parameter, unless --norm-weight-decay is given; pycls (RegNet): every
                               one, unless BN.USE_CUSTOM_WEIGHT_DECAY is set; DETR (2024-03) and,
                               second-hand, Deformable DETR: every one.
                               timm (dimensions), detectron2 (WEIGHT_DECAY_NORM 0), the TPU code of
                               EfficientNet and ResNet (names) and PaddleClas (2023) spare them
    constants                  the table below, by the class that owns them

All were read in November 2026, pycls, detectron2, the TPU code, open_clip, Swin and RWKV in copies
by others; Megatron, BEiT and S4 are second-hand.
"""

from __future__ import annotations

from torch import nn

NORM_KINDS = ("batch_norm", "group_norm", "instance_norm")
"""The kinds of norms that authors decay or spare; layer and RMS norms are what the rule names."""

NORMS_DIFFER = "authors differ: torchvision and pycls decay such norms, timm and detectron2 do not"

_EVERYTHING = "AdamW over all parameters, with its default decay"
_DECAYED: dict[str, str] = {
    "Snake": f"Descript's audio codec (2023-07) and BigVGAN (2024-09): {_EVERYTHING}",
    "VitsElementwiseAffine": f"VITS (2021-06): {_EVERYTHING}",
    "LearnableAffineBlock": "PaddleClas (2023) spares batch norms, and not these scales",
    "SegGptEmbeddings": "Painter (2024-12) spares vectors, 'pos_embed' and 'cls_token' alone",
    "Sam2": "SAM 2 (2024-12) spares layer norms and biases alone",
    "Sam3Tracker": "SAM 2 (2024-12) spares layer norms and biases alone",
    "WavLM": "fairseq (0.12.2), in which it was trained (second-hand), decays everything",
}


def decayed_by_authors(owner: nn.Module) -> str:
    """Return who decays the constants of a module, on purpose or with all else; '' if not known."""
    kind = type(owner).__name__
    return next((source for word, source in _DECAYED.items() if word in kind), "")
