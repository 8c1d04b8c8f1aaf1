"""Models that are hard on the probe: it finds the right place, or says that it cannot tell."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp import Category, GainTable, GammaError, probe
from gamma_nlp.gains.table import Gain
from tests.support.structures import D, Net, linear, norm, signal

INNER, LAST = Category.BRANCH_INNER, Category.BRANCH_LAST
SHORTCUT, HEAD = Category.SHORTCUT, Category.HEAD


def claim(model: nn.Module, **categories: Category) -> GainTable:
    """A gain table of what a test says itself, so that nothing rests on the graph."""
    parameters = dict(model.named_parameters())
    gains = []
    for name, category in categories.items():
        own = name if name in parameters else f"{name}.weight"
        gains.append(
            Gain(
                name=own,
                category=category,
                kind="layer_norm",
                offset=0.0,
                source="",
                reason="",
                dtype="float32",
                numel=parameters[own].numel(),
            )
        )
    return GainTable(gains=tuple(gains))


def verdicts(model: nn.Module, inputs: Any = None, **categories: Category) -> dict[str, str]:
    report = probe(model, signal() if inputs is None else inputs, claim(model, **categories))
    return {f.name.removesuffix(".weight"): f.verdict for f in report}


def agreed(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "agrees")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# Branches that let nothing through --------------------------------------------------------------


def stem_and_block(branch: Any, **members: Any) -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.out(m.final(x + branch(m, x)))

    return Net(forward, stem=norm(), final=norm(), out=linear(), **members)


def test_gain_before_a_branch_that_is_zero_at_first_is_on_a_skip() -> None:
    zero = nn.Parameter(torch.zeros(1))
    model = stem_and_block(
        lambda m, x: m.zero * m.up(m.norm(x)), zero=zero, norm=norm(), up=linear()
    )
    places = {"stem": SHORTCUT, "zero": LAST, "norm": INNER, "final": HEAD}
    assert verdicts(model, **places) == agreed(*places)
    assert verdicts(model, stem=HEAD) == {"stem": "contradicts"}
    assert probe(model, signal(), claim(model, **places)).additions == 1


def test_gain_before_a_branch_that_stays_silent_is_inconclusive() -> None:
    model = stem_and_block(lambda m, x: m.down(m.up(x).relu()), up=linear(), down=linear())
    nn.init.constant_(model.up.bias, -50.0)
    model.up.bias.data[0] -= 1  # not constant, so that it is not a candidate for noise
    for claimed in Category:
        assert verdicts(model, stem=claimed) == {"stem": "inconclusive"}
    assert verdicts(model, final=HEAD) == {"final": "agrees"}


def test_attention_to_a_single_key_is_inconclusive() -> None:
    def forward(m: Net, x: Tensor, memory: Tensor) -> Tensor:
        x, key = m.stem(x), m.key(m.memory(memory))
        attended = F.scaled_dot_product_attention(
            *(t.unsqueeze(1) for t in (m.query(m.norm(x)), key, m.value(key)))
        )
        x = x + m.up(attended.squeeze(1))
        return m.out(m.final(x + m.down(x).relu()))

    norms = {name: norm() for name in ("stem", "memory", "norm", "final")}
    parts = {name: linear() for name in ("query", "key", "value", "up", "down", "out")}
    model = Net(forward, **norms, **parts)
    places = {"norm": INNER, "memory": INNER, "stem": SHORTCUT}
    several = signal(), signal().flip(0)
    assert verdicts(model, several, **places) == agreed(*places)
    single = several[0], several[1][:, :1]
    silent = dict.fromkeys(places, "inconclusive")
    assert verdicts(model, single, **places) == silent


def test_mask_of_huge_numbers_does_not_hide_what_moves_beside_it() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.stem(x)
        mask = torch.full((x.shape[1],) * 2, torch.finfo(x.dtype).min).triu(1)
        key = m.key(m.norm(x))
        key = key + m.mix(key)  # a skip inside the branch
        scores = m.query(x) @ key.transpose(1, 2) + mask
        return m.out(m.final(x + m.up(scores.softmax(dim=-1) @ m.value(x))))

    norms = {name: norm() for name in ("stem", "norm", "final")}
    parts = {name: linear() for name in ("query", "key", "mix", "value", "up", "out")}
    model = Net(forward, **norms, **parts)
    places = {"stem": SHORTCUT, "norm": INNER, "final": HEAD}
    assert verdicts(model, **places) == agreed(*places)


def test_silent_use_of_a_shared_norm_is_not_overlooked() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = x + m.up(m.norm(x))
        return x + 0.0 * m.norm(m.down(x))

    model = Net(forward, norm=norm(), up=linear(), down=linear())
    assert verdicts(model, norm=INNER) == {"norm": "inconclusive"}


def test_skip_decides_for_a_shared_norm_whatever_its_silent_uses_are() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.norm(x)
        return x + m.up(x) + 0.0 * m.norm(m.down(x))

    model = Net(forward, norm=norm(), up=linear(), down=linear())
    assert verdicts(model, norm=SHORTCUT) == {"norm": "agrees"}


def test_choice_that_took_no_token_of_a_gain_does_not_hide_its_skip() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        tokens = torch.cat([m.first(x), m.second(m.down(x))], dim=1)
        best = m.score(tokens).amax(dim=-1).topk(2, dim=1).indices
        assert bool((best < x.shape[1]).all())  # of the first level alone
        chosen = tokens.gather(1, best.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        return m.out(m.final(chosen + m.value(tokens).mean(dim=1, keepdim=True)))

    parts = {name: linear() for name in ("down", "score", "value", "out")}
    model = Net(forward, first=norm(), second=norm(), final=norm(), **parts)
    model.first.weight.data *= 4
    places = {"first": SHORTCUT, "second": SHORTCUT, "final": HEAD}
    assert verdicts(model, **places) == agreed(*places)


# Weights and values -----------------------------------------------------------------------------


def test_grid_times_a_matrix_is_a_table_of_positions() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        grid = torch.linspace(-1, 1, 2 * x.shape[1]).view(-1, 2)
        places = (grid @ m.table).sin()
        x = m.norm(m.up(m.stem(x) + places))
        return m.out(m.final(m.down(x + places)))

    table = nn.Parameter(torch.randn(2, D))
    norms = {name: norm() for name in ("stem", "norm", "final")}
    parts = {name: linear() for name in ("up", "down", "out")}
    model = Net(forward, table=table, **norms, **parts)
    places = {"stem": INNER, "norm": INNER, "final": HEAD}
    assert verdicts(model, **places) == agreed(*places)
    assert probe(model, signal(), claim(model, **places)).additions == 0


def test_matrix_of_integers_in_a_buffer_is_a_weight() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        return x + F.linear(m.norm(x), m.packed.to(x.dtype) * 0.01)

    model = Net(forward, norm=norm())
    model.register_buffer("packed", torch.randint(-50, 50, (D, D), dtype=torch.int8))
    assert verdicts(model, norm=INNER) == {"norm": "agrees"}


def test_packed_matrix_of_a_quantised_layer_is_a_weight() -> None:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("no kernel for dynamic quantisation")

    def forward(m: Net, x: Tensor) -> Tensor:
        return x + m.up(m.norm(x).float()).to(x.dtype)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        up = torch.ao.quantization.quantize_dynamic(nn.Sequential(linear()), {nn.Linear})
        assert verdicts(Net(forward, norm=norm(), up=up), norm=INNER) == {"norm": "agrees"}


def test_values_that_are_all_huge_carry_noise_too() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = 1e30 * x
        return x + 1e25 * m.post(m.up(x))

    assert verdicts(Net(forward, up=linear(), post=norm()), post=LAST) == {"post": "agrees"}


@pytest.mark.parametrize("fill", [torch.zeros, torch.ones, torch.empty])
def test_inputs_without_a_signal_are_refused(fill: Any) -> None:
    model = Net(lambda m, x: x + m.norm(m.up(x)), norm=norm(), up=linear())
    x = fill(0 if fill is torch.empty else 2, 5, D)
    with pytest.raises(GammaError, match=r"no input carries a signal.*torch\.randn"):
        probe(model, x, claim(model, norm=LAST))


def test_products_added_in_place_are_read() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        torch.addmm(x, m.norm(x), m.up, out=y)
        y.addmm_(m.second(y), m.up)
        return torch.addbmm(y, m.third(y)[None], m.up[None])

    up = nn.Parameter(torch.randn(D, D))
    model = Net(forward, norm=norm(), second=norm(), third=norm(), up=up)
    places = {"norm": INNER, "second": INNER, "third": INNER}
    assert verdicts(model, signal(5, D), **places) == agreed(*places)


def test_interpolation_between_skip_and_branch_is_an_addition() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.stem(x)
        return torch.lerp(x, m.up(m.norm(x)), 0.3)

    model = Net(forward, stem=norm(), norm=norm(), up=linear())
    assert verdicts(model, stem=SHORTCUT, norm=INNER) == agreed("stem", "norm")


# The user's own model ---------------------------------------------------------------------------


def test_copy_that_still_runs_the_original_is_refused() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        return x + original.up(original.norm(x))

    original = Net(forward, norm=nn.BatchNorm1d(D), up=linear())
    before = copy.deepcopy(original.state_dict())
    with pytest.raises(GammaError, match="still uses a tensor of the original"):
        probe(original, signal(5, D), claim(original, norm=INNER))
    after = original.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_model_whose_copy_is_itself_is_refused_and_stays_as_it_was() -> None:
    class Stubborn(Net):
        def __deepcopy__(self, memo: dict[int, Any]) -> Stubborn:
            return self

    model = Stubborn(lambda m, x: x + m.up(m.norm(x)), norm=norm(), up=linear()).train()
    with pytest.raises(GammaError, match="shares tensors with it"):
        probe(model, signal(), claim(model, norm=INNER))
    assert model.training
    assert model.norm.weight.dtype is torch.float32


def test_table_of_another_model_is_refused() -> None:
    model = Net(lambda m, x: x + m.up(m.norm(x)), norm=norm(), up=linear())
    other = Net(lambda m, x: m.final(x), final=norm())
    with pytest.raises(GammaError, match=r"no parameter 'final\.weight'"):
        probe(model, signal(), claim(other, final=HEAD))
