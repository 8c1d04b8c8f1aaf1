"""Studies, and the results that their runs left, with the study's own file and without."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.support.fuzz.kind import Kind, made
from tests.support.fuzz.kinds.recipes import recipe_files


def _study_config(folder: Path) -> None:
    from gamma_nlp.study.design.config import read_study

    read_study(folder / "study.yaml")


def _study_config_files() -> tuple[dict[str, bytes], ...]:
    command = ["python", "train.py", "--seed", "{seed}", "--arm", "{arm}", "--out", "{folder}"]
    content = {
        "name": "x", "about": "y", "command": command, "set": {"seconds": 0.01}, "seeds": 3,
        "arms": {"none": {"policy": "none"}, "all": {"set": {"seconds": 0.02}}},
        "baseline": "none", "metric": {"score": "a.b", "higher_is_better": True},
        "smallest_difference": 0.5,
        "output": "out", "threads": 1,
    }  # fmt: skip
    recipe = {
        "recipe": {"engine": "glue", "file": "recipe.yaml"}, "set": {"num_train_epochs": 1},
        "arms": {"none": {"policy": "none"}, "all": {"policy": "all"}}, "baseline": "none",
        "doses": [0.1, 0.2], "seeds": [1, 2],
        "metric": "accuracy", "smallest_difference": 0.5, "output": "out",
    }  # fmt: skip
    return (
        {"study.yaml": yaml.safe_dump(content).encode(), "train.py": b"pass\n"},
        {"study.yaml": yaml.safe_dump(recipe).encode(), **recipe_files()},
    )


def _study(folder: Path) -> None:
    from gamma_nlp.study.report.findings import findings
    from gamma_nlp.study.report.write import FORMATS
    from gamma_nlp.study.results.found import find

    FORMATS["text"](findings(find(folder)))


def _study_files() -> tuple[dict[str, bytes], ...]:
    from tests.support.studies import Fake, write_bare

    scores = {"none": [0.5, 0.6, 0.55], "all": [0.7, 0.6, 0.65]}
    return (
        made(lambda folder: write_bare(folder, scores)),
        made(lambda folder: Fake(items=8, seeds=(1, 2)).write(folder)),
    )


def _loose(folder: Path) -> None:
    from gamma_nlp.study.results.found import find

    find(folder, metric=["accuracy"], baseline="none")


def _loose_files() -> tuple[dict[str, bytes], ...]:
    studies = _study_files()
    return tuple({k: v for k, v in one.items() if k != "study.json"} for one in studies)


STUDIES = Kind(good=_study_config_files, read=_study_config, share=2)
RESULTS = Kind(good=_study_files, read=_study, share=0.6)
LOOSE_RUNS = Kind(good=_loose_files, read=_loose)
