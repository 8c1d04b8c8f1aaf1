"""The package as a user installs it: a fresh environment with some extras and no checkout."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tests.support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def build_wheel(folder: Path) -> Path:
    """Build the wheel; where hatchling is not installed, pack what pyproject.toml says by hand.

    The stand-in has the files that hatchling would take (`packages = ["gamma_nlp"]`) and the same
    entry points, so that what is run from it is what a user runs.
    """
    if importlib.util.find_spec("hatchling"):
        code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return folder / done.stdout.splitlines()[-1]
    project = PROJECT["project"]
    wheel = folder / f"{project['name']}-{project['version']}-py3-none-any.whl"
    info = f"{project['name']}-{project['version']}.dist-info"
    scripts = "".join(f"{name} = {where}\n" for name, where in project["scripts"].items())
    with zipfile.ZipFile(wheel, "w") as archive:
        for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
            for path in sorted((ROOT / package).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    archive.write(path, path.relative_to(ROOT))
        archive.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n",
        )
        archive.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{scripts}")
    return wheel


def closure(extras: tuple[str, ...]) -> set[str]:
    """Names of the distributions that an installation with these extras brings."""
    project = PROJECT["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [Requirement(text) for text in wanted]
    while queue:
        one = queue.pop()
        name, key = _plain(one.name), (_plain(one.name), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        if name == _plain(project["name"]):
            for extra in one.extras:
                queue += map(Requirement, project["optional-dependencies"][extra])
            continue
        found.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional one that is not installed here
        for text in requires:
            needed = Requirement(text)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)
            ):
                queue.append(needed)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Installation:
    """An environment with the package in it."""

    folder: Path

    def run(self, command: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in an empty folder, offline."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(
            [str(self.folder / "bin" / command), *map(str, words)],
            cwd=cwd,
            env={**kept, "HOME": str(cwd), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def install(folder: Path, wheel: Path, extras: tuple[str, ...]) -> Installation:
    """Make an environment that holds the wheel and what its extras bring, and nothing else.

    What the extras bring is linked from the environment that runs the tests, so that it takes no
    network and no time; what they do not bring is truly absent.
    """
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    site = next((folder / "lib").glob("python*/site-packages"))
    for name in closure(extras):
        for entry in _entries(name):
            if not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name, where in PROJECT["project"]["scripts"].items():
        module, _, function = where.partition(":")
        script = folder / "bin" / name
        script.write_text(
            f"#!{folder / 'bin' / 'python'}\nimport sys\nfrom {module} import {function}\n"
            f"sys.exit({function}())\n"
        )
        script.chmod(0o755)
    return Installation(folder)


def _entries(distribution: str) -> Iterator[Path]:
    """Files and folders of a distribution at the top of site-packages."""
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return
    for top in {Path(str(file)).parts[0] for file in found.files or ()}:
        path = Path(str(found.locate_file(top)))
        if top not in ("..", "__pycache__") and not top.endswith(".pth") and path.exists():
            yield path


def copy_project(folder: Path) -> Path:
    """Copy what a release is built from."""
    target = folder / "project"
    target.mkdir()
    include = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for name in ("pyproject.toml", ".gitignore", *include):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, target / name)
    return target
