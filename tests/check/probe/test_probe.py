"""The probe shows the category of every gain, without a look at graph or tables."""

from __future__ import annotations

import ast
import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gamma_nlp
from gamma_nlp import Category, GainTable, GammaError, categorize, probe
from gamma_nlp.check.probe.report import Finding
from gamma_nlp.gains.table import Gain
from tests.support.networks import SHORT, make

LONG = 2000


def built(model_type: str, class_name: str) -> tuple[nn.Module, Any]:
    from gamma_nlp.check.sweep import small_inputs, small_models

    model = small_models.build(model_type, class_name)
    return model, small_inputs.inputs(model_type, model)


def resnet() -> tuple[nn.Module, Any]:
    import transformers

    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[2, 2], layer_type="basic"
    )
    model = transformers.ResNetForImageClassification(config).eval()
    return model, (torch.rand(1, 3, 32, 32),)


FAMILIES = {
    "BERT": lambda: built("bert", "BertForMaskedLM"),
    "GPT-2": lambda: built("gpt2", "GPT2LMHeadModel"),
    "Llama": lambda: built("llama", "LlamaForCausalLM"),
    "Gemma 2": lambda: built("gemma2", "Gemma2ForCausalLM"),
    "T5": lambda: built("t5", "T5ForConditionalGeneration"),
    "BART": lambda: built("bart", "BartForConditionalGeneration"),
    "OLMo 2": lambda: built("olmo2", "Olmo2ForCausalLM"),
    "ResNet": resnet,
    "Qwen 3 MoE": lambda: built("qwen3_moe", "Qwen3MoeForCausalLM"),
    "Mamba 2": lambda: built("mamba2", "Mamba2ForCausalLM"),
    "Funnel": lambda: built("funnel", "FunnelForMaskedLM"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_gain_of_a_family_agrees(family: str) -> None:
    model, inputs = FAMILIES[family]()
    report = probe(model, inputs, categorize(model, inputs, method="graph"))
    assert report.verdict == "agrees", str(report)
    assert len(report) > 3
    assert report.additions > 0


@pytest.mark.parametrize("family", ["BERT", "Gemma 2", "T5"])
def test_every_wrong_category_is_contradicted(family: str) -> None:
    model, inputs = FAMILIES[family]()
    table = categorize(model, inputs, method="graph")
    for turn in (1, 2, 3):
        wrong = GainTable(gains=tuple(moved(gain, turn) for gain in table))
        report = probe(model, inputs, wrong)
        assert [f.verdict for f in report] == ["contradicts"] * len(table), str(report)
        assert [f.measured for f in report] == [gain.category for gain in table]


def moved(gain: Gain, turn: int) -> Gain:
    order = list(Category)
    assert gain.category is not None
    other = order[(order.index(gain.category) + turn) % len(order)]
    return dataclasses.replace(gain, category=other)


# Random networks --------------------------------------------------------------------------------


def wrong(seed: int) -> str | None:
    """What the probe says of a random network against how it was built."""
    network = make(seed)
    parameters = dict(network.module.named_parameters())
    gains = tuple(
        Gain(
            name=name,
            category=category,
            kind="layer_norm",
            offset=offset,
            source="",
            reason="",
            dtype="float32",
            numel=parameters[name].numel(),
        )
        for name, (category, offset) in network.labels.items()
    )
    report = probe(network.module, network.inputs, GainTable(gains=gains))
    vanishing = {f.name for f in report if "the branch is 0" in f.why}
    last = {f.name for f in report if f.measured is Category.BRANCH_LAST}
    if report.verdict == "agrees" and vanishing >= last - network.unmeasured:
        return None
    return f"seed {seed}: {network.description}\n{report.text(full=True)}"


@pytest.mark.parametrize("start", range(0, SHORT, 20))
def test_probe_agrees_with_how_a_random_network_was_built(start: int) -> None:
    failures = [text for seed in range(start, start + 20) if (text := wrong(seed))]
    assert not failures, "\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(SHORT, LONG, 100))
def test_probe_agrees_with_how_two_thousand_networks_were_built(start: int) -> None:
    failures = [text for seed in range(start, start + 100) if (text := wrong(seed))]
    assert not failures, "\n".join(failures)


# What it does to the model, and what it says where it cannot tell ------------------------------


class Block(nn.Module):
    """x + gate * W(norm(x)), then a head norm."""

    def __init__(self, gate: float | None = None, zero: bool = False) -> None:
        super().__init__()
        self.norm, self.final = nn.LayerNorm(8), nn.LayerNorm(8)
        self.inner, self.out = nn.Linear(8, 8), nn.Linear(8, 8)
        self.gate = gate
        if zero:
            nn.init.zeros_(self.inner.weight)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.inner(self.norm(x))
        return self.out(self.final(x + (branch if self.gate is None else self.gate * branch)))


X = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(1))


def findings(model: nn.Module) -> dict[str, Finding]:
    return {f.name: f for f in probe(model, (X,), categorize(model, (X,)))}


def test_model_random_state_and_batch_stay_as_they_were() -> None:
    model = Block().train()
    model.norm.weight.grad = torch.ones(8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch, state = X.clone(), torch.get_rng_state()
    assert probe(model, (batch,)).verdict == "agrees"
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(batch, X)
    assert model.training
    assert torch.equal(model.norm.weight.grad, torch.ones(8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_weights_that_are_zero_are_randomised_where_nothing_moves() -> None:
    found = findings(Block(zero=True))["norm.weight"]
    assert (found.verdict, found.measured) == ("agrees", Category.BRANCH_INNER)


def test_gain_that_moves_nothing_is_inconclusive_and_never_agrees() -> None:
    found = findings(Block(gate=0.0))
    assert found["norm.weight"].verdict == "inconclusive"
    assert found["norm.weight"].measured is None
    assert found["final.weight"].verdict == "agrees"


def test_report_says_what_is_left_of_a_branch_whose_gain_is_zero() -> None:
    class Post(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
            nn.init.normal_(self.norm.bias)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.norm(self.inner(x))

    found = findings(Post())["norm.weight"]
    assert (found.measured, found.deviation) == (Category.BRANCH_LAST, 0.0)
    assert "with the gain at 0" in found.why


def test_unused_gain_agrees_only_with_unused() -> None:
    model = Block()
    model.spare = nn.LayerNorm(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = categorize(model, (X,))
    assert {f.name: f.verdict for f in probe(model, (X,), table)}["spare.weight"] == "agrees"
    claimed = [dataclasses.replace(g, category=Category.HEAD) for g in table if "spare" in g.name]
    report = probe(model, (X,), GainTable(gains=tuple(claimed)))
    assert report.verdict == "inconclusive"


def test_shared_norm_takes_the_most_cautious_of_its_uses() -> None:
    class Shared(Block):
        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.norm(x + self.inner(self.norm(x))))

    model = Shared()
    del model.final
    assert findings(model)["norm.weight"].measured is Category.HEAD


def test_names_are_those_of_the_wrapped_model() -> None:
    model = torch.compile(Block())
    assert [f.name for f in probe(model, (X,))] == [
        "_orig_mod.norm.weight",
        "_orig_mod.final.weight",
    ]


def test_failing_forward_pass_names_the_module_and_shows_a_call() -> None:
    with pytest.raises(GammaError, match=r"failed in module 'norm'.*probe\(model, "):
        probe(Block(), (torch.randn(2, 7),), categorize(Block(), (X,)))


def test_model_without_values_is_refused() -> None:
    with torch.device("meta"):
        model = Block()
    with pytest.raises(GammaError, match="needs values"):
        probe(model, (X.to("meta"),), categorize(model, (X.to("meta"),)))


def test_probe_imports_nothing_of_the_graph() -> None:
    graph = {"nodes", "trace", "recorder", "interpreter", "operations", "affine", "escapes"}
    gains = {"rule", "roles", "name_tables", "by_table", "by_graph"}
    forbidden = {f"graph.{name}" for name in graph} | {f"gains.{name}" for name in gains}
    folder = Path(gamma_nlp.__file__).parent
    files = sorted((folder / "check" / "probe").glob("*.py"))
    assert len(files) > 4
    for file in files:
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
        names += [
            f"{n.module}.{a.name}" for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names
        ]
        parts = {".".join(name.split(".")[1:3]) for name in names if name.startswith("gamma_nlp.")}
        assert not parts & forbidden, file.name
