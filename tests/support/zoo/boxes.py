"""Detectors and matchers: boxes that are refined slice by slice, tokens that are chosen."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.structures import parameter
from tests.support.zoo.parts import D, Net, conv, conv_bn, image, linear, mlp, norm, repeat, signal
from tests.support.zoo.structure import Structure, structure


def refine(box: Tensor, delta: Tensor) -> Tensor:
    """Move the centre of a box by parts of its size, and scale its size."""
    centre = delta[..., :2] * box[..., 2:] + box[..., :2]
    return torch.cat((centre, delta[..., 2:].exp() * box[..., 2:]), -1)


def refiner(together: bool) -> Net:
    """RF-DETR: proposals are chosen, and their boxes refined behind the decoder."""

    def forward(m: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        memory = m.entry(x)
        boxes = refine(torch.full((1, x.shape[1], 4), 0.5), m.proposal(memory))
        best = m.score(memory).amax(-1).topk(3, dim=1).indices[..., None]
        boxes = boxes.gather(1, best.expand(-1, -1, 4))
        if together:  # beside a second set of queries
            boxes = torch.cat((boxes, boxes.flip(1)), dim=1).clone()
        queries = m.query.expand(len(x), boxes.shape[1], -1)
        for block in m.blocks:
            queries = queries + block.mlp(block.n(queries + m.place(boxes)))
        queries = m.final(queries)
        return m.score(queries), refine(boxes, m.box(queries))

    return Net(
        forward, entry=norm(), proposal=linear(D, 4), score=linear(D, 3), query=parameter(1, 1, D),
        place=linear(4, D), box=linear(D, 4), final=norm(),
        blocks=repeat(2, lambda: Net(forward, n=norm(), mlp=mlp())),
    )  # fmt: skip


@structure
def box_refinement() -> Structure:
    # The centre of a box is the skip, what the decoder makes of it the branch.
    return Structure(
        model=refiner(False), inputs=signal(2, 6, D), shortcut="entry", inner="final blocks.*.n"
    )


@structure
def box_refinement_of_two_sets() -> Structure:
    return Structure(
        model=refiner(True), inputs=signal(2, 6, D), shortcut="entry", inner="final blocks.*.n"
    )


@structure
def queries_chosen_from_levels() -> Structure:
    """RT-DETR: the best tokens of three levels become queries, in one pass maybe of one level."""

    def forward(m: Net, x: Tensor) -> Tensor:
        levels = [level(x).flatten(2).mT for level in m.levels]
        memory = torch.cat(levels, dim=1)
        far = torch.arange(memory.shape[1])[:, None] >= levels[0].shape[1]
        score = m.score(memory).masked_fill(far, -100.0)
        best = score.amax(-1).topk(4, dim=1).indices[..., None]
        queries = memory.gather(1, best.expand(-1, -1, D))
        for block in m.blocks:
            queries = queries + block.mlp(block.n(queries))
        return m.out(m.final(queries))

    def level(size: int) -> nn.Module:
        return nn.Sequential(*conv_bn(3, D), nn.AvgPool2d(size))

    model = Net(
        forward, levels=nn.ModuleList(map(level, (1, 2, 4))), score=linear(D, 3), final=norm(),
        out=linear(), blocks=repeat(2, lambda: Net(forward, n=norm(), mlp=mlp())),
    )  # fmt: skip
    # A token of any level may be chosen, whichever the recorded pass took.
    return Structure(
        model=model, inputs=image(), shortcut="levels.*.1", inner="blocks.*.n", head="final"
    )


@structure
def keypoints_with_descriptors() -> Structure:
    """SuperGlue: positions choose the descriptors, and their encoding is added to them."""

    def forward(m: Net, x: Tensor) -> Tensor:
        scores = m.detect(x)[0, 0]
        height, width = scores.shape
        found = (scores > scores.median()).nonzero().to(x.dtype)
        places = 2 * found.flip(1) / torch.tensor([width - 1, height - 1]) - 1
        picked = functional.grid_sample(m.describe(x), places[None, None], align_corners=True)
        descriptors = functional.normalize(picked[0, :, 0].mT)
        y = descriptors + m.encode(places)
        for block in m.blocks:
            y = y + block.mlp(block.n(y))
        return m.out(y)

    model = Net(
        forward, detect=conv(3, 1, 3), describe=conv(3, D, 3), out=linear(),
        encode=nn.Sequential(linear(2, D), norm(), nn.ReLU(), linear(D, D)),
        blocks=repeat(2, lambda: Net(forward, n=norm(), mlp=mlp())),
    )  # fmt: skip
    # The positions say where to read: they are no skip beside what is encoded of them.
    return Structure(model=model, inputs=image(), shortcut="encode.1", inner="blocks.*.n")
