"""The shipped studies start what they say: their commands are read, and their doses are right."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp import DecayPolicy, categorize
from gamma_nlp.decay.assign import assign
from gamma_nlp.hf.schedule import decay_for_dose, planned_rates
from gamma_nlp.study.design.cells import cells_of
from gamma_nlp.study.design.config import read_study
from gamma_nlp.study.design.recipe import Recipe
from gamma_nlp.tasks.run.yaml_file import read_yaml
from recipes.studies.language_model import LanguageArguments, make_model
from recipes.studies.simple_logic import LogicArguments
from recipes.studies.training import read_arguments
from tests.support.paths import ROOT

SHIPPED = sorted((ROOT / "recipes" / "studies").glob("*.yaml"))
FILES = [file for file in SHIPPED if "command" in read_yaml(file)]
KINDS = {"language_model": LanguageArguments, "simple_logic": LogicArguments}


def arguments(config: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """What the program makes of a config's command."""
    values = {"seed": 3, "policy": "none", "weight_decay": 0.5, "folder": folder}
    values |= config.get("set", {})
    python, option, module, *words = config["command"]
    assert (python, option) == ("python", "-m")
    program = importlib.import_module(module)
    kind = KINDS[module.rpartition(".")[2]]
    words = [word.format_map(values) for word in words]
    return read_arguments(kind, words, program.DEFAULTS, "unused")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_command_is_read_and_the_schedule_is_its_own(file: Path, tmp_path: Path) -> None:
    config = read_yaml(file)
    recipe, args = arguments(config, tmp_path)
    assert (args.seed, args.weight_decay, args.output_dir) == (3, 0.5, str(tmp_path))
    assert not recipe.init_noise and recipe.cpu_threads == config["threads"]
    assert config["name"] == file.stem.replace("_", "-")
    assert config["output"] == f"runs/{config['name']}"
    if "schedule" in config:
        said = config["schedule"]
        stated = (said["lr"], said["steps"], said["warmup"], said["type"])
        assert stated == (
            args.learning_rate,
            args.max_steps,
            args.get_warmup_steps(args.max_steps),
            args.lr_scheduler_type.value,
        )
        rates = planned_rates(args, args.max_steps)
        assert rates is not None and 0 < decay_for_dose(config["doses"][-1], rates) < 1


@pytest.mark.parametrize(
    "file", [file for file in FILES if file.stem.startswith("language")], ids=lambda file: file.stem
)
def test_a_language_model_is_what_its_name_says_and_no_two_arms_are_equal(
    file: Path, tmp_path: Path
) -> None:
    config = read_yaml(file)
    recipe, _ = arguments(config, tmp_path)
    assert (recipe.norms == "sandwich") == ("sandwich" in file.stem)
    assert recipe.qk_norm == ("_qk" in file.stem)
    assert recipe.decay_mode == ("coupled" if "coupled" in file.stem else "decoupled")
    assert ("coefficients" if "coupled" in file.stem else "doses") in config
    with torch.device("meta"):
        table = categorize(make_model(recipe, 512))
    groups = {}
    for name in ("none", "guidelines", "iwd", "all"):
        applied = assign(table, DecayPolicy.load(name), 1.0)
        groups[name] = {one: decay.coefficient for one, decay in applied.items()}
    arms = [groups[arm["policy"]] for arm in config["arms"].values()]
    assert all(one not in arms[:at] for at, one in enumerate(arms))
    if "iwd" not in config["arms"]:
        assert groups["iwd"] == groups["guidelines"]


@pytest.mark.parametrize(
    "file", [file for file in SHIPPED if file not in FILES], ids=lambda file: file.stem
)
def test_a_study_of_a_recipe_sets_keys_that_the_recipe_has(file: Path, tmp_path: Path) -> None:
    study = read_study(file, tmp_path)
    assert study.name == file.stem.replace("_", "-")
    assert isinstance(study.runs, Recipe) and len(study.seeds) >= 5
    engine = importlib.import_module(f"gamma_nlp.tasks.{study.runs.engine}.arguments")
    for cell in cells_of(study):
        recipe, args = engine.read_arguments(study.runs.words(study, cell, "none"))
        assert recipe.cpu_threads == 1
        assert recipe.dose == cell.dose
        assert cell.coefficient is None or args.weight_decay == cell.coefficient
