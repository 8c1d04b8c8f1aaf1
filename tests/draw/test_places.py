"""Every use of every gain is drawn once, and the picture shows the category that it has."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from torch import nn

from gamma_nlp.draw.drawing import LISTED, UNCLEAR, Drawing, draw
from gamma_nlp.draw.fold import folded
from gamma_nlp.draw.picture import make_picture
from gamma_nlp.draw.reading import misread, read
from gamma_nlp.draw.shapes import BoxShape, DotShape, Text, times, width_of
from gamma_nlp.draw.sheet import lay_out
from gamma_nlp.draw.stream import Block, Box, BoxKind, Dot, Picture, dots
from gamma_nlp.gains.by_graph import from_graph
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.rule import uses
from gamma_nlp.graph.nodes import Graph
from gamma_nlp.graph.trace import trace
from tests.support.families import FAMILIES
from tests.support.golden_files import expected, golden_path, read_golden
from tests.support.zoo import ZOO, built

# What scales the skip and what makes the branch are one product there.
MIXED = {"highway"}
FEW = (
    "adapters", "pair_updates", "perceiver", "stable_diffusion_unet", "n_beats", "mmdit", "regnet",
    "denseformer", "detr_with_box_refinement", "sums_of_lists", "hrnet", "mvit", "reversible",
)  # fmt: skip


def graph_and_picture(model: nn.Module, inputs: Any) -> tuple[Graph, Picture]:
    graph = trace(model, inputs)
    return graph, make_picture(model, graph, from_graph(model, graph))


def check(graph: Graph, picture: Picture) -> None:
    """Every use is drawn at one place."""
    drawn = Counter(node for dot in dots(picture) for node in dot.nodes)
    assert drawn == Counter(place.node for place in uses(graph))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_gain_of_a_golden_model_is_where_its_category_says(name: str) -> None:
    model = FAMILIES[name].build()
    graph, picture = graph_and_picture(model, FAMILIES[name].inputs())
    check(graph, picture)
    assert misread(picture) == []
    shown = {gain: dot.category.value for dot in dots(picture) for gain in dot.gains}
    wanted = expected(model, read_golden(golden_path(name)))
    assert shown == {gain: category for gain, (category, _, _) in wanted.items()}


@pytest.mark.parametrize("name", FEW)
def test_every_gain_of_an_uncommon_structure_is_where_its_category_says(name: str) -> None:
    structure = built(name)
    graph, picture = graph_and_picture(structure.model, structure.inputs)
    check(graph, picture)
    assert misread(picture) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
@pytest.mark.filterwarnings("ignore")
def test_the_whole_zoo_is_drawn(name: str) -> None:
    structure = built(name)
    graph, picture = graph_and_picture(structure.model, structure.inputs)
    check(graph, picture)
    assert (misread(picture) == []) == (name not in MIXED)
    no_text_overlaps(picture)
    for tower in picture.towers:
        assert folded(tower) == tower


def test_a_gain_whose_place_the_lines_cannot_show_is_told() -> None:
    (name,) = MIXED
    structure = built(name)
    notes = draw(structure.model, structure.inputs).notes()
    assert any(UNCLEAR in note and ".n.weight" in note for note in notes)
    assert any(LISTED in note for note in notes)


def no_text_overlaps(picture: Picture) -> None:
    """No label, box or dot lies over another."""
    boxes = []
    for shape in lay_out([picture]).shapes:
        if isinstance(shape, Text):
            wide = width_of(shape.text) * (1.45 if shape.title else 1)
            left = {"start": 0.0, "middle": wide / 2, "end": wide}[shape.anchor]
            boxes.append((shape.x - left, shape.y - 6, wide, 12.0, shape.text))
        elif isinstance(shape, BoxShape):
            left, top = shape.x - shape.width / 2, shape.y - shape.height / 2
            boxes.append((left, top, shape.width, shape.height, shape.box.label))
        elif isinstance(shape, DotShape):
            boxes.append((shape.x - 6, shape.y - 6, 12.0, 12.0, shape.dot.label))
    for i, (x, y, width, height, name) in enumerate(boxes):
        for x2, y2, width2, height2, other in boxes[:i]:
            apart = x >= x2 + width2 or x2 >= x + width or y >= y2 + height2 or y2 >= y + height
            assert apart, (name, other)


@pytest.mark.parametrize("name", ["bert", "gemma3", "t5", "gpt_neox", "albert_mlm"])
def test_no_text_lies_over_another(name: str) -> None:
    no_text_overlaps(graph_and_picture(FAMILIES[name].build(), FAMILIES[name].inputs())[1])


def box(label: str, weight: bool = True) -> Box:
    return Box(nodes=(9,), kind=BoxKind.WEIGHT, label=label, weight=weight)


def norm(node: int, category: Category) -> Dot:
    return Dot(
        nodes=(node,), gains=(f"n{node}",), label="n", category=category, placed=category,
        kind="layer_norm", offset=0.0,
    )  # fmt: skip


def test_a_reader_follows_the_lines() -> None:
    """Skip, branch past a weight, branch past none, and behind all; each wrong one is noticed."""
    right = [Category.SHORTCUT, Category.BRANCH_INNER, Category.BRANCH_LAST, Category.HEAD]
    for wrong in (None, *range(4)):
        stream_, inner, last, head = (
            norm(i, c if i != wrong else right[(i + 1) % 4]) for i, c in enumerate(right)
        )
        block = Block(nodes=(8,), skip=(), branches=((inner, box("w"), last),))
        picture = Picture(model="M", towers=((stream_, block, head),), links=())
        assert [shown for _, shown in read(picture)] == right
        assert [dot.nodes for dot in misread(picture)] == ([] if wrong is None else [(wrong,)])


def drawing(name: str) -> Drawing:
    return draw(FAMILIES[name].build(), FAMILIES[name].inputs())


def test_a_picture_is_small_whatever_the_depth() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 8}
    with torch.device("meta"):
        deep = LlamaForCausalLM(LlamaConfig(num_hidden_layers=24, **sizes))
    one = draw(deep)
    assert len(one.dots()) == 3
    assert times(24) in one.to_svg()
    assert "model.layers.{0-23}.input_layernorm.weight x24" in one.to_html()
    assert len(one.to_html()) < 20_000


@pytest.mark.parametrize("name", ["bert", "bart", "mixtral"])
def test_a_page_stays_below_300_kilobytes(name: str) -> None:
    assert len(drawing(name).to_html().encode()) < 300_000


def test_a_gain_that_is_never_reached_is_told_and_not_drawn() -> None:
    import torch

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle, self.out = nn.LayerNorm(4), nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return x + self.out(self.used(x))

    with pytest.warns(UserWarning, match=r"idle\.weight"):
        one = draw(Model(), torch.randn(2, 4))
    assert one.unused() == ["idle.weight"]
    assert [dot.gains for dot in one.dots()] == [("used.weight",)]
    assert re.search(r"never reaches them: idle\.weight", one.to_html())


def test_a_model_without_gains_is_drawn() -> None:
    import torch

    one = draw(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.randn(2, 3))
    assert one.dots() == []
    assert one.to_svg().startswith("<svg")
    assert ": 0 gains" in one.to_html()
