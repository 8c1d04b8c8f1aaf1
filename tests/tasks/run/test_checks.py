"""What no recipe can use is found in its settings, in both recipes alike."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue import arguments as glue_arguments
from gamma_nlp.tasks.run.checks import acting_mode
from gamma_nlp.tasks.translation import arguments as translation_arguments
from tests.support import glue_runs, translation_runs

NAN = float("nan")
READERS = {
    "glue": (glue_runs.experiment, glue_arguments.read_arguments),
    "translation": (translation_runs.experiment, translation_arguments.read_arguments),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"data_seed": 2**32}, "data_seed must be at most 4294967295, not 4.29497e"),
        ({"per_device_eval_batch_size": 0}, "per_device_eval_batch_size must be at least 1, not 0"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1"),
        ({"learning_rate": NAN}, "learning_rate must be a finite number, not nan"),
        ({"learning_rate": -1e-3}, "learning_rate must be at least 0"),
        ({"num_train_epochs": float("inf")}, "num_train_epochs must be a finite number, not inf"),
        ({"max_steps": 0}, "max_steps must be at least 1, not 0; leave it out to train num_train"),
        ({"num_train_epochs": 1e12}, "num_train_epochs must be below 100000"),
        ({"task": "stsb", "label_smoothing_factor": 0.1}, "label_smoothing_factor needs classes"),
        ({"adam_beta2": 1.0}, "adam_beta2 must be below 1, not 1"),
        ({"save_steps": 0}, "save_steps must be above 0"),
        ({"dose": 1.5}, "dose must lie between 0 and 1, not 1.5"),
        ({"dose": 0.1, "optim": "sgd"}, "dose needs a decoupled policy; give weight_decay"),
        ({"dose": 0.1, "decay_mode": "coupled"}, "dose needs a decoupled policy; give weight"),
        ({"report_to": "tensorbord"}, "no log is called 'tensorbord'; did you mean 'tensorboard'"),
        ({"report_to": ["mlflow"]}, "report_to mlflow needs a package .*: pip install mlflow"),
        ({"report_to": ["none", "tensorboard"]}, "report_to none stands alone"),
        ({"hub_model_id": "me/x"}, "hub_model_id has no effect without push_to_hub"),
        ({"neftune_noise_alpha": -1.0}, "neftune_noise_alpha must be at least 0, not -1"),
        ({"cpu_threads": 100_000}, "cpu_threads must be below 1025, not 100000"),
        ({"deepspeed": "x"}, "deepspeed is not installed, and no extra .*: pip install deepspeed"),
        ({"use_liger_kernel": True}, "use_liger_kernel needs a package .* liger-kernel"),
        ({"push_to_hub": True}, "push_to_hub needs the hub, but HF_HUB_OFFLINE is set"),
        ({"fp16": True, "precision": "bf16"}, "give fp16 or precision bf16, not both"),
        ({"dataloader_persistent_workers": True}, "needs dataloader_num_workers above 0"),
        ({"prediction_loss_only": True}, "prediction_loss_only has no place in a recipe"),
        ({"metric_for_best_model": "eval_f2"}, "metric_for_best_model must be .* not f2"),
        ({"output_dir": ""}, "output_dir '' is no name of a folder"),
        ({"seed": [1, 2]}, r"tiny\.yaml: seed: expected one value, got a list"),
        ({"metric_for_best_model": {"a": 1}}, "expected one value, got keys and values"),
        ({"fsdp": "full_shrad"}, "these settings cannot be used: .*full_shrad"),
        ({"accelerator_config": "none.json"}, "cannot be used: .*none.json"),
        ({"lr_scheduler_type": "linea"}, "none of its values; did you mean 'linear'"),
    ],
)
def test_a_setting_that_no_recipe_can_use_is_named(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("deepspeed", "mlflow", "liger_kernel"):
        monkeypatch.setitem(sys.modules, package, None)
    argv = glue_runs.experiment(tmp_path, Path("not read"), **changes)
    with pytest.raises(GammaError, match=message):
        glue_arguments.read_arguments(argv)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", READERS)
@pytest.mark.parametrize("key", ["seed", "learning_rate", "save_steps", "report_to"])
def test_both_recipes_have_the_same_checks(recipe: str, key: str, tmp_path: Path) -> None:
    experiment, read = READERS[recipe]
    argv = experiment(tmp_path, Path("not read"), **{key: "-1"})
    with pytest.raises(GammaError, match=f"^{key}"):
        read(argv)


def test_an_empty_value_is_named_where_one_is_needed(tmp_path: Path) -> None:
    for key, word in (("seed", "seed"), ("data", "data"), ("decay_policy", "decay_policy")):
        (tmp_path / "x.yaml").write_text(f"{key}:\n")
        with pytest.raises(GammaError, match=rf"x\.yaml: {word} is empty; give a value"):
            glue_arguments.read_arguments([str(tmp_path / "x.yaml")])


def test_the_filter_that_hides_a_nan_loss_is_off(tmp_path: Path) -> None:
    for experiment, read in READERS.values():
        argv = experiment(tmp_path, Path("not read"), logging_nan_inf_filter=True)
        assert read(argv)[1].logging_nan_inf_filter is False


@pytest.mark.parametrize(
    ("mode", "optim", "acts"),
    [
        ("native", "adamw_torch_fused", "decoupled"),
        ("native", "sgd", "coupled"),
        ("native", "rmsprop_bnb_8bit", "coupled"),
        ("native", "lion_32bit", "decoupled"),
        ("decoupled", "sgd", "decoupled"),
        ("coupled", "adamw_torch", "coupled"),
    ],
)
def test_a_native_mode_acts_as_the_optimizer_s_own(mode: str, optim: str, acts: str) -> None:
    assert acting_mode(mode, optim) == acts
