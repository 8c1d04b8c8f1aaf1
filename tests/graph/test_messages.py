"""A model that cannot be traced gets an error that names the place and a call that works."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp import GammaError, categorize, param_groups
from gamma_nlp.cli import main
from gamma_nlp.graph import input_messages
from tests.support.broken import Block, Model, refused
from tests.support.structures import INNER, D, norm, placed, signal

# The forward pass fails ---------------------------------------------------------------------------


def test_branching_on_values_on_the_meta_device_asks_for_the_model_on_the_cpu() -> None:
    class Deciding(Block):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.branch(x) if x.sum() > 0 else x - self.branch(x)

    with torch.device("meta"):
        model = Model(Deciding)
    message = refused(model, torch.empty(2, 5, D, device="meta"))
    assert "failed in module 'blocks.0'" in message
    assert "build the model on the CPU" in message
    assert message.endswith("model = Model(...); categorize(model, inputs=(x,))")
    assert placed(Model(Deciding)) == {"blocks.0.norm": INNER}  # what it asks for works


def test_inputs_on_another_device_are_asked_to_move() -> None:
    with torch.device("meta"):
        model = Model()
    message = refused(model, signal())
    assert "The model is on meta" in message and "x.to('meta')" in message
    assert [g.name for g in categorize(model, signal().to("meta"))] == ["blocks.0.norm.weight"]


@pytest.mark.parametrize("given", [signal(), {"y": signal()}, (signal(), signal(), signal())])
def test_wrong_arguments_are_answered_with_the_right_ones(given: Any) -> None:
    class Masked(Model):
        def forward(self, x: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
            return super().forward(x) * mask[..., :1] * scale

    wrong = given if isinstance(given, dict) else (given,) if torch.is_tensor(given) else given[:1]
    message = refused(Masked(), wrong)
    assert "the forward pass of Masked failed" in message
    assert "float32 (2, 5, 8)" in message  # what it was given
    assert message.endswith("categorize(model, inputs=(x, mask))")
    assert len(categorize(Masked(), inputs=(signal(), signal()))) == 1


def test_the_call_to_type_next_is_of_the_function_that_was_called() -> None:
    for device in ("cpu", "meta"):
        text = input_messages.forward_failed(
            Model().to(device), "", RuntimeError(f"no {device} tensors"), function="probe"
        )
        assert text.endswith("probe(model, inputs=(x,))")
        assert "categorize" not in text


def test_input_of_a_wrong_shape_names_the_module_that_could_not_take_it() -> None:
    message = refused(Model(), signal(2, D + 1))
    assert "failed in module 'embed'" in message and "float32 (2, 9)" in message


def test_unknown_inputs_are_asked_for_by_the_names_in_the_forward_pass() -> None:
    class Pair(Model):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return super().forward(left) + super().forward(right)

    with pytest.raises(GammaError, match=r"inputs=\(left, right\)\), where model\(left, r"):
        categorize(Pair())
    with pytest.raises(GammaError, match=r"inputs=\(x,\)\), where model\(x\) runs"):
        categorize(Model())


def test_what_is_not_a_module_is_refused() -> None:
    with pytest.raises(GammaError, match=r"takes a torch.nn.Module, not a str; load the model"):
        categorize("bert-base-uncased")


# A gain that cannot be placed ---------------------------------------------------------------------


class ExpNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (D,)) * self.weight.exp()


class WithExpNorm(Block):
    def __init__(self) -> None:
        super().__init__()
        self.norm = ExpNorm()


def test_gain_that_cannot_be_placed_is_placed_by_the_call_that_the_error_shows() -> None:
    model = Model(WithExpNorm)
    message = refused(model)
    assert "'blocks.0.norm.weight' belongs to a norm (ExpNorm)" in message
    call = "traceable.set_submodule('blocks.0.norm', torch.nn.RMSNorm(8))"
    assert call in message
    traceable = copy.deepcopy(model)
    eval(call, {"traceable": traceable, "torch": torch})
    table = categorize(traceable, signal())
    groups = param_groups(model, weight_decay=0.1, table=table, policy="guidelines")
    decayed = {name for group in groups if group["weight_decay"] for name in group["param_names"]}
    assert "blocks.0.norm.weight" in decayed


def test_norm_of_torch_whose_weight_another_module_uses_points_at_that_module() -> None:
    class Fused(Block):
        def branch(self, x: Tensor) -> Tensor:
            return self.up(torch.tanh(x) * self.norm.weight)

    message = refused(Model(Fused))
    assert "'blocks.0.norm.weight' belongs to a norm (LayerNorm)" in message
    assert "traceable.set_submodule('blocks.0', PLAIN)" in message


def test_gain_of_a_library_model_that_cannot_be_placed_shows_the_table_row_it_lacks() -> None:
    import transformers

    config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=16)
    model = transformers.GPT2Model(config)
    model.h[1].ln_2 = ExpNorm()
    message = refused(model, {"input_ids": torch.tensor([[1, 2, 3]])})
    assert "'h.1.ln_2.weight'" in message
    assert "add the row `h.{i}.ln_2 = CATEGORY` to its name table" in message


def test_gain_that_nothing_reaches_is_named_with_what_could_reach_it() -> None:
    class Idle(Block):
        def __init__(self) -> None:
            super().__init__()
            self.idle = norm()

    with pytest.warns(UserWarning, match=r"1 gain is never.*blocks.0.idle.weight.*inputs="):
        table = categorize(Model(Idle), signal())
    assert table["blocks.0.idle.weight"].category is None


# On the command line ------------------------------------------------------------------------------

CUSTOM = """
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


class BrokenConfig(PretrainedConfig):
    model_type = "broken-custom"

    def __init__(self, fault="", num_hidden_layers=1, **kwargs):
        self.fault, self.num_hidden_layers = fault, num_hidden_layers
        super().__init__(**kwargs)


class BrokenModel(PreTrainedModel):
    config_class = BrokenConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed, self.norm, self.up = nn.Embedding(64, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.post_init()

    def forward(self, input_ids=None, speaker=None):
        fault = self.config.fault
        x = self.embed(input_ids)
        if fault == "values" and x.sum() > 0:
            x = x * 2
        if fault == "speaker" and speaker is None:
            raise ValueError("You have to specify a speaker")
        h = torch.tanh(x) * self.norm.weight if fault == "odd" else self.norm(x)
        return (x + self.up(h),)
"""


@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        ("values", ["the forward pass of BrokenModel failed", "config.num_hidden_layers = 2",
                    "categorize(AutoModel.from_config(config, trust_remote_code=True))"]),
        ("speaker", ["You have to specify a speaker", "It was given input_ids int64 (1, 8)",
                     "its forward also takes 'speaker'"]),
        ("odd", ["'norm.weight' belongs to a norm (LayerNorm)"]),
    ],
)  # fmt: skip
def test_command_line_prints_one_line_that_says_what_to_type(
    fault: str,
    parts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import transformers

    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "x"))
    folder = tmp_path / f"broken_{fault}"
    folder.mkdir()
    (folder / "code.py").write_text(CUSTOM, encoding="utf-8")
    auto = {"AutoConfig": "code.BrokenConfig", "AutoModel": "code.BrokenModel"}
    config = {"model_type": "broken-custom", "architectures": ["BrokenModel"], "fault": fault}
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": auto}))
    assert main.main(["table", str(folder), "--trust-remote-code"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    for part in parts:
        assert part in output.err
