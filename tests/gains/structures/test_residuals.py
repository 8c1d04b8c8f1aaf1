"""Where branches begin and end: shared blocks, long skips, scales and gates on branches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import Role, categorize
from tests.support.structures import (
    HEAD,
    INNER,
    LAST,
    SCALE,
    SHORTCUT,
    D,
    Net,
    build,
    linear,
    mlp,
    norm,
    placed,
    placed_small,
    signal,
    spelled,
)

STEPS = 3


def universal(post_norm: bool, per_step: bool) -> Net:
    """A Universal Transformer: one block applied several times."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        for step in range(STEPS):
            n = m.norms[step if per_step else 0]
            x = n(x + m.block(x)) if post_norm else x + m.block(n(x))
        return m.out(x)

    norms = nn.ModuleList(norm() for _ in range(STEPS if per_step else 1))
    return Net(forward, embed=linear(), block=mlp(), norms=norms, out=linear())


def test_block_applied_several_times_pre_norm_stays_branch_inner() -> None:
    assert placed(universal(post_norm=False, per_step=False)) == {"norms.0": INNER}


def test_block_applied_several_times_post_norm_is_shortcut_though_its_last_use_is_head() -> None:
    assert placed(universal(post_norm=True, per_step=False)) == {"norms.0": SHORTCUT}


def test_shared_block_with_a_norm_per_step_places_each_step_on_its_own() -> None:
    assert placed(universal(post_norm=False, per_step=True)) == {
        "norms.0": INNER, "norms.1": INNER, "norms.2": INNER,
    }  # fmt: skip
    assert placed(universal(post_norm=True, per_step=True)) == {
        "norms.0": SHORTCUT, "norms.1": SHORTCUT, "norms.2": HEAD,
    }  # fmt: skip


def test_parallel_branches_with_a_norm_each_are_both_branch_inner() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.final(x + m.a(m.n1(x)) + m.b(m.n2(x)))

    net = Net(forward, embed=linear(), a=mlp(), b=mlp(), n1=norm(), n2=norm(), final=norm())
    assert placed(net) == {"n1": INNER, "n2": INNER, "final": HEAD}


def test_parallel_branches_summed_first_and_normed_together_end_in_branch_last() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        return m.out(x + m.post(m.a(h) + m.b(h)))

    net = Net(forward, embed=linear(), a=mlp(), b=mlp(), n=norm(), post=norm(), out=linear())
    assert placed(net) == {"n": INNER, "post": LAST}


def test_deepnorm_scales_the_skip_by_a_constant_and_stays_post_norm() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.n0(m.embed(x))
        x = m.n1(2.5 * x + m.a(x))
        return m.n2(2.5 * x + m.b(x))

    net = Net(forward, embed=linear(), a=mlp(), b=mlp(), n0=norm(), n1=norm(), n2=norm())
    assert placed(net) == {"n0": SHORTCUT, "n1": SHORTCUT, "n2": HEAD}


def test_normformer_norms_after_attention_and_inside_the_feed_forward_part() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n1(x)
        heads = m.values(h).unflatten(-1, (2, D // 2)) * m.per_head[:, None]
        x = x + m.after_attention(m.o(heads.flatten(-2)))
        h = m.inside(torch.relu(m.up(m.n2(x))))
        return m.final(m.on_skip * x + m.down(h))

    net = Net(
        forward, embed=linear(), values=linear(), o=linear(), up=linear(), down=linear(),
        n1=norm(), after_attention=norm(), n2=norm(), inside=norm(), final=norm(),
        per_head=nn.Parameter(torch.ones(2)), on_skip=nn.Parameter(torch.ones(D)),
    )  # fmt: skip
    assert placed(net) == {
        "n1": INNER, "after_attention": LAST, "n2": INNER, "inside": INNER, "final": HEAD,
    }  # fmt: skip
    # A weight follows the one, the other scales no branch: neither is a gain.
    roles = categorize(net, signal()).roles
    assert (roles["per_head"], roles["on_skip"]) == (Role.OTHER, Role.OTHER)


@pytest.mark.parametrize("shape", [(D,), (D, 1, 1), (1, D, 1, 1)])
def test_layer_scale_of_any_shape_ends_its_branch(shape: tuple[int, ...]) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.stem(x)
        scale = m.scale.view(D, 1, 1) if m.scale.dim() == 1 else m.scale
        return m.head((x + scale * m.mix(m.n(x))).mean((2, 3)))

    net = Net(
        forward, stem=nn.Conv2d(3, D, 1), mix=nn.Conv2d(D, D, 3, padding=1),
        n=nn.BatchNorm2d(D), head=linear(), scale=nn.Parameter(torch.full(shape, 0.1)),
    )  # fmt: skip
    assert placed(net, signal(2, 3, 4, 4)) == {"n": "branch_inner batch_norm", "scale": SCALE}


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_rezero_gate_is_a_gain_with_and_without_a_norm_in_its_branch(shape: tuple[int]) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        x = x + m.gates[0] * m.a(x)
        return m.out(x + m.b(m.n(x)) * m.gates[1])

    gates = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for _ in range(2)])
    net = Net(forward, embed=linear(), a=mlp(), b=mlp(), n=norm(), out=linear(), gates=gates)
    assert placed(net) == {"gates.0": SCALE, "gates.1": SCALE, "n": INNER}


def test_layer_scale_after_a_sandwich_norm_makes_both_branch_last() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.out(x + m.scale * m.post(m.a(m.n(x))))

    net = Net(
        forward, embed=linear(), a=mlp(), n=norm(), post=norm(), out=linear(),
        scale=nn.Parameter(torch.ones(D)),
    )  # fmt: skip
    assert placed(net) == {"scale": SCALE, "n": INNER, "post": LAST}


def test_u_shaped_skip_over_weights_makes_the_bottleneck_one_branch() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        top = x + m.a(m.n1(x))
        low = m.down(top)
        low = m.n3(low + m.b(m.n2(low)))  # inside the branch that the skip of `top` spans
        x = top + m.up(low)
        return m.final(x + m.c(m.n4(x)))

    net = Net(
        forward, embed=linear(), a=mlp(), b=mlp(), c=mlp(), down=linear(), up=linear(),
        n1=norm(), n2=norm(), n3=norm(), n4=norm(), final=norm(),
    )  # fmt: skip
    assert placed(net) == {"n1": INNER, "n2": INNER, "n3": INNER, "n4": INNER, "final": HEAD}


def test_u_shaped_skip_that_is_concatenated_is_not_an_addition() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        first = x + m.a(m.n1(x))
        x = first + m.b(m.n2(first))
        x = m.join(torch.cat([x, m.on_skip(first)], -1))
        return m.final(x + m.c(m.n3(x)))

    net = Net(
        forward, embed=linear(), a=mlp(), b=mlp(), c=mlp(), join=linear(2 * D), on_skip=norm(),
        n1=norm(), n2=norm(), n3=norm(), final=norm(),
    )  # fmt: skip
    # The joined signal is the trunk of what follows, so a norm that feeds it is on that skip.
    assert placed(net) == {
        "n1": INNER, "n2": INNER, "n3": INNER, "on_skip": SHORTCUT, "final": HEAD,
    }  # fmt: skip


def test_funnels_long_skip_ends_its_branch_with_the_last_norm_of_the_encoder() -> None:
    model = build("funnel", "FunnelForMaskedLM")
    assert placed_small("funnel", model) == spelled(
        model,
        {
            "funnel.embeddings.layer_norm": SHORTCUT,
            "funnel.encoder.blocks.2.3.ffn.layer_norm": LAST,  # upsampled, then added
            "funnel.encoder.blocks.*.*.*.layer_norm": SHORTCUT,
            "funnel.decoder.layers.1.ffn.layer_norm": HEAD,
            "funnel.decoder.layers.*.*.layer_norm": SHORTCUT,
        },
    )


def test_norm_then_pooling_then_classifier_is_head() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        x = x + m.a(m.n(x))
        return m.out(m.pooled(m.final(x).mean(1)))

    net = Net(forward, embed=linear(), a=mlp(), n=norm(), final=norm(), pooled=norm(), out=linear())
    assert placed(net) == {"n": INNER, "final": HEAD, "pooled": HEAD}


def test_norm_whose_branch_is_a_pooling_ends_it() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.stem(x)
        h = m.n1(x)
        x = x + (m.pool(h) - h)
        return m.head((x + m.up(m.n2(x))).mean((2, 3)))

    net = Net(
        forward, stem=nn.Conv2d(3, D, 1), pool=nn.AvgPool2d(3, 1, 1), up=nn.Conv2d(D, D, 1),
        n1=nn.GroupNorm(1, D), n2=nn.GroupNorm(1, D), head=linear(),
    )  # fmt: skip
    assert placed(net, signal(2, 3, 4, 4)) == {
        "n1": "branch_last group_norm", "n2": "branch_inner group_norm",
    }  # fmt: skip
