"""The audit of every text model type: what it finds, how it prints, what it refuses."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch
from torch import nn

from gamma_nlp import audit
from gamma_nlp.check.audit import Accident, stock_decayed
from gamma_nlp.check.sweep import audit_types, small_models
from gamma_nlp.check.sweep.audit_types import ClassAudit
from gamma_nlp.cli import main
from tests.support.paths import GOLDEN

# Clean; gains stored as 1 + w; gains, state-space constants and expert parts decayed; tables of
# biases, weights in a module called a norm, and a whole model called a norm spared; batch norms,
# constants and gates, as authors decay or spare them.
SAMPLE = ("bert", "dac", "dbrx", "gemma2", "gpt_oss", "mamba", "mllama", "resnet",
          "roberta-prelayernorm", "swinv2", "t5", "zaya")  # fmt: skip

Capture = pytest.CaptureFixture[str]


def as_installed() -> bool:
    import transformers

    return transformers.__version__ in (GOLDEN / "audit_all.txt").read_text().splitlines()[0]


needs_version = pytest.mark.skipif(not as_installed(), reason="golden file of another version")


def golden() -> dict[str, str]:
    """The lines of each type."""
    found: dict[str, str] = {}
    name = ""
    for line in (GOLDEN / "audit_all.txt").read_text().splitlines():
        if line.startswith("  "):
            found[name] += "\n" + line
        else:
            name = line.split(" ")[0]
            found[name] = line
    return found


def width() -> int:
    return golden()["type"].index("  parameters")


@pytest.fixture(scope="module")
def sample() -> dict[str, tuple[ClassAudit, ...]]:
    return {classes[0].type: classes for classes in audit_types.sweep(SAMPLE, jobs=2)}


@needs_version
@pytest.mark.parametrize("name", SAMPLE)
def test_type_is_as_the_golden_file_says(
    name: str, sample: dict[str, tuple[ClassAudit, ...]]
) -> None:
    assert audit_types.line(sample[name], width()) == golden()[name]


@pytest.mark.slow
@needs_version
def test_all_types_are_as_the_golden_file_says(capsys: Capture) -> None:
    assert main.main(["audit", "--all"]) == 0
    assert capsys.readouterr().out == (GOLDEN / "audit_all.txt").read_text()


@pytest.mark.parametrize("name", ["sinks", "time_decay", "A_log", "D", "logit_scale", "bias_v"])
def test_constants_of_one_name_have_one_role_in_all_types(name: str) -> None:
    whole = re.compile(rf"decays\S* (?:.* )?\S*\.?\b{name}(?: x\d+)? \((.*)\)")
    found = {match[1] for text in golden().values() for match in whole.finditer(text)}
    assert found == ({"other"} if name != "bias_v" else set())


def names(accidents: tuple[Accident, ...]) -> set[str]:
    return {accident.name for accident in accidents}


def test_norm_whose_name_the_rule_does_not_know_is_decayed(
    sample: dict[str, tuple[ClassAudit, ...]],
) -> None:
    (mamba,) = sample["mamba"]
    assert names(mamba.decayed_gains) == {"backbone.norm_f.weight"}
    assert {name.rsplit(".")[-1] for name in names(mamba.decayed_others)} == {"A_log", "D"}


def test_what_authors_decay_or_spare_is_not_held_against_the_rule(
    sample: dict[str, tuple[ClassAudit, ...]],
) -> None:
    (resnet,), (dac,), (swin,) = sample["resnet"], sample["dac"], sample["swinv2"]
    assert resnet.accidents == dac.accidents == len(swin.spared) == 0
    assert {one.rpartition(".")[0].rpartition(".")[2] for one in names(resnet.as_authors)} == {
        "normalization"
    }
    assert {one.rpartition(".")[2] for one in names(dac.as_authors)} == {"alpha"}
    assert {one.rpartition(".")[2] for one in names(swin.decayed_others)} == {"logit_scale"}


def test_gates_of_cross_attention_decay_by_accident(
    sample: dict[str, tuple[ClassAudit, ...]],
) -> None:
    (mllama,) = sample["mllama"]
    gates = {"cross_attn_attn_gate", "cross_attn_mlp_gate"}
    assert {one.rpartition(".")[2] for one in names(mllama.decayed_gains)} == gates


def test_model_whose_own_name_holds_a_word_of_the_rule_is_spared_whole(
    sample: dict[str, tuple[ClassAudit, ...]],
) -> None:
    for one in sample["roberta-prelayernorm"]:
        model = small_models.build(one.type, one.model)
        inside = {
            name
            for name, parameter in model.named_parameters()
            if name.startswith("roberta_prelayernorm.") and parameter.ndim == 2
        }
        assert names(one.spared) == inside != set()


def test_gains_that_are_one_plus_a_weight_are_not_an_accident_where_the_rule_spares_them(
    sample: dict[str, tuple[ClassAudit, ...]],
) -> None:
    for one in sample["gemma2"]:
        assert len(one.unit_offset) == one.gains == 13
        assert one.accidents == 0


@pytest.mark.parametrize(
    ("model_type", "class_name"),
    [("t5", "T5ForConditionalGeneration"), ("gemma2", "Gemma2ForCausalLM")],
)
def test_name_table_and_graph_give_the_same_audit(model_type: str, class_name: str) -> None:
    by_graph = audit_types.audit_class(model_type, class_name)
    by_graph.pop("gains")
    assert by_graph == audit(small_models.build(model_type, class_name)).to_json()


def accident(name: str, what: str, decayed: bool, why: str = "") -> Accident:
    return Accident(name=name, what=what, decayed=decayed, why=why)


DECAYED = tuple(accident(f"layers.{i}.gamma", "gain, head", True, "nei") for i in range(3))
IN_BRANCH = (accident("scale", "gain, branch_last", True),)
AS_AUTHORS = tuple(accident(f"stages.{i}.bn.weight", "gain, shortcut", True) for i in range(2))
SPARED = (accident("norms.proj.weight", "weight", False, "its name holds 'norm'"),)
FAILED = ClassAudit(type="x", model="XForCausalLM", problem="ImportError: needs y", missing=True)
CLEAN = ClassAudit(type="x", model="XForMaskedLM", parameters=9, gains=3)
WRONG = ClassAudit(type="x", model="XLMHeadModel", parameters=8, gains=3, decayed_gains=DECAYED,
                   spared=SPARED, as_authors=AS_AUTHORS, in_branch=IN_BRANCH,
                   unit_offset=DECAYED[:1])  # fmt: skip


def test_class_with_most_accidents_stands_for_its_type_and_a_failed_one_is_listed() -> None:
    assert audit_types.worst((FAILED, CLEAN, WRONG)) is WRONG
    assert audit_types.line((FAILED, CLEAN, WRONG), 4).splitlines() == [
        "x              8      3              3               -               1"
        + 11 * " "
        + "2              1    1",
        "  decays layers.{0-2}.gamma x3 (gain, head)",
        "  decays, as some authors do, stages.{0-1}.bn.weight x2 (gain, shortcut)",
        "  decays, as under guidelines, scale (gain, branch_last)",
        "  spares norms.proj.weight (weight; its name holds 'norm')",
        "x XForCausalLM: not audited: ImportError: needs y",
    ]
    assert audit_types.worst((FAILED,)) is None
    assert audit_types.line((FAILED,), 4) == "x XForCausalLM: not audited: ImportError: needs y"


def test_summary_counts_types_and_parameters_per_kind_of_accident() -> None:
    assert audit_types.summary([(FAILED, WRONG), (CLEAN,), (FAILED,)]).splitlines() == [
        "# 1 of 2 types are clean: nothing decayed or spared by accident",
        "# gains on a skip or head and gates decayed by accident: 3, in 1 types",
        "# shifts, biases and constants decayed by accident: 0, in 0 types",
        "# weights and embeddings spared by accident: 1, in 1 types",
        "# batch norms and constants that decay, as some authors do: 2, in 1 types",
        "# gains in a branch that decay, as under guidelines: 1, in 1 types",
        "# gains stored as 1 + w, pulled to 1 by decay of w: 1, in 1 types; "
        "the rule decays 1 of them",
        "# in all 17 trainable parameters, 6 of them gains",
        "# 2 classes not audited, so nothing is known of them: x XForCausalLM, x XForCausalLM",
    ]


def test_class_that_takes_too_long_is_listed_with_the_reason(capsys: Capture) -> None:
    assert main.main(["audit", "--all", "--types", "gpt2", "--seconds", "0.001"]) == 1
    text = capsys.readouterr().out
    assert "\ngpt2 GPT2LMHeadModel: not audited: took more than 0.001 s\n" in text
    names = "gpt2 GPT2LMHeadModel, gpt2 GPT2ForSequenceClassification"
    assert text.endswith(
        "# 2 classes not audited, so nothing is known of them: "
        f"{names}\n# cut off, so the audit is not complete: 2 ({names})\n"
    )


def test_json_holds_every_class_with_its_accidents(capsys: Capture) -> None:
    assert main.main(["audit", "--all", "--types", "mamba,gpt2", "--json"]) == 0
    mamba, *others = json.loads(capsys.readouterr().out)["models"]
    assert (mamba["model"], mamba["clean"]) == ("MambaForCausalLM", False)
    assert mamba["decayed_gains"][0]["name"] == "backbone.norm_f.weight"
    assert {one["type"] for one in others} == {"gpt2"}
    assert all(one["clean"] and not one["problem"] for one in others)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gpt2", "--all"], "a MODEL or --all, not both"),
        ([], "needs a MODEL"),
        (["gpt2", "--types", "bert"], "--types goes with --all only"),
        (["gpt2", "--jobs", "7"], "--jobs goes with --all only"),
        (["--all", "--dtype", "bfloat16"], "--dtype goes with a MODEL only"),
        (["--all", "--trust-remote-code"], "--trust-remote-code goes with a MODEL only"),
        (["--all", "--types", "nope"], "'nope' is not a model type of this transformers"),
        (["--all", "--types", ""], "'' is not a model type of this transformers"),
        (["--all", "--types", "vit", "--kind", "text"], "not a model type of the kind 'text'"),
        (["--all", "--jobs", "0"], "--jobs must be at least 1"),
    ],
)
def test_words_that_do_not_go_together_exit_2_without_output(
    words: list[str], message: str, capsys: Capture
) -> None:
    assert main.main(["audit", *words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err


@pytest.mark.parametrize("words", [["audit", "--all"], ["coverage"]])
def test_sweep_without_transformers_names_the_extra(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main.main(words) == 2
    assert "pip install 'gamma_nlp[hf]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model_type", "class_name"),
    [
        ("gemma2", "Gemma2ForCausalLM"),
        ("mamba", "MambaForCausalLM"),
        ("t5", "T5ForConditionalGeneration"),
    ],
)
def test_small_model_has_the_names_and_the_verdicts_of_the_full_one(
    model_type: str, class_name: str
) -> None:
    small = small_models.build(model_type, class_name)
    with torch.device("meta"):
        full = type(small)(type(small.config)())

    def verdicts(model: nn.Module) -> set[tuple[str, bool]]:
        decayed = stock_decayed(model)
        found = [name for name, _ in model.named_parameters()]
        return {(re.sub(r"\d+", "#", name), name in decayed) for name in found}

    assert sum(1 for _ in full.parameters()) > sum(1 for _ in small.parameters())
    assert verdicts(full) == verdicts(small)
