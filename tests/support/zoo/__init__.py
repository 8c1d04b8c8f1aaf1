"""A zoo of structures: the architectures of public model collections, tiny, in plain torch.

Own code, after the published architectures. Each structure holds the truth about its gains, written
by hand from the definitions of the rule, never from what the package answers.
"""

from importlib import import_module

from tests.support.zoo.structure import ZOO as ZOO
from tests.support.zoo.structure import Structure as Structure
from tests.support.zoo.structure import built as built

FAMILIES = (
    "attention",
    "bounded",
    "boxes",
    "convnets",
    "diffusion",
    "filters",
    "forecasting",
    "gates",
    "graphs",
    "hierarchical",
    "hybrids",
    "language",
    "loss_terms",
    "losses",
    "mixers",
    "multi_scale",
    "normalisers",
    "residuals",
    "restoration",
    "sequence",
    "sound",
    "sparse",
    "unets",
    "vision",
    "written_norms",
)

for family in FAMILIES:
    import_module(f"{__name__}.{family}")
