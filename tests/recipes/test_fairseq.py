"""The recipes for fairseq, run on tiny sizes, and the comparison with this library's recipe."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gamma_nlp.fairseq import shims
from tests.support.paths import ROOT

if importlib.util.find_spec("fairseq") is None:
    pytest.skip(f"fairseq is not installed: {shims.INSTALL}", allow_module_level=True)

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning, Preparation
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus
from tests.support.parallel_corpora import make_folder

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


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    file = ROOT / "scripts" / "benchmarks" / "against_fairseq.py"
    spec = importlib.util.spec_from_file_location("against_fairseq", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "against_fairseq", module)
    spec.loader.exec_module(module)
    return module


def line(kind: str, **entries: object) -> str:
    return f"2026-01-01 00:00:00 | INFO | {kind} | {json.dumps(entries)}\n"


def test_speed_is_counted_over_intervals_without_validation(benchmark: ModuleType) -> None:
    log = "".join(
        line("train_inner", epoch=epoch, wpb="100", wps=speed, num_updates=str(update))
        for epoch, speed, update in (
            (1, "0", 1), (1, "1000", 2), (1, "500", 3), (2, "10", 4), (2, "1000", 5)
        )
    )  # fmt: skip
    log += line("train", epoch=2, train_num_updates="6")
    updates, speed = benchmark.read_training(log)
    assert updates == 6
    assert speed == pytest.approx(300 / (0.1 + 0.2 + 0.1))
    with pytest.raises(GammaError, match="too few updates"):
        benchmark.read_training(line("train_inner", epoch=1, wpb="1", wps="1"))


@pytest.mark.parametrize(
    ("bleu", "speed", "met"), [(38, 11, [True, True]), (37.9, 10, [False, False])]
)
def test_goals_are_judged_by_what_was_measured(
    benchmark: ModuleType, bleu: float, speed: float, met: list[bool]
) -> None:
    mine = benchmark.Side(name="a", updates=1, tokens_per_second=speed, bleu={"test": bleu})
    other = benchmark.Side(name="b", updates=1, tokens_per_second=10.5, bleu={"test": 39.0})
    assert [good for _, good in benchmark.judge(mine, other)] == met


@pytest.mark.slow
def test_both_sides_train_and_stand_in_one_table(
    benchmark: ModuleType,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert benchmark.main([str(prepared), str(tmp_path / "both"), "--quick"]) == 0
    rows = capsys.readouterr().out.splitlines()[-3:]
    assert [row.split()[0] for row in rows] == ["updates", "gamma_nlp", "fairseq"]
    sides = json.loads((tmp_path / "both" / "results.json").read_text())["sides"]
    assert sides[0]["updates"] == sides[1]["updates"] > 0
    assert list(sides[0]["bleu"]) == list(sides[1]["bleu"]) == ["test_2016_flickr"]
