"""The shims let fairseq run, and leave what needs no repair as it is."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gamma_nlp.fairseq import commands, shims
from tests.support.fairseq_runs import Session, call, need_fairseq

need_fairseq()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="older Pythons allow such defaults")
def test_only_fairseqs_dataclasses_may_default_to_a_dataclass(data: Path) -> None:
    from fairseq.dataclass import FairseqDataclass

    @dataclasses.dataclass
    class Inner(FairseqDataclass):
        size: int = 1

    @dataclasses.dataclass
    class Outer(FairseqDataclass):
        inner: Inner = Inner()  # noqa: RUF009  what fairseq does

    assert Outer().inner.size == 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(Outer().inner)

    @dataclasses.dataclass
    class Other:
        size: int = 1

    with pytest.raises(ValueError, match="mutable default"):

        @dataclasses.dataclass
        class Mine:
            other: Other = Other()  # noqa: RUF009


def test_encoder_layers_hold_what_they_use_and_load_what_plain_fairseq_saved(
    begin: Callable[..., Session],
) -> None:
    model = begin("--optimizer", "adam").model
    names = {name.rpartition(".")[2] for name, _ in model.encoder.layers[0].named_parameters()}
    assert names == {"weight", "bias"}
    saved = model.state_dict()
    saved["encoder.layers.0.in_proj_weight"] = torch.zeros(48, 16)
    model.load_state_dict(saved, strict=True)


def test_checkpoints_load_after_others_took_their_names_off_torch_s_list(data: Path) -> None:
    with torch.serialization.safe_globals([argparse.Namespace]):
        pass  # torch takes off what it put on, whoever else had put it there
    commands.prepare()
    assert argparse.Namespace in torch.serialization.get_safe_globals()


def test_score_reads_files_with_sacrebleu(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("one two three four five\n")
    assert call("score", "--sys", text, "--ref", text, "--sacrebleu") == 0
    assert "BLEU = 100.00" in capsys.readouterr().out


def test_shims_leave_what_needs_none_as_it_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sacrebleu
    from fairseq.modules import transformer_layer

    class Mended(torch.nn.Module):
        """A layer of a fairseq without the extra parameters."""

    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    monkeypatch.setattr(sacrebleu, "__version__", "1.5.1")
    monkeypatch.setattr(transformer_layer, "TransformerEncoderLayerBase", Mended)
    before = dataclasses.dataclass, sacrebleu.corpus_bleu, dict(vars(Mended))
    monkeypatch.setattr(shims, "_DONE", set())
    commands.prepare()
    assert len(shims._DONE) == 4
    assert (dataclasses.dataclass, sacrebleu.corpus_bleu, dict(vars(Mended))) == before


def test_missing_fairseq_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    shims.check_installed.cache_clear()
    assert commands.run("train") == 2
    assert "pip install --no-deps fairseq==0.12.2" in capsys.readouterr().err
    shims.check_installed.cache_clear()


def test_a_release_that_was_not_tried_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.13.0")
    shims.check_installed.cache_clear()
    with caplog.at_level(logging.WARNING, logger="gamma_nlp"):
        assert shims.check_installed() == "0.13.0"
    assert "fairseq 0.13.0 was not tested" in caplog.text
    shims.check_installed.cache_clear()
