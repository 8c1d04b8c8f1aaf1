"""Patterns that repeat are folded, nested where they nest, and what differs never is."""

from __future__ import annotations

from gamma_nlp.draw.fold import folded
from gamma_nlp.draw.stream import Block, Box, BoxKind, Dot, Element, Fold, Stream
from gamma_nlp.gains.category import Category


def block(name: str, layer: int, category: Category = Category.BRANCH_INNER) -> Block:
    """A block of a layer: a norm and a weight."""
    gain = f"layers.{layer}.{name}.norm.weight"
    dot = Dot(
        nodes=(layer,), gains=(gain,), label="norm", category=category, placed=category,
        kind="layer_norm", offset=0.0,
    )  # fmt: skip
    module = f"layers.{layer}.{name}"
    box = Box(nodes=(layer,), kind=BoxKind.WEIGHT, label=name, modules=(module,))
    return Block(nodes=(layer,), skip=(), branches=((dot, box),))


def layers(names: str) -> Stream:
    return tuple(block(name, i) for i, name in enumerate(names))


def shape(stream: Stream) -> str:
    """The names of blocks; a fold as its count and what it repeats."""

    def one(element: Element) -> str:
        if isinstance(element, Fold):
            return f"{element.count}({shape(element.pattern)})"
        assert isinstance(element, Block)
        box = element.branches[0][1]
        assert isinstance(box, Box)
        return box.label

    return "".join(map(one, stream))


def test_layers_are_folded_with_their_count() -> None:
    assert shape(folded(layers("amamam"))) == "3(am)"


def test_patterns_nest() -> None:
    assert shape(folded(layers("lllllglllllg"))) == "2(5(l)g)"
    assert shape(folded(layers("lmlmlmamlmlmlmam"))) == "2(3(lm)am)"


def test_a_remainder_stays_beside_the_fold() -> None:
    assert shape(folded(layers("lllgllglll"))) == "3(l)g2(l)g3(l)"
    assert shape(folded(layers("xababy"))) == "x2(ab)y"


def test_a_fold_stands_for_all_its_gains() -> None:
    (fold,) = folded(layers("aaa"))
    assert isinstance(fold, Fold)
    (one,) = fold.pattern
    assert isinstance(one, Block)
    dot = one.branches[0][0]
    assert isinstance(dot, Dot)
    assert dot.gains == tuple(f"layers.{i}.a.norm.weight" for i in range(3))
    assert (dot.nodes, one.nodes) == ((0, 1, 2), (0, 1, 2))


def test_what_differs_is_never_folded() -> None:
    one, two = block("a", 0), block("a", 1, Category.BRANCH_LAST)
    assert folded((one, two)) == (one, two)


def test_single_dots_and_boxes_are_not_folded() -> None:
    box = Box(nodes=(1,), kind=BoxKind.WEIGHT, label="w", modules=("w",))
    assert folded((box, box, box)) == (box, box, box)
