"""The house stays a house: few files at the root, rooms in one direction, a README in each."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grimp
import pytest

from tests.support.paths import ROOT
from tests.support.readmes import links, name, readmes

PACKAGE = ROOT / "gamma_nlp"
MOST_FLOORS = 9


def room(module: str) -> str:
    """The room of a module: ``gamma_nlp.decay`` for ``gamma_nlp.decay.dose``."""
    return ".".join(module.split(".")[:2])


def folders(*tops: str) -> list[Path]:
    files = subprocess.run(["git", "ls-files", *tops], cwd=ROOT, capture_output=True, text=True)
    found = {ROOT / Path(line).parent for line in files.stdout.splitlines()}
    return sorted(found) or [path for top in tops for path in (ROOT / top).rglob("*/")]


def test_the_root_holds_at_most_seven_files() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 7


def test_rooms_stand_on_few_floors_and_no_import_points_up() -> None:
    graph = grimp.build_graph("gamma_nlp", cache_dir=None)
    below: dict[str, set[str]] = {}
    for module in graph.modules - {"gamma_nlp"}:
        imported = graph.find_modules_directly_imported_by(module) - {"gamma_nlp"}
        below.setdefault(room(module), set()).update(map(room, imported))
    floors: dict[str, int] = {}
    while len(floors) < len(below):
        ready = {r for r in below.keys() - floors.keys() if below[r] - {r} <= floors.keys()}
        assert ready, f"a circle among {sorted(below.keys() - floors.keys())}"
        floors |= {r: 1 + max((floors[b] for b in below[r] - {r}), default=0) for r in ready}
    assert max(floors.values()) <= MOST_FLOORS
    assert floors["gamma_nlp.cli"] == max(floors.values())


def test_files_import_one_another_in_no_circle() -> None:
    graph = grimp.build_graph("gamma_nlp", exclude_type_checking_imports=True, cache_dir=None)
    left = {m: graph.find_modules_directly_imported_by(m) - {m, "gamma_nlp"} for m in graph.modules}
    del left["gamma_nlp"]  # hands names on from everywhere
    while ground := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in ground:
            del left[module]
    assert not left


@pytest.mark.parametrize("folder", folders("gamma_nlp", "recipes"), ids=lambda f: f.name)
def test_every_folder_has_a_readme_of_at_most_150_lines(folder: Path) -> None:
    assert len((folder / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_of_the_root_has_at_most_230_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 230


@pytest.mark.parametrize("path", readmes(), ids=name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    for link in links(path):
        assert (path.parent / link).exists(), link
