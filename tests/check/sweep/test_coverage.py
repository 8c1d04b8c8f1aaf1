"""The coverage sweep: every text model type, small, by graph and by table."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable

import pytest

from gamma_nlp import GammaError
from gamma_nlp.check.sweep import coverage, small_models
from gamma_nlp.cli import coverage as cli_coverage
from tests.support.paths import GOLDEN

# One of each structure: post-norm, pre-norm, offset 1 and sandwich, encoder-decoder, experts,
# state space, shared layers, hyper-connections, towers, NoNorm.
SAMPLE = ("albert", "bart", "bert", "deepseek_v4", "gemma2", "gemma3", "gpt2", "mamba2",
          "mobilebert", "switch_transformers")  # fmt: skip


def golden(types: Iterable[str]) -> list[str]:
    wanted = set(types)
    lines = (GOLDEN / "coverage.txt").read_text().splitlines()
    return [line for line in lines if line.split(" ")[0] in wanted]


def as_installed() -> bool:
    import transformers

    return transformers.__version__ in (GOLDEN / "coverage.txt").read_text().splitlines()[0]


needs_version = pytest.mark.skipif(not as_installed(), reason="golden file of another version")


@needs_version
def test_sample_of_types_is_placed_as_the_golden_file_says() -> None:
    results = list(coverage.sweep(SAMPLE, jobs=2))
    assert [str(result) for result in results] == golden(SAMPLE)
    assert all(result.covered for result in results)


@pytest.mark.slow
@needs_version
def test_all_types_are_placed_as_the_golden_file_says(capsys: pytest.CaptureFixture[str]) -> None:
    commands = argparse.ArgumentParser()
    cli_coverage.add_parser(commands.add_subparsers())
    cli_coverage.run(commands.parse_args(["coverage"]))
    assert capsys.readouterr().out == (GOLDEN / "coverage.txt").read_text()


def test_every_class_of_the_mappings_is_listed() -> None:
    types = small_models.text_types()
    assert types["t5"] == ["T5ForConditionalGeneration", "T5ForSequenceClassification"]
    assert "LlamaForCausalLM" in types["llama"]


def test_unknown_type_is_named() -> None:
    with pytest.raises(GammaError, match="'no_such_type' is not a text model type"):
        list(coverage.sweep(["no_such_type"]))


def test_model_that_takes_too_long_costs_only_its_own_result() -> None:
    first, *_ = coverage.sweep(["bert"], seconds=0.001)
    assert str(first) == "bert BertLMHeadModel: not covered: took more than 0.001 s"
    assert not first.covered


def test_type_that_needs_an_absent_package_is_counted_not_covered() -> None:
    fields = {"type": "x", "model": "XModel"}
    absent = coverage.Result(**fields, problem="ImportError: needs timm", missing=True)
    placed = coverage.Result(
        type="y", model="YModel", gains=[("n.weight", "head", "rms_norm", 1.0)],
        source="graph+probe", table="none", probe="agrees",
    )  # fmt: skip
    wrong = coverage.Result(
        type="z", model="ZModel", source="table+graph", table="differs on 'n.weight'"
    )
    silent = coverage.Result(
        type="v", model="VModel", source="graph", table="none", probe="inconclusive on 'n.weight'"
    )
    refuted = dataclasses.replace(silent, type="w", probe="contradicts on 'n.weight'")
    assert str(placed) == "y YModel [graph+probe]: head rms_norm+1 1"
    assert wrong.contradicted and refuted.contradicted
    assert not (absent.contradicted or silent.contradicted or placed.contradicted)
    text = cli_coverage.summary([absent, placed, wrong, silent, refuted])
    assert text.splitlines()[0] == (
        "# 1 of 5 types covered by graph and probe, 0 of them by table too"
    )
    assert text.splitlines()[-1] == "# need a package that is not installed: x"


def test_small_config_keeps_every_kind_of_layer_and_moves_special_tokens() -> None:
    config = small_models.small_config("qwen3_next", "Qwen3NextForCausalLM")
    assert set(config.layer_types) == {"linear_attention", "full_attention"}
    config = small_models.small_config("gemma3", "Gemma3ForConditionalGeneration")
    assert config.image_token_id < config.text_config.vocab_size == small_models.VOCABULARY
