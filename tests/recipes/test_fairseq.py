"""The recipes for fairseq, run on tiny sizes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from gamma_nlp.cli import main
from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning, Preparation
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus
from tests.support.fairseq_runs import call, need_fairseq
from tests.support.parallel_corpora import make_folder
from tests.support.paths import ROOT

need_fairseq()
RECIPES = ROOT / "recipes" / "fairseq"
WHOLE = "multi30k_de_en.sh"
"""The recipe that is run as it stands, a process for each command."""

if not (RECIPES / "steps.sh").is_file():
    pytest.skip("the recipes come with a checkout only", allow_module_level=True)

TINY = [
    f"--{side}-{size}"
    for side in ("encoder", "decoder")
    for size in ("embed-dim=16", "ffn-embed-dim=16", "layers=1", "attention-heads=2")
]
TINY += ["--max-tokens=24", "--max-update=3", "--max-epoch=1", "--num-workers=0"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    corpus = read_corpus(make_folder(folder), ("de", "en"))
    prepare(corpus, Preparation(merges=4, cleaning=Cleaning()), folder / "prepared")
    return folder / "prepared"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A command that a recipe called."""

    command: str
    words: tuple[str, ...]


NOTING = """() {
    printf '%s\\0' "$#" COMMAND "$@" >>"$CALLS"
    while [ $# -gt 0 ]; do
        [ "$1" != --destdir ] || mkdir -p "$2"
        shift
    done
}"""


def noted(recipe: str, *words: object, file: Path) -> list[Call]:
    """Run a recipe whose commands only note their words: bash takes functions before programs."""
    names = [f"gamma-fairseq-{step}" for step in ("preprocess", "train", "generate")]
    functions = {
        f"BASH_FUNC_{name}%%": NOTING.replace("COMMAND", name) for name in (*names, "gamma-nlp")
    }
    done = run(recipe, *words, CALLS=file, **functions)
    assert done.returncode == 0, done.stderr
    left = iter(file.read_text(encoding="utf-8").split("\0")[:-1])
    return [
        Call(command=next(left), words=tuple(islice(left, int(count))))
        for count in iter(lambda: next(left, ""), "")
    ]


def run(recipe: str, *words: object, **variables: object) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    more = {name: str(value) for name, value in variables.items()}
    return subprocess.run(
        ["bash", str(RECIPES / recipe), *map(str, words)],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **more},
        capture_output=True,
        text=True,
        check=False,
    )


def categories(run: Path) -> set[str]:
    table = json.loads((run / "checkpoints" / "gain_table.json").read_text())
    return {gain["category"] for gain in table["gains"]}


def test_a_recipe_trains_and_scores_every_test_set(prepared: Path, tmp_path: Path) -> None:
    done = run(WHOLE, prepared, tmp_path / "run", *TINY)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "test_2016_flickr: Generate test with beam=5: BLEU4 = " in done.stdout
    assert categories(tmp_path / "run") >= {"head"}
    assert "decay policy 'guidelines'" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "recipe", sorted(path.name for path in RECIPES.glob("*_*.sh") if path.name != WHOLE)
)
def test_the_commands_of_a_recipe_train_and_score_every_test_set(
    recipe: str,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In one process, which imports fairseq once; the recipe above shows the processes."""
    calls = noted(recipe, prepared, tmp_path / "run", *TINY, file=tmp_path / "calls")
    shown = ""
    with caplog.at_level(logging.INFO):
        for one in calls:
            capsys.readouterr()
            if one.command == "gamma-nlp":
                Path(one.words[-1]).write_text(shown, encoding="utf-8")  # where bash put it
                assert main.main(list(one.words)) == 0
            else:
                assert call(one.command.removeprefix("gamma-fairseq-"), *one.words) == 0
            shown = capsys.readouterr().out
    assert [one.command.rpartition("-")[2] for one in calls] == [
        "preprocess", "train", "generate", "nlp"
    ]  # fmt: skip
    assert "Generate test with beam=5: BLEU4 = " in shown
    assert categories(tmp_path / "run") >= {"head"}
    assert "decay policy 'guidelines'" in caplog.text


def test_data_that_is_missing_or_other_is_refused(prepared: Path, tmp_path: Path) -> None:
    recipe = WHOLE
    assert "usage: bash" in run(recipe).stderr
    done = run(recipe, tmp_path / "none", tmp_path / "run")
    assert done.returncode == 2
    assert "type: bash scripts/prepare_iwslt14 INPUT" in done.stderr
    assert not (tmp_path / "run").exists()
    other = tmp_path / "run" / "data" / "SHA256SUMS"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("of other text\n")
    done = run(recipe, prepared, tmp_path / "run")
    assert done.returncode == 2
    assert "was made from other text" in done.stderr


def test_weights_to_start_from_come_with_the_dictionaries_of_the_data(
    prepared: Path, tmp_path: Path
) -> None:
    start, output = tmp_path / "start", tmp_path / "run"
    done = run(WHOLE, prepared, output, START=start)
    assert done.returncode == 2
    assert "lacks checkpoint.pt; make it with: gamma-fairseq-from-transformers" in done.stderr
    start.mkdir()
    (start / "checkpoint.pt").touch()
    for folder, word in ((start, "eins"), (output / "data", "zwei")):
        folder.mkdir(parents=True, exist_ok=True)
        for language in ("de", "en"):
            (folder / f"dict.{language}.txt").write_text(f"{word} 1\n")
    shutil.copy(prepared / "SHA256SUMS", output / "data")  # binarised before, without START
    done = run(WHOLE, prepared, output, START=start)
    assert done.returncode == 2
    assert f"other dictionaries than START={start}; give a new output folder" in done.stderr


def test_a_failing_step_names_its_log(prepared: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(prepared, tmp_path / "prepared")
    (broken / "valid.en").unlink()
    done = run(WHOLE, broken, tmp_path / "run")
    assert done.returncode == 2
    assert f"see {tmp_path / 'run' / 'data.log'}" in done.stderr
