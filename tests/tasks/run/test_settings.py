"""Settings of a run: from a YAML file and the command line, every mistake named."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import TrainingArguments

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue import arguments as glue_arguments
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.run.arguments import RunArguments
from gamma_nlp.tasks.run.settings import read_settings
from gamma_nlp.tasks.translation import arguments as translation_arguments
from tests.support.glue_runs import BERT, experiment
from tests.support.paths import RECIPES

DATA = Path("not read")


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_file_is_valid_and_says_how_to_run_it(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    header = text[: text.index("\n\n") if "\n\n" in text else None]
    for word in ("Data", "Command", "Score", "Time"):
        assert f"# {word}" in header
    # The command says which recipe reads the file.
    reader = translation_arguments if "recipes/translation.py" in header else glue_arguments
    reader.read_arguments([str(file), "--output_dir", str(tmp_path)])


def test_settings_come_from_the_file_and_the_command_line_wins(tmp_path: Path) -> None:
    argv = experiment(
        tmp_path, DATA, save_strategy=False, output_dir="{task}/{decay_policy}-{seed}"
    )
    settings, args = read_arguments([*argv, "--seed", "7", "--decay-policy", "none"])
    assert (settings.decay_policy, args.seed, args.learning_rate) == ("none", 7, 1e-3)
    assert args.save_strategy == "no"  # YAML reads a bare `no` as false
    assert args.output_dir == "sst2/none-7"
    assert settings.model_config == BERT
    settings, args = read_arguments([*argv, "--weight_decay", "0.3"])
    assert (settings.dose, args.weight_decay) == (None, 0.3)
    settings, _ = read_arguments([*argv, "--model", "some/model"])
    assert settings.model_config is None


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"learning_rat": 1}, [], r"tiny\.yaml: unknown key 'learning_rat'; did you mean 'learn"),
        ({"learning_rate": "fast"}, [], r"tiny\.yaml: learning_rate: cannot use 'fast'"),
        ({"padding": "both"}, [], r"tiny\.yaml: padding: "),
        ({"weight_decay": 0.1}, [], r"tiny\.yaml: give dose or weight_decay, not both"),
        ({"task": "sst"}, [], "'sst' is not a GLUE task"),
        (
            {},
            ["--learning_rat", "1"],
            "unknown option --learning_rat; did you mean '--learning_rate'",
        ),
        ({}, ["--seed", "x"], "seed.*invalid int value: 'x'"),
        ({}, ["stray"], "unknown option stray"),
        ({"eval_strategy": "sometimes"}, [], "sometimes"),
    ],
)
def test_bad_settings_are_errors_that_name_the_key(
    changes: dict[str, Any], options: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(GammaError, match=message):
        read_arguments([*experiment(tmp_path, DATA, **changes), *options])


@pytest.mark.parametrize("recipe", [glue_arguments, translation_arguments])
def test_help_says_what_happens_by_default(
    recipe: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        recipe.read_arguments(["--help"])
    said = capsys.readouterr().out
    assert "(default: None)" not in said
    assert "loaded in the main process. (default: 2 on CUDA, 0 elsewhere)" in said
    assert "(default: runs/" in said and "excluded from bias" not in said
    assert "`load_best_model_at_end=True`. (default: " in said
    assert "turn dataloader_in_order off" in said


def test_defaults_of_a_program_are_told_and_give_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*argv: str) -> tuple[Any, Any]:
        folder = {"output_dir": str(tmp_path), "weight_decay": "0.1", "use_cpu": "true"}
        told = {"cpu_threads": "1", "learning_rate": "1e-2", "remove_unused_columns": "false"}
        return read_settings(
            (RunArguments, TrainingArguments),
            argv,
            rivals=(("dose", "weight_decay"),),
            defaults={**folder, **told},
        )

    (tmp_path / "one.yaml").write_text("learning_rate: 2e-2\n")
    run, args = read(str(tmp_path / "one.yaml"), "--dose", "0.1")
    assert (run.cpu_threads, args.learning_rate, args.weight_decay) == (1, 2e-2, 0.0)
    assert args.remove_unused_columns is False and args.use_cpu is True
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        read("--help")
    said = capsys.readouterr().out
    assert "CPU threads (default: 1)" in said
    assert "The initial learning rate for the optimizer. (default: 0.01)" in said


def test_a_settings_file_must_be_there_and_be_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=r"cannot read .*none\.yaml"):
        read_arguments([str(tmp_path / "none.yaml")])
    for text, message in (
        ("- a\n", "expected `key: value` lines"),
        ("a: [", r"bad\.yaml:\d: not valid YAML"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(GammaError, match=message):
            read_arguments([str(tmp_path / "bad.yaml")])
