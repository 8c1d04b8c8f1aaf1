"""The probe agrees with the truth about the zoo, which it measures without the graph."""

from __future__ import annotations

import pytest

from gamma_nlp import Category, GainTable, probe
from gamma_nlp.gains.table import Gain
from tests.support.zoo import ZOO, Structure, built

CATEGORIES = {
    "inner": Category.BRANCH_INNER,
    "last": Category.BRANCH_LAST,
    "shortcut": Category.SHORTCUT,
    "head": Category.HEAD,
    "unused": None,
}
QUICK = (
    *("loss_", "restoration_", "depths_", "sum_by_", "repvgg_", "_gate", "forecaster", "fade"),
    *("itransformer", "deviation_", "detr_pre", "without_additions", "norm_recurrence"),
    *("layer_scale", "feature_pyramid", "hyper_", "reversible"),
    *("box_refinement", "queries_chosen", "keypoints_with", "global_filter", "experts_by_index"),
)
"""Parts of the names of the structures that are probed in every run of the tests."""


def table(example: Structure) -> GainTable:
    """The truth as a gain table, so that nothing rests on the graph."""
    parameters = dict(example.model.named_parameters())
    gains = []
    for name, place in example.truth().items():
        if place in CATEGORIES:
            own = name if name in parameters else f"{name}.weight"
            gains.append(
                Gain(
                    name=own,
                    category=CATEGORIES[place],
                    kind="layer_norm",
                    offset=0.0,
                    source="",
                    reason="",
                    dtype="float32",
                    numel=parameters[own].numel(),
                )
            )
    return GainTable(gains=tuple(gains))


def structures() -> list[object]:
    return [
        name if any(part in name for part in QUICK) else pytest.param(name, marks=pytest.mark.slow)
        for name in ZOO
    ]


@pytest.mark.parametrize("name", structures())
def test_probe_agrees_with_what_the_definitions_say(name: str) -> None:
    example = built(name)
    report = probe(example.model, example.inputs, table(example))
    silent = {f.name.removesuffix(".weight") for f in report.having("inconclusive")}
    assert not report.having("contradicts"), report.text(full=True)
    assert silent == set(example.matches("silent")), report.text(full=True)
