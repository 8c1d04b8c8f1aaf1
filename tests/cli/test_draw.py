"""``gamma-nlp draw``: what it writes and says, and what it refuses before any work."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gamma_nlp.cli import main

if TYPE_CHECKING:
    Capture = pytest.CaptureFixture[str]

SIZES = {
    "vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2,
    "num_hidden_layers": 3,
}  # fmt: skip


def config(folder: Path, kind: str, cls: str) -> str:
    folder.mkdir()
    text = json.dumps({"model_type": kind, "architectures": [cls], **SIZES})
    (folder / "config.json").write_text(text, encoding="utf-8")
    return str(folder)


@pytest.fixture
def llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return config(tmp_path / "llama", "llama", "LlamaForCausalLM")


def refused(words: list[str], capsys: Capture) -> str:
    assert main.main(["draw", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_without_a_name_the_page_is_named_after_the_model(llama: str, capsys: Capture) -> None:
    assert main.main(["draw", llama]) == 0
    said = capsys.readouterr().out
    assert "LlamaForCausalLM: 7 gains (6 branch_inner, 1 head)" in said
    assert "written: llama.html" in said
    page = Path("llama.html").read_text(encoding="utf-8")
    assert "model.layers.{0-2}.input_layernorm.weight x3" in page
    assert "policy guidelines, weight decay 0.01" in page
    assert main.main(["draw", f"{llama}/config.json"]) == 0  # the same name, and it is ours
    assert sorted(os.listdir()) == ["llama", "llama.html"]


def test_coefficients_and_doses_are_those_of_the_plan(llama: str) -> None:
    plan = ["--policy", "all", "--weight-decay", "0.1", "--lr", "1e-2", "--steps", "100"]
    plan += ["--schedule", "constant"]
    assert main.main(["draw", llama, "-o", "x.svg", *plan]) == 0
    text = Path("x.svg").read_text(encoding="utf-8")
    assert "coefficient: 0.1\ndose: 9.52 %" in text
    assert "root mean square" not in text


def test_weights_give_the_size_of_each_gain(tmp_path: Path, llama: str, capsys: Capture) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    with torch.no_grad():
        model.model.norm.weight.fill_(3.0)
    model.save_pretrained(tmp_path / "trained")
    assert main.main(["draw", "trained", "--weights", "-o", "x.svg"]) == 0
    assert "root mean square: 3\n" in Path("x.svg").read_text(encoding="utf-8")
    error = refused([llama, "--weights"], capsys)
    assert "no weights" in error and "leave out --weights" in error


def test_several_models_stand_side_by_side(llama: str, capsys: Capture) -> None:
    bert = config(Path("bert"), "bert", "BertForMaskedLM")
    assert main.main(["draw", llama, bert, "-o", "both.svg"]) == 0
    text = Path("both.svg").read_text(encoding="utf-8")
    assert ">LlamaForCausalLM<" in text and ">BertForMaskedLM<" in text
    capsys.readouterr()
    assert "a page shows one model" in refused([llama, bert], capsys)


@pytest.mark.needs("matplotlib")
def test_a_png_is_written(llama: str) -> None:
    assert main.main(["draw", llama, "-o", "x.png"]) == 0
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_someone_else_is_kept(llama: str, capsys: Capture) -> None:
    Path("llama.html").write_text("<html>mine</html>", encoding="utf-8")
    assert "not written by gamma-nlp draw" in refused([llama], capsys)
    assert Path("llama.html").read_text(encoding="utf-8") == "<html>mine</html>"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("x.pdf", "must end in .html, .svg or .png"),
        ("no/such/x.svg", "there is no folder no/such"),
        ("folder.svg", "is a folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(
    llama: str, output: str, message: str, capsys: Capture
) -> None:
    Path("folder.svg").mkdir()
    assert message in refused(["no-such-model", "-o", output], capsys)


def test_a_plan_that_makes_no_sense_is_refused(llama: str, capsys: Capture) -> None:
    assert "--steps is missing" in refused([llama, "--lr", "1"], capsys)
    assert "--weight-decay must be" in refused([llama, "--weight-decay", "-1"], capsys)
    assert not Path("llama.html").exists()


def test_what_a_picture_cannot_show_is_noted_where_no_page_says_it(
    llama: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from gamma_nlp.draw.drawing import Drawing

    monkeypatch.setattr(Drawing, "notes", lambda self: ["Part is a list."])
    assert main.main(["draw", llama, "-o", "x.svg"]) == 0
    assert capsys.readouterr().err == "note: LlamaForCausalLM: Part is a list.\n"
    assert main.main(["draw", llama, "-o", "x.html"]) == 0
    assert capsys.readouterr().err == ""
    assert "<p>Part is a list.</p>" in Path("x.html").read_text(encoding="utf-8")
