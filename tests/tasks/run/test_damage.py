"""Whatever becomes of a checkpoint, the last good one is taken and each other one named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.files.manifest import MANIFEST, is_planned, seal
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.train import finetune
from gamma_nlp.tasks.run.checkpoints import checkpoints, choose, need_checkpoint
from gamma_nlp.tasks.run.saving import WholeCheckpoints
from gamma_nlp.tasks.translation.checkpoints import load_saved
from gamma_nlp.tasks.translation.final import final_model
from tests.support import glue_runs, translation_runs
from tests.support.damage import DAMAGES, content, damaged
from tests.support.whole_checkpoint import RECIPES, recipe_checkpoint

STEPS = (3, 6, 9)
CASES = [
    (recipe, name, damage)
    for recipe, files in RECIPES.items()
    for name in (*files, MANIFEST)
    for damage in DAMAGES
]


def made_up(run: Path, recipe: str) -> Path:
    for step in STEPS:
        recipe_checkpoint(run, step, recipe)
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run's folder as each recipe leaves it."""
    return {name: made_up(tmp_path_factory.mktemp(name) / "run", name) for name in RECIPES}


def copies(whole: Path, folder: Path) -> Iterator[Path]:
    """New copies of a run, each in place of the one before."""
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        yield shutil.copytree(whole, folder, symlinks=True)


def chosen(run: Path) -> int | None:
    last = choose(run).last
    return None if last is None else int(last.name.removeprefix("checkpoint-"))


def named(run: Path, *steps: int) -> list[str]:
    """What is said of the checkpoints passed over: one line for each of these and no other."""
    lines = list(choose(run).passed_over)
    assert [line.partition(":")[0] for line in lines] == [f"checkpoint-{step}" for step in steps]
    assert not any("\n" in line for line in lines)
    return lines


def test_there_are_at_least_two_hundred() -> None:
    assert len(CASES) > 200


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_damaged_file_costs_one_checkpoint(recipe: str, whole: dict[str, Path]) -> None:
    run = whole[recipe]
    for _, name, damage in (case for case in CASES if case[0] == recipe):
        with damaged(run / "checkpoint-9" / name, DAMAGES[damage]):
            choice = choose(run)
            assert choice.last == run / "checkpoint-6"
            (line,) = choice.passed_over
            assert line.startswith("checkpoint-9: ") and "\n" not in line
            assert name in line or "manifest" in line, line
    assert chosen(run) == 9


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_damaged_earlier_checkpoint_is_of_no_account(recipe: str, whole: dict[str, Path]) -> None:
    run = whole[recipe]
    for name in (*RECIPES[recipe], MANIFEST):
        with damaged(run / "checkpoint-6" / name, DAMAGES["middle bit"]):
            assert (chosen(run), named(run)) == (9, [])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_file_of_another_checkpoint_is_damage(recipe: str, whole: dict[str, Path]) -> None:
    run, files = whole[recipe], (*RECIPES[recipe], MANIFEST)
    for name, other in zip(files, (*files[1:], files[0]), strict=True):
        for source in (run / "checkpoint-6" / name, run / "checkpoint-9" / other):
            taken = content(lambda _, source=source: source.read_bytes())  # type: ignore[misc]
            with damaged(run / "checkpoint-9" / name, taken):
                named(run, 9)


def test_a_bit_of_a_manifest_is_never_read_as_something_else(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    run = next(copies(whole["sst2"], tmp_path / "run"))
    checkpoint = run / "checkpoint-9"
    seal(checkpoint, planned=False)
    manifest = (checkpoint / MANIFEST).read_bytes()
    for bit in range(0, 8 * len(manifest), 37):
        changed = bytearray(manifest)
        changed[bit // 8] ^= 1 << bit % 8
        (checkpoint / MANIFEST).write_bytes(changed)
        assert choose(run).passed_over or not is_planned(checkpoint), changed


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def link_to(target: str) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.symlink_to(folder.parent / target)

    return replace


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


def contents_of_the_one_before(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "checkpoint-6", folder)


FOLDERS = {
    "empty": (empty, "was not finished"),
    "a link to nothing": (link_to("nowhere"), "no folder but a link to nothing"),
    "a link to itself": (link_to("checkpoint-9"), "no folder but a link to nothing"),
    "a link to the one before": (link_to("checkpoint-6"), "is of step 6, not 9"),
    "a copy of the one before": (contents_of_the_one_before, "is of step 6, not 9"),
    "a file": (a_file, "no folder but a file"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_a_folder_that_is_none_of_a_checkpoint_is_named(
    what: str, whole: dict[str, Path], tmp_path: Path
) -> None:
    run = next(copies(whole["sst2"], tmp_path / "run"))
    damage, reason = FOLDERS[what]
    damage(run / "checkpoint-9")
    (line,) = named(run, 9)
    assert reason in line
    assert chosen(run) == 6


@pytest.mark.parametrize("recipe", RECIPES)
def test_several_damaged_checkpoints_are_each_named(
    recipe: str, whole: dict[str, Path], tmp_path: Path
) -> None:
    new = copies(whole[recipe], tmp_path / "run")
    files = (*RECIPES[recipe], MANIFEST)
    for number, damage in enumerate(DAMAGES):
        run = next(new)
        DAMAGES[damage](run / "checkpoint-9" / files[number % len(files)])
        DAMAGES[damage](run / "checkpoint-6" / files[(number + 4) % len(files)])
        named(run, 9, 6)
        assert chosen(run) == 3
        DAMAGES[damage](run / "checkpoint-3" / RECIPES[recipe][number % len(RECIPES[recipe])])
        named(run, 9, 6, 3)
        with pytest.raises(GammaError, match="no checkpoint to continue from") as caught:
            need_checkpoint(run, choose(run))
        assert "\n" not in str(caught.value)


def test_without_any_manifest_the_checksums_of_the_files_themselves_count(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    run = next(copies(whole["sst2"], tmp_path / "run"))
    for step in STEPS:
        (run / f"checkpoint-{step}" / MANIFEST).unlink()
    assert (chosen(run), named(run)) == (9, [])
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        for damage in ("cut in half", "end lost", "emptied", "in a tensor"):
            with damaged(run / "checkpoint-9" / name, DAMAGES.get(damage) or in_a_tensor):
                (line,) = named(run, 9)
                assert name in line


def in_a_tensor(file: Path) -> None:
    """A bit of a number, which is read without complaint."""
    held = file.read_bytes()
    number = np.float32(9).tobytes()
    file.write_bytes(held.replace(number, np.float32(9.5).tobytes(), 1))
    assert file.read_bytes() != held


def test_what_is_named_like_a_checkpoint_and_more_is_none(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    run = next(copies(whole["sst2"], tmp_path / "run"))
    for name in ("checkpoint-9-copy", "checkpoint-12.old", "checkpoint-²", "checkpoint-"):
        shutil.copytree(run / "checkpoint-9", run / name)
    assert (chosen(run), named(run)) == (9, [])


def test_no_model_is_made_of_a_damaged_checkpoint(whole: dict[str, Path]) -> None:
    """Averaged, translated with or loaded as the best one: an earlier one matters as well."""
    run = whole["translation"]
    trainer: Any = SimpleNamespace(
        args=SimpleNamespace(process_index=0),
        state=SimpleNamespace(best_model_checkpoint=str(run / "checkpoint-6")),
    )
    uses: dict[str, Callable[[], Any]] = {
        "average": lambda: final_model(trainer, run, 2),
        "load": lambda: load_saved(run / "checkpoint-6"),
        "load the best model": lambda: WholeCheckpoints._load_best_model(trainer),
    }
    with damaged(run / "checkpoint-6" / "model.safetensors", DAMAGES["tail zeroed"]):
        for what, use in uses.items():
            reason = rf"cannot {what} \S*checkpoint-6: model.safetensors is damaged: .*; "
            with pytest.raises(GammaError, match=reason):
                use()


def test_what_was_passed_over_does_not_outlive_a_new_checkpoint(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    """Rotation keeps the latest step, whole or not: the good one would go instead."""
    run = next(copies(whole["sst2"], tmp_path / "run"))
    link_to("checkpoint-6")(run / "checkpoint-9")
    trainer: Any = SimpleNamespace(
        args=SimpleNamespace(output_dir=str(run)), state=SimpleNamespace(global_step=6)
    )
    WholeCheckpoints._drop_later(trainer)
    assert (chosen(run), named(run)) == (6, [])


def sst2(folder: Path) -> Callable[..., Any]:
    data = write_sst2(folder / "glue" / "SST-2", train=24, dev=12).parent
    argv = glue_runs.experiment(folder, data, dose=None, weight_decay=0.1, num_train_epochs=3)
    return lambda *more: finetune(*read_arguments([*argv, *more]), quiet=True)


def translation(folder: Path) -> Callable[..., Any]:
    data = translation_runs.prepared_corpus(folder / "corpus")
    argv = translation_runs.experiment(folder, data, num_train_epochs=3, average_last=2)
    return lambda *more: translation_runs.train([*argv, *more])


RESUMED: dict[str, Callable[[Path, list[Path]], None]] = {
    "last manifest": lambda run, found: (found[2] / MANIFEST).unlink(),
    "two": lambda run, found: (
        DAMAGES["middle bit"](found[2] / "model.safetensors"),
        DAMAGES["deleted"](found[1] / "optimizer.pt"),
    )[0],
    "a link": lambda run, found: link_to(found[1].name)(found[2]),
    "padding": lambda run, found: DAMAGES["tail zeroed"](found[2] / "counts.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", [sst2, translation])
def test_a_run_goes_on_from_the_good_one_to_the_same_end(make: Any, tmp_path: Path) -> None:
    train = make(tmp_path)
    train()
    run = tmp_path / "run"
    for path in checkpoints(run):
        assert {file.name for file in path.iterdir()} == {*RECIPES[make.__name__], MANIFEST}
    shutil.copytree(run, tmp_path / "whole")
    whole = json.loads((run / "results.json").read_text())
    for what, damage in RESUMED.items():
        shutil.rmtree(run)
        shutil.copytree(tmp_path / "whole", run)
        (run / "results.json").unlink()
        damage(run, checkpoints(run))
        train("--resume")
        found = json.loads((run / "results.json").read_text())
        for key in ("final", "history", "gain_norm", "dose", "padding_share", "steps"):
            assert found.get(key) == whole.get(key), (what, key)
        assert found.get("scores") == whole.get("scores")
        for mine, theirs in zip(checkpoints(run), checkpoints(tmp_path / "whole"), strict=True):
            for name in ("model.safetensors", "counts.json"):
                assert (mine / name).read_bytes() == (theirs / name).read_bytes(), (what, mine)
