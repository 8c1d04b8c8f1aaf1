"""Models built by name on the meta device; position tables that stay with their model."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Seq2SeqTrainingArguments

from gamma_nlp import GammaSeq2SeqTrainer, categorize
from gamma_nlp.errors import GammaError
from gamma_nlp.files.manifest import seal
from gamma_nlp.hf.models import (
    keep_positions,
    load_model,
    load_with_weights,
    whole_model,
    with_random_weights,
)
from gamma_nlp.tasks.translation.checkpoints import load_saved
from tests.support.tiny_models import config_folder, tiny_gpt2, tiny_marian

TABLE = "model.encoder.embed_positions.weight"

CUSTOM = """
import torch
from transformers import PretrainedConfig, PreTrainedModel

class TinyConfig(PretrainedConfig):
    model_type = "tiny-custom"

class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.norm = torch.nn.LayerNorm(4)
        self.post_init()
"""


def test_folder_gives_the_class_its_config_names_on_meta(tmp_path: Path) -> None:
    model = load_model(config_folder(tmp_path / "m"))
    assert type(model).__name__ == "BertForMaskedLM"
    assert all(p.is_meta for p in model.parameters())


def test_config_file_alone_is_enough(tmp_path: Path) -> None:
    path = config_folder(tmp_path / "m") / "config.json"
    renamed = path.rename(tmp_path / "my-config.json")
    assert type(load_model(str(renamed))).__name__ == "BertForMaskedLM"


@pytest.mark.parametrize("architectures", [None, []])
def test_a_config_that_names_no_class_gets_the_base_model(
    tmp_path: Path, architectures: Any
) -> None:
    model = load_model(config_folder(tmp_path / "m", architectures=architectures))
    assert type(model).__name__ == "BertModel"


@pytest.mark.parametrize(
    ("architectures", "message"),
    [
        (["BertForMaskedLm"], "no model 'BertForMaskedLm'; did you mean 'BertForMaskedLM'"),
        (["BertForSomethingOfThePast"], "take architectures out for the base model"),
        (["BertTokenizer"], "no model 'BertTokenizer'"),
        (["AutoModel"], "no model 'AutoModel'"),
        (["__class__"], "no model '__class__'"),
        (["GPT2LMHeadModel"], "GPT2LMHeadModel is no model of type 'bert', which has 'BertModel'"),
        ("BertForMaskedLM", "must be a list of classes .*, got 'BertForMaskedLM'"),
        ({"0": "BertModel"}, "must be a list of classes"),
        ([["BertModel"]], "must be a list of classes"),
        ([None], "must be a list of classes"),
        (0.5, "must be a list of classes"),
    ],
)
def test_a_class_that_does_not_fit_is_named(
    tmp_path: Path, architectures: Any, message: str
) -> None:
    folder = config_folder(tmp_path / "m", architectures=architectures)
    with pytest.raises(GammaError, match=f"{folder}.*architectures.*{message}"):
        load_model(folder)


def test_a_type_without_a_base_model_is_one_line_with_its_classes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "pix2struct_text_model"}')
    with pytest.raises(
        GammaError, match=r'has no base model; name .* under "architectures"'
    ) as error:
        load_model(tmp_path)
    assert len(str(error.value)) < 400


def saved(folder: Path, **changes: Any) -> Path:
    """A BERT with weights; ``changes`` are made in its config afterwards."""
    with_random_weights(str(config_folder(folder))).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_a_config_without_weights_says_so_in_our_own_words(tmp_path: Path) -> None:
    folder = config_folder(tmp_path / "m")
    for place, told in ((folder, "holds a config alone"), (folder / "config.json", "is a config")):
        with pytest.raises(GammaError, match=f"{place} {told}.*no weights.*--random-weights"):
            load_with_weights(str(place))


def test_another_config_beside_the_weights_is_the_one_that_counts(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    content = json.loads((folder / "config.json").read_text())
    (folder / "other.json").write_text(json.dumps(content | {"num_hidden_layers": 1}))
    model: Any = load_with_weights(str(folder / "other.json"))
    assert len(model.bert.encoder.layer) == 1 < len(load_model(folder).bert.encoder.layer)


def test_weights_that_are_not_there_are_not_made_up(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", num_hidden_layers=9)
    with pytest.raises(GammaError, match=r"lack 'bert\.encoder\.layer\.\d.*would be random"):
        load_with_weights(str(folder))


def test_weights_of_another_size_are_named_with_both(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    content = load_file(folder / "model.safetensors")
    name = "bert.embeddings.LayerNorm.weight"
    size = len(content[name])
    save_file(content | {name: torch.ones(7)}, folder / "model.safetensors", {"format": "pt"})
    told = rf"'{name}' is \[7\] and should be \[{size}\]; .*--random-weights"
    with pytest.raises(GammaError, match=told):
        load_with_weights(str(folder))


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    content = load_file(folder / "model.safetensors")
    content["bert.encoder.layer.0.output.dense.weight"][0, 0] = torch.nan
    save_file(content, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(GammaError, match=r"not finite .* in 'bert\.encoder\.layer\.0\.output"):
        load_with_weights(str(folder))


def test_weights_of_a_checkpoint_that_changed_since_are_not_measured(tmp_path: Path) -> None:
    folder = saved(tmp_path / "checkpoint-3")
    seal(folder)
    load_with_weights(str(folder))
    content = load_file(folder / "model.safetensors")
    content["bert.encoder.layer.0.output.dense.weight"][0, 0] += 1
    save_file(content, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        GammaError, match=r"checkpoint-3: model\.safetensors is damaged: its checks"
    ):
        load_with_weights(str(folder))


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    with pytest.raises(GammaError, match="holds weights and not what they mean; give its folder"):
        load_model(folder / "model.safetensors")


def test_parameters_have_the_dtype_of_the_checkpoint(tmp_path: Path) -> None:
    model = load_model(config_folder(tmp_path / "m", dtype="bfloat16"))
    assert {str(p.dtype) for p in model.parameters()} == {"torch.bfloat16"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json:1: not valid JSON"),
        ("[]", "holds a list"),
        ("{}", 'no "model_type"'),
        ('{"model_type": "no-such-type"}', "knows no model type 'no-such-type'"),
        ('{"model_type": "brt"}', "no model type 'brt'; did you mean 'bert' or 'bart'"),
        ('{"model_type": "bert", "num_hidden_layers": -1}', "num_hidden_layers must be at least 0"),
        ('{"model_type": "bart", "decoder_layers": -2}', "decoder_layers must be at least 0"),
        ('{"model_type": ["bert"]}', r"model_type must be a name such as .*, got \['bert'\]"),
        ('{"model_type": "bert", "model_type": "gpt2"}', "the key 'model_type' is there twice"),
        ('{"model_type": "bert", "auto_map": [1]}', "auto_map must map .*, got \\[1\\]"),
        ('{"model_type": "bert", "num_labels": 1e3, "num_hidden_layers": 99999999}', "99999999"),
        ('{"model_type": "bert", "hidden_size": "a"}', "cannot (read|build) .*hidden_size"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_config_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(GammaError, match=message):
        load_model(path)


def test_config_that_no_model_fits_is_an_error(tmp_path: Path) -> None:
    path = config_folder(tmp_path / "m", hidden_size=9)
    with pytest.raises(GammaError, match=r"cannot (build|read the config of) .*bert"):
        load_model(path)


def test_custom_code_runs_only_when_trusted(tmp_path: Path, monkeypatch: Any) -> None:
    import transformers

    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "x"))
    path = config_folder(
        tmp_path / "tiny",
        model_type="tiny-custom",
        architectures=["TinyModel"],
        auto_map={"AutoConfig": "code.TinyConfig", "AutoModel": "code.TinyModel"},
    )
    (path / "code.py").write_text(CUSTOM, encoding="utf-8")
    with pytest.raises(GammaError, match="--trust-remote-code"):
        load_model(path)
    assert type(load_model(path, trust_remote_code=True)).__name__ == "TinyModel"


def test_missing_transformers_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(GammaError, match=r"gamma_nlp\[hf\]"):
        load_model("bert-base-uncased")


def with_foreign_table() -> nn.Module:
    model = tiny_marian()
    with torch.no_grad():
        model.model.encoder.embed_positions.weight.add_(1)
    return model


def test_only_a_foreign_table_is_saved(tmp_path: Path) -> None:
    model = with_foreign_table()
    keep_positions(model)
    model.save_pretrained(tmp_path)
    assert {name for name in load_file(tmp_path / "model.safetensors") if "positions" in name} == {
        TABLE
    }
    own = tiny_marian()
    before = own._keys_to_ignore_on_save
    keep_positions(own)
    assert own._keys_to_ignore_on_save == before


def test_half_precision_does_not_make_a_table_foreign() -> None:
    own = tiny_marian().to(torch.bfloat16)
    keep_positions(own)
    assert TABLE in own._keys_to_ignore_on_save


def test_a_table_survives_loading_saving_and_a_trainers_checkpoint(tmp_path: Path) -> None:
    model = with_foreign_table()
    expected = model.state_dict()[TABLE]
    keep_positions(model)
    model.save_pretrained(tmp_path / "first")
    load_saved(tmp_path / "first").save_pretrained(tmp_path / "second")
    loaded = load_saved(tmp_path / "second")
    loaded._keys_to_ignore_on_save = {TABLE}  # as from_pretrained gives it
    args = Seq2SeqTrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    GammaSeq2SeqTrainer(model=loaded, args=args, decay_policy="none").save_model(tmp_path / "third")
    assert load_saved(tmp_path / "third").state_dict()[TABLE].equal(expected)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Identity()])
def test_other_models_are_left_alone(model: nn.Module) -> None:
    keep_positions(model)
    assert not hasattr(model, "_keys_to_ignore_on_save")


def test_nothing_random_is_drawn_in_the_middle_of_a_run() -> None:
    model = with_foreign_table()
    before = torch.get_rng_state()
    keep_positions(model)
    assert torch.get_rng_state().equal(before)


def cut_up(model: nn.Module) -> nn.Module:
    """As zero.Init of DeepSpeed 0.19.8 leaves parameters: empty, with a shard beside it."""
    for parameter in model.parameters():
        parameter.ds_tensor = parameter.data.flatten()
        parameter.data = torch.empty(0, dtype=parameter.dtype)
    return model


def test_model_that_zero_3_has_cut_up_is_built_anew_for_its_table() -> None:
    model = tiny_gpt2()
    assert whole_model(model) is model
    table = categorize(model)
    cut = cut_up(copy.deepcopy(model).to(torch.bfloat16))
    made = whole_model(cut)
    assert {p.device.type for p in made.parameters()} == {"meta"}
    again = categorize(made)
    assert [(g.name, g.category, g.numel) for g in again] == [
        (g.name, g.category, g.numel) for g in table
    ]
    assert again.roles == table.roles and {g.dtype for g in again} == {"bfloat16"}
    with pytest.raises(GammaError, match=r"cut the parameters of Linear into parts.* use stage 1"):
        whole_model(cut_up(nn.Linear(2, 2)))
    cut.transformer.extra = nn.Parameter(torch.ones(2))
    with pytest.raises(GammaError, match="its parameters are not those of its config"):
        whole_model(cut)
