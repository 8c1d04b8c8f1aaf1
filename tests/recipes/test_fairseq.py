"""The recipes for fairseq, run on tiny sizes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning, Preparation
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus
from tests.support.fairseq_runs import need_fairseq
from tests.support.parallel_corpora import make_folder
from tests.support.paths import ROOT

need_fairseq()
RECIPES = ROOT / "recipes" / "fairseq"
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


@pytest.mark.parametrize("recipe", sorted(path.name for path in RECIPES.glob("*_*.sh")))
def test_a_recipe_trains_and_scores_every_test_set(
    recipe: str, prepared: Path, tmp_path: Path
) -> None:
    done = run(recipe, prepared, tmp_path / "run", *TINY)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "test_2016_flickr: Generate test with beam=5: BLEU4 = " in done.stdout
    table = json.loads((tmp_path / "run" / "checkpoints" / "gain_table.json").read_text())
    assert {gain["category"] for gain in table["gains"]} >= {"head"}
    assert "decay policy 'guidelines'" in done.stdout + done.stderr


def test_data_that_is_missing_or_other_is_refused(prepared: Path, tmp_path: Path) -> None:
    recipe = "multi30k_de_en.sh"
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
    done = run("multi30k_de_en.sh", prepared, output, START=start)
    assert done.returncode == 2
    assert "lacks checkpoint.pt; make it with: gamma-fairseq-from-transformers" in done.stderr
    start.mkdir()
    (start / "checkpoint.pt").touch()
    for folder, word in ((start, "eins"), (output / "data", "zwei")):
        folder.mkdir(parents=True, exist_ok=True)
        for language in ("de", "en"):
            (folder / f"dict.{language}.txt").write_text(f"{word} 1\n")
    shutil.copy(prepared / "SHA256SUMS", output / "data")  # binarised before, without START
    done = run("multi30k_de_en.sh", prepared, output, START=start)
    assert done.returncode == 2
    assert f"other dictionaries than START={start}; give a new output folder" in done.stderr


def test_a_failing_step_names_its_log(prepared: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(prepared, tmp_path / "prepared")
    (broken / "valid.en").unlink()
    done = run("multi30k_de_en.sh", broken, tmp_path / "run")
    assert done.returncode == 2
    assert f"see {tmp_path / 'run' / 'data.log'}" in done.stderr
