"""The fewest patterns: minimal on names whose answer is known, and readable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.export.deciding import decide
from gamma_nlp.export.engine import Parameter, Rules
from gamma_nlp.export.exported import ENGINES

NAMES = ("embed.weight", *(f"layers.{i}.{part}" for i in range(12) for part in (
    "attn.wq.weight", "attn_norm.weight", "attn_norm.bias", "ffn_norm.weight", "ffn.up.weight",
)), "norm.weight", "head.weight")  # fmt: skip


def rules(to: str, values: dict[str, float], **given: object) -> Rules:
    wanted = {Parameter(name, 1 if "norm" in name else 2): v for name, v in values.items()}
    return decide(ENGINES[to], wanted, 0.1, **given)[0]  # type: ignore[arg-type]


def patterns(to: str, zero: str, **more: float) -> list[str]:
    values = dict.fromkeys(NAMES, 1.0) | {n: 0.0 for n in NAMES if zero in n}
    return [rule.pattern for rule in rules(to, values | more).rules]


@pytest.mark.parametrize(
    ("to", "zero", "expected"),
    [
        ("torchtitan", "norm.weight", [r"norm\.weight$"]),
        ("torchtitan", "norm.", [r"norm\."]),
        ("olmo_core", ".ffn_norm.", ["*.ffn_norm.weight"]),
        ("megatron", "embed", ["embed.weight"]),
        ("nemo_automodel", ".attn_norm.", [r"\battn_norm\."]),
        ("olmo_core", "layers.3.ffn_norm", ["layers.3.ffn_norm.weight"]),
    ],
)
def test_one_pattern_where_one_will_do(to: str, zero: str, expected: list[str]) -> None:
    assert patterns(to, zero) == expected


def test_a_name_at_the_top_is_told_from_those_that_end_with_it() -> None:
    assert patterns("torchtitan", "?", **{"norm.weight": 0.0}) == [r"\bnorm\.weight$"]
    assert patterns("olmo_core", "?", **{"norm.weight": 0.0}) == ["norm.weight"]


def test_an_exception_comes_before_its_rule_where_the_first_match_decides() -> None:
    """All norms but those of layer 7: in any order that takes more patterns."""
    kept = {n: 1.0 for n in NAMES if n.startswith("layers.7.")}
    ordered = patterns("torchtitan", "norm", **kept)
    assert len(ordered) == 2 and "7" in ordered[0]
    assert len(patterns("megatron", "norm", **kept)) > 2


def test_no_two_patterns_of_olmo_core_match_one_name() -> None:
    values = {n: 0.0 if "norm" in n or n.endswith("up.weight") else 1.0 for n in NAMES}
    matched = [name for rule in rules("olmo_core", values).rules for name in rule.names]
    assert len(matched) == len(set(matched)) == sum(v == 0 for v in values.values())


def test_layers_that_want_the_same_share_a_pattern() -> None:
    some = {f"layers.{i}.ffn_norm.weight": 0.0 for i in (0, 5, 11)}
    assert patterns("torchtitan", "?", **some) == [r"\blayers\.(?:0|5|11)\.ffn_norm\.weight$"]
    few = {f"layers.{i}.ffn_norm.weight": 0.0 for i in (0, 5)}
    assert patterns("olmo_core", "?", **few) == ["layers.[05].ffn_norm.weight"]


def test_many_strengths_each_get_their_pattern() -> None:
    values = dict.fromkeys(NAMES, 1.0)
    values |= {n: 0.5 for n in NAMES if "ffn_norm" in n} | {n: 0.25 for n in NAMES if "embed" in n}
    found = rules("nemo_automodel", values)
    assert {rule.multiplier for rule in found.rules} == {0.5, 0.25} and found.default == 1.0


def test_what_decays_is_listed_where_that_is_shorter() -> None:
    """Of two values that any group may have, the one without a pattern is the bulk."""
    values = dict.fromkeys(NAMES, 0.0) | {"norm.weight": 1.0}
    found = rules("olmo_core", values)
    assert found.default == 0.0 and len(found.rules) == 1


def test_multipliers_never_stand_on_a_weight_decay_of_zero() -> None:
    values = dict.fromkeys(NAMES, 0.0) | {"norm.weight": 0.5}
    for to in ("nemo_automodel", "megatron", "timm"):
        assert rules(to, values).base == 0.05


def test_nothing_decays_without_a_pattern() -> None:
    for to in ENGINES:
        found = rules(to, dict.fromkeys(NAMES, 0.0))
        assert (found.rules, found.base) == ((), 0.0)


def test_timm_lets_its_own_rule_do_what_it_can() -> None:
    found = rules("timm", {n: 0.0 if "norm" in n else 1.0 for n in NAMES})
    assert found.spares_vectors and not found.rules
    found = rules("timm", {n: 0.0 if "norm" in n or "embed" in n else 1.0 for n in NAMES})
    assert [rule.pattern for rule in found.rules] == ["embed.weight"]


def test_names_that_nothing_tells_apart_are_named() -> None:
    """To a pattern of the shell, a star in a name is a star in a pattern."""
    wanted = {Parameter("*", 1): 0.0, Parameter("a", 1): 1.0}
    with pytest.raises(GammaError, match=r"no pattern tells all parameters apart \('\*', 'a'\)"):
        decide(replace(ENGINES["timm"], spares=None), wanted, 0.1)
