"""What a release holds, and what each command does outside the checkout with only some extras."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT

if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("packages are built from a checkout only", allow_module_level=True)

from tests.support.command_line import BERT
from tests.support.fake_studies import config as study_config
from tests.support.installed import PROJECT, Installation, build_wheel, copy_project, install
from tests.support.parallel_corpora import make_folder
from tests.support.studies import Fake
from tests.support.tiny_run import tiny_run

HF, TRANSLATION, RECIPES, STUDY = "hf", "translation", "recipes", "study"
VARIANTS = {"torch alone": (), HF: (HF,), RECIPES: (RECIPES,), TRANSLATION: (TRANSLATION,)}
COMMANDS = {
    "table": ("table CONFIG --lr 1e-3 --steps 10 --schedule cosine", {HF}),
    "plan": ("plan CONFIG --lr 1e-3 --steps 10", {HF}),
    "draw": ("draw CONFIG -o drawing.svg", {HF}),
    "export": ("export CONFIG --to json", {HF}),
    "audit": ("audit CONFIG", {HF}),
    "audit --all": ("audit --all --types bert --jobs 1", {HF}),
    "probe": ("probe CONFIG --random-weights", {HF}),
    "diagnose": ("diagnose CHECKPOINT", {HF}),
    "coverage": ("coverage --types bert --jobs 1", {HF}),
    "score": ("score HYP REF", {TRANSLATION}),
    "score --detokenize": ("score HYP REF --detokenize en", {TRANSLATION}),
    "score --fairseq-log": ("score --fairseq-log LOG", {TRANSLATION}),
    "prepare": ("prepare CORPUS OUT --merges 7", {TRANSLATION}),
    "translate": ("translate RUN TEXT -o OUT", {HF, TRANSLATION}),
    "report": ("report STUDY --output OUT", {STUDY}),
    "study": ("study STUDY.yaml --output OUT", {STUDY}),
    "demo": ("demo --output OUT --examples 64 --epochs 2", {STUDY}),
}
"""Words of ``gamma-nlp``, and the extras without which they do not run."""

QUICK = ("score", "score --fairseq-log", "prepare")
"""Commands that import no torch."""

FAIRSEQ = {
    **{name: "--help" for name in PROJECT["project"]["scripts"] if name.startswith("gamma-fair")},
    "gamma-fairseq-to-transformers": "RUN --data RUN --prepared RUN --output OUT",
    "gamma-fairseq-from-transformers": "RUN --output OUT",
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    content = {
        "CONFIG": json.dumps(BERT),
        "HYP": "a small dog\nthe cat sat on the mat\n",
        "REF": "a small dog barks\nthe cat sat on the mat\n",
        "LOG": "S-0\tx\nT-0\ta small dog\nH-0\t-0.5\ta small dog\n",
        "TEXT": "Ein Hund 3.\n",
    }
    for name, text in content.items():
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    run = tiny_run(folder)
    (folder / "again").mkdir()
    paths = {name: str(folder / f"{name}.json") for name in content}
    paths |= {"RUN": str(run), "CHECKPOINT": str(run / "averaged")}
    paths["STUDY.yaml"] = str(study_config(folder / "again"))
    paths["STUDY"] = str(Fake(items=20, seeds=(1, 2)).write(folder / "study"))
    return {**paths, "CORPUS": str(make_folder(folder / "again")), "OUT": "out"}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def installed(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Installation]:
    made: dict[str, Installation] = {}

    def get(variant: str) -> Installation:
        if variant not in made:
            extras = VARIANTS.get(variant) or tuple(variant.split("+"))
            extras = () if variant == "torch alone" else extras
            made[variant] = install(tmp_path_factory.mktemp("env") / "env", wheel, extras)
        return made[variant]

    return get


def brought(variant: str) -> set[str]:
    extras = set(VARIANTS.get(variant, variant.split("+")))
    return extras | ({HF} if extras & {RECIPES, STUDY} else set())


def words_of(text: str, data: dict[str, str]) -> list[str]:
    return [data.get(word, word) for word in text.split()]


@pytest.mark.parametrize("variant", VARIANTS)
def test_commands_without_their_extra_name_it_in_one_line_and_write_nothing(
    variant: str, installed: Callable[[str], Installation], data: dict[str, str], tmp_path: Path
) -> None:
    environment = installed(variant)
    refused = 0
    for name, (text, needed) in COMMANDS.items():
        missing = needed - brought(variant)
        if not missing:
            continue
        done = environment.run("gamma-nlp", *words_of(text, data), cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), (name, done.stderr)
        assert done.stderr.startswith("error: gamma-nlp") and done.stderr.count("\n") == 1, name
        extras = {extra for extra in missing if f"pip install 'gamma_nlp[{extra}]'" in done.stderr}
        assert len(extras) == 1, (name, done.stderr)
        assert list(tmp_path.iterdir()) == [], name
        refused += 1
    assert refused == {"torch alone": 17, HF: 8, RECIPES: 8, TRANSLATION: 13}[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_help_and_version_need_no_extra(
    variant: str, installed: Callable[[str], Installation], tmp_path: Path
) -> None:
    environment = installed(variant)
    for option in ("--version", "--help"):
        done = environment.run("gamma-nlp", option, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


def test_torch_alone_is_enough_for_the_core(
    installed: Callable[[str], Installation], tmp_path: Path
) -> None:
    code = """
import torch
from torch import nn
import gamma_nlp
from gamma_nlp import *
assert "site-packages" in gamma_nlp.__file__
model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
table = categorize(model, torch.randn(3, 4))
assert [str(gain.category) for gain in table] == ["head"]
assert probe(model, torch.randn(3, 4), table).verdict == "agrees"
make_optimizer(torch.optim.AdamW, model, lr=0.1, weight_decay=0.1, table=table)
assert not hasattr(gamma_nlp, "GammaTrainer")
"""
    done = installed("torch alone").run("python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


ELSEWHERE = ("translate", "study", "report", "demo")
"""Commands that need more than one of the variants has."""

RUNS = [
    (variant, name)
    for variant in [*VARIANTS, f"{RECIPES}+{TRANSLATION}", STUDY]
    for name, (_, needed) in COMMANDS.items()
    if needed <= brought(variant)
    and (variant in VARIANTS or name in ("translate", "report", "study", "demo"))
]


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        pytest.param(*one, marks=() if one[1] in QUICK else pytest.mark.slow)
        if one != (HF, "table")
        else one
        for one in RUNS
    ],
)
def test_commands_run_where_their_extras_are(
    variant: str,
    name: str,
    installed: Callable[[str], Installation],
    data: dict[str, str],
    tmp_path: Path,
) -> None:
    words = words_of(COMMANDS[name][0], data)
    done = installed(variant).run("gamma-nlp", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("out" in words) == (tmp_path / "out").exists()
    if "out" not in words:
        pictures = [word for word in words if word.endswith(".svg")]
        assert done.stdout and [path.name for path in tmp_path.iterdir()] == pictures


def test_every_command_is_tried() -> None:
    from gamma_nlp.cli import main

    assert {text.split()[0] for text, _ in COMMANDS.values()} == set(main.COMMANDS)
    assert {name for _, name in RUNS} == set(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["torch alone", f"{RECIPES}+{TRANSLATION}"])
@pytest.mark.parametrize("command", FAIRSEQ)
def test_commands_of_fairseq_say_how_to_install_it(
    variant: str,
    command: str,
    installed: Callable[[str], Installation],
    data: dict[str, str],
    tmp_path: Path,
) -> None:
    done = installed(variant).run(command, *words_of(FAIRSEQ[command], data), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    # torch itself warns where numpy is missing.
    *before, last = done.stderr.splitlines()
    assert last.startswith("error: ") and "install" in last
    assert not before or "NumPy" in before[0]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has hatchling."""
    if importlib.util.find_spec("hatchling"):
        return sys.executable
    folder = tmp_path_factory.mktemp("builder")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    needs = PROJECT["build-system"]["requires"]
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", *needs], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"hatchling is not installed and cannot be fetched: {done.stderr[-200:]}")
    return python


@pytest.mark.slow
def test_the_wheel_and_the_sdist_hold_what_they_must(builder: str, tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    build = (
        "import sys; from hatchling import build as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    )

    def built(kind: str, source: Path) -> Path:
        done = subprocess.run(
            [builder, "-c", build, kind, str(tmp_path)],
            cwd=source,
            capture_output=True,
            text=True,
            check=True,
        )
        return tmp_path / done.stdout.splitlines()[-1]

    sdist = built("build_sdist", project)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    unpacked = next((tmp_path / "unpacked").iterdir())
    for folder in ("gamma_nlp", "recipes", "scripts", "tests"):
        assert files(unpacked / folder) == files(project / folder)
    with zipfile.ZipFile(built("build_wheel", unpacked)) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        entry_points = next(n for n in archive.namelist() if n.endswith("entry_points.txt"))
        assert "gamma-nlp = gamma_nlp.cli.main:main" in archive.read(entry_points).decode()
    assert sorted(names) == [f"gamma_nlp/{name}" for name in files(project / "gamma_nlp")]
    assert {"gamma_nlp/py.typed", "gamma_nlp/gains/tables/transformers.ini"} <= set(names)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
