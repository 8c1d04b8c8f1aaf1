"""The engines' rules as written anew here, against their own code where it is installed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.export.applied_back import check_back
from gamma_nlp.export.engine import Engine, Parameter, Rule, Rules, skeleton, wrapped_block
from gamma_nlp.export.exported import ENGINES

WANTED = {
    Parameter("layers.0.norm.weight", 1): 0.0,
    Parameter("layers.0.up.weight", 2): 1.0,
    Parameter("norm.weight", 1): 0.0,
    Parameter("head.weight", 2): 1.0,
}
NORMS = ("layers.0.norm.weight", "norm.weight")
OTHERS = ("layers.0.up.weight", "head.weight")


def rules(engine: Engine) -> Rules:
    pattern = r"norm\.weight$" if engine.ordered else "*norm.weight"
    return Rules(
        rules=(Rule(pattern=pattern, multiplier=0.0, names=NORMS),),
        default=1.0,
        others=OTHERS,
        weight_decay=0.1,
    )


def agrees(engine: Engine) -> None:
    for form in (str, *engine.forms):
        parameters = [Parameter(form(name), ndim) for name, ndim in WANTED]
        found = engine.applied(rules(engine), parameters)
        assert found == pytest.approx(engine.emulated(rules(engine), parameters))


@pytest.mark.needs("torchtitan")
def test_torchtitan_does_what_is_written_here() -> None:
    agrees(ENGINES["torchtitan"])


@pytest.mark.needs("nemo_automodel")
def test_nemo_automodel_does_what_is_written_here() -> None:
    agrees(ENGINES["nemo_automodel"])


@pytest.mark.needs("olmo_core")
def test_olmo_core_does_what_is_written_here() -> None:
    agrees(ENGINES["olmo_core"])


@pytest.mark.needs("megatron")
def test_megatron_does_what_is_written_here() -> None:
    agrees(ENGINES["megatron"])


@pytest.mark.needs("timm")
def test_timm_does_what_is_written_here() -> None:
    agrees(ENGINES["timm"])


@pytest.mark.parametrize("to", ENGINES)
def test_a_rule_that_gives_another_decay_is_never_shown(to: str) -> None:
    engine = ENGINES[to]
    check_back(engine, rules(engine), WANTED, (str,))
    wrong = {**WANTED, Parameter("norm.weight", 1): 1.0}
    with pytest.raises(GammaError, match=r"'norm.weight' would decay by 0.0, not by 0.1"):
        check_back(engine, rules(engine), wrong, (str,))


def test_a_rule_that_an_engine_refuses_is_refused() -> None:
    twice = Rule(pattern="norm*", multiplier=0.5, names=("norm.weight",))
    for to, message in (("olmo_core", "more than one"), ("megatron", "conflicting")):
        bad = rules(ENGINES[to])
        bad = replace(bad, rules=(*bad.rules, twice))
        with pytest.raises(GammaError, match=message):
            ENGINES[to].emulated(bad, list(WANTED))
    for to in ("torchtitan", "nemo_automodel", "timm", "olmo_core"):
        none = replace(rules(ENGINES[to]), rules=(Rule(pattern="zzz", multiplier=0.0, names=()),))
        with pytest.raises(GammaError, match="'zzz' matches no parameter"):
            ENGINES[to].emulated(none, list(WANTED))


def test_whose_code_checked_is_said() -> None:
    engine = replace(ENGINES["timm"], modules=("no_such_package",))
    assert check_back(engine, rules(engine), WANTED, (str,)) == "its rule, written anew"
    engine = replace(engine, modules=("fnmatch",), applied=engine.emulated)
    assert check_back(engine, rules(engine), WANTED, (str,)) == "its own code"


def test_what_its_own_code_refuses_or_decides_otherwise_is_never_shown() -> None:
    def refuses(rules: Rules, parameters: object) -> dict[str, float]:
        raise ValueError("pattern matched no parameters")

    engine = replace(ENGINES["timm"], modules=("fnmatch",), applied=refuses)
    with pytest.raises(GammaError, match=r"own code refuses .*pattern matched no parameters"):
        check_back(engine, rules(engine), WANTED, (str,))
    engine = replace(engine, applied=lambda rules, parameters: {p.name: 0.0 for p in parameters})
    with pytest.raises(GammaError, match=r"'layers.0.up.weight' would decay by 0.0, not by 0.1"):
        check_back(engine, rules(engine), WANTED, (str,))


def test_checkpointed_blocks_have_a_part_more_in_their_names() -> None:
    assert wrapped_block("layers.0.a.weight") == "layers.0._checkpoint_wrapped_module.a.weight"
    assert wrapped_block("norm.weight") == "norm.weight"


def test_a_skeleton_has_the_names_and_dimensions() -> None:
    model = skeleton(list(WANTED))
    assert [Parameter(n, p.ndim) for n, p in model.named_parameters()] != []
    assert {Parameter(n, p.ndim) for n, p in model.named_parameters()} == set(WANTED)
