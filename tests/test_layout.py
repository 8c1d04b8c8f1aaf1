"""The layout holds: few files at the root, imports in one direction, a README in each folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grimp
import pytest

from tests.support.paths import ROOT
from tests.support.readmes import links, name, readmes

PACKAGE = ROOT / "gamma_nlp"
MOST_LAYERS = 10


def package(module: str) -> str:
    """The package of a module: ``gamma_nlp.decay`` for ``gamma_nlp.decay.dose``."""
    return ".".join(module.split(".")[:2])


def folders(*tops: str) -> list[Path]:
    files = subprocess.run(["git", "ls-files", *tops], cwd=ROOT, capture_output=True, text=True)
    found = {ROOT / Path(line).parent for line in files.stdout.splitlines()}
    return sorted(found) or [path for top in tops for path in (ROOT / top).rglob("*/")]


def test_the_root_holds_at_most_seven_files() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 7


def test_packages_form_few_layers_and_no_import_points_up() -> None:
    graph = grimp.build_graph("gamma_nlp", cache_dir=None)
    below: dict[str, set[str]] = {}
    for module in graph.modules - {"gamma_nlp"}:
        imported = graph.find_modules_directly_imported_by(module) - {"gamma_nlp"}
        below.setdefault(package(module), set()).update(map(package, imported))
    layers: dict[str, int] = {}
    while len(layers) < len(below):
        ready = {r for r in below.keys() - layers.keys() if below[r] - {r} <= layers.keys()}
        assert ready, f"a cycle among {sorted(below.keys() - layers.keys())}"
        layers |= {r: 1 + max((layers[b] for b in below[r] - {r}), default=0) for r in ready}
    assert max(layers.values()) <= MOST_LAYERS
    assert layers["gamma_nlp.cli"] == max(layers.values())


def test_files_form_no_import_cycle() -> None:
    graph = grimp.build_graph("gamma_nlp", exclude_type_checking_imports=True, cache_dir=None)
    left = {m: graph.find_modules_directly_imported_by(m) - {m, "gamma_nlp"} for m in graph.modules}
    del left["gamma_nlp"]  # re-exports names from everywhere
    while ground := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in ground:
            del left[module]
    assert not left


@pytest.mark.parametrize("which", ["--cached", "--others"])
def test_no_file_of_ours_is_ignored(which: str) -> None:
    """What git ignores is in no commit, and what is in a commit all the same is in no wheel."""
    command = ["git", "ls-files", which, "--ignored", "--exclude-standard", "gamma_nlp", "tests"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert [file for file in files if "__pycache__" not in file] == []


@pytest.mark.parametrize("folder", folders("gamma_nlp", "recipes"), ids=lambda f: f.name)
def test_every_folder_has_a_readme_of_at_most_150_lines(folder: Path) -> None:
    assert len((folder / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_no_source_file_is_ignored() -> None:
    """A pattern such as ``runs/`` also hides rooms of that name from commits and from linters."""
    words = ["git", "ls-files", "--others", "--ignored", "--exclude-standard"]
    tops = ["gamma_nlp", "tests", "recipes", "scripts"]
    found = subprocess.run([*words, *tops], cwd=ROOT, capture_output=True, text=True).stdout
    hidden = [line for line in found.splitlines() if not line.endswith(".pyc")]
    assert not [line for line in hidden if Path(line).suffix in (".py", ".md", ".yaml", ".css")]


def test_the_readme_of_the_root_has_at_most_230_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 230


@pytest.mark.parametrize("path", readmes(), ids=name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    for link in links(path):
        assert (path.parent / link).exists(), link
