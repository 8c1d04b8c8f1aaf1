"""The coverage sweep: every text model type, small, by graph and by table."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from pathlib import Path

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


# Pictures, frames, convolutions, patches in a grid, waveforms, spectrograms, series, a picture in a
# text, text beside a picture, an encoder of sound with a decoder of text.
OTHERS = ("clip", "llava", "patchtst", "qwen2_vl", "resnet", "speech_to_text", "timesformer", "vit",
          "wav2vec2")  # fmt: skip


def other_golden() -> str:
    path = GOLDEN / "coverage_other.txt"
    return path.read_text() if path.exists() else ""


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
    cli_coverage.run(commands.parse_args(["coverage", "--kind", "text"]))
    assert capsys.readouterr().out == (GOLDEN / "coverage.txt").read_text()


def test_types_of_images_audio_and_series_are_covered() -> None:
    results = list(coverage.sweep(OTHERS, jobs=2))
    assert [result.type for result in results] == list(OTHERS)
    assert [str(result) for result in results if not result.covered] == []
    assert all(result.gains for result in results)


@pytest.mark.slow
@needs_version
def test_all_other_types_are_placed_as_the_golden_file_says() -> None:
    results = list(coverage.sweep(kind="other"))
    lines = [line for line in other_golden().splitlines() if not line.startswith("#")]
    assert [str(result) for result in results] == lines
    assert [result.type for result in results if result.graph_seconds > 20] == []


def test_sweep_that_was_stopped_goes_on_where_it_ended(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    first = next(coverage.sweep(["vit", "resnet"], jobs=1, resume=file))
    text = file.read_text()
    assert len(text.splitlines()) == 2  # what the answers depend on, and the answer
    changed = text.replace('"probe": "agrees"', '"probe": "from the file"')
    file.write_text(changed + '{"call": ["res')  # half a line, as a full disk leaves it
    again = list(coverage.sweep(["vit", "resnet"], jobs=1, resume=file))
    assert [result.probe for result in again] == ["from the file", "agrees"]
    assert again[0].gains == first.gains
    file.write_text(text.replace('"sources": "', '"sources": "another'))
    assert [r.probe for r in coverage.sweep(["vit"], jobs=1, resume=file)] == ["agrees"]


def test_answer_that_was_cut_off_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    (result,) = coverage.sweep(["vit"], seconds=0.001, resume=file)
    assert result.cut and len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize("text", ["my notes\n", "[1, 2]\n", '{"a": 1}\n{"b": 2}\n'])
def test_a_file_that_holds_no_answers_is_not_written_over(text: str, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(text)
    with pytest.raises(GammaError, match=r"answers\.jsonl is no file of answers"):
        list(coverage.sweep(["vit"], resume=file))
    assert file.read_text() == text


def test_every_class_of_the_mappings_is_listed() -> None:
    types = small_models.text_types()
    assert types["t5"] == ["T5ForConditionalGeneration", "T5ForSequenceClassification"]
    assert "LlamaForCausalLM" in types["llama"]


def test_unknown_type_is_named() -> None:
    with pytest.raises(GammaError, match="'no_such_type' is not a model type of this"):
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
    assert "# 1 classes covered, 1 with a gain that the probe cannot settle, 2 contrad" in text
    assert text.splitlines()[-1] == "# need a package that is not installed: x"


def test_small_config_keeps_every_kind_of_layer_and_moves_special_tokens() -> None:
    config = small_models.small_config("qwen3_next", "Qwen3NextForCausalLM")
    assert set(config.layer_types) == {"linear_attention", "full_attention"}
    config = small_models.small_config("gemma3", "Gemma3ForConditionalGeneration")
    assert config.image_token_id < config.text_config.vocab_size == small_models.VOCABULARY
