from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.study.results.study_file import read_study
from tests.support.studies import Fake, write_bare


def edited(folder: Path, **changes: Any) -> Path:
    study = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(study | changes))
    return folder


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    study = read_study(Fake(doses=(0.1, 0.5), aa=True).write(tmp_path))
    assert [cell.name for cell in study.cells] == [
        *("none@10%", "all@10%", "none-again@10%", "none@50%", "all@50%", "none-again@50%")
    ]
    assert study.cell("all@50%").against == "none@50%"
    assert study.cell("none-again@10%").aa
    assert study.metric.smallest_difference == 0.5 and study.metric.scale == 100
    assert len(study.planned) == 30
    assert study.planned[0].folder == tmp_path / "runs" / "none-10pct-seed1"


def test_what_a_foreign_study_leaves_out_has_defaults(tmp_path: Path) -> None:
    study = read_study(write_bare(tmp_path, {"a": [0.5], "b": [0.6]}))
    assert study.metric.higher_is_better
    assert study.cell("b").dose is None and not study.cell("b").plan


def test_a_stand_in_of_the_baseline_is_what_arms_are_compared_with(tmp_path: Path) -> None:
    folder = Fake(arms={"none": 0.0, "all": 0.0, "timm": 0.0}, same_as={"none": "timm"})
    study = read_study(folder.write(tmp_path))
    assert study.base(study.cell("all")) == "timm"
    assert study.base(study.cell("timm")) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": None}, r"study.json: metric is missing; expected an object$"),
        ({"metric": {"scores": "accuracy"}}, r"metric.scores must be a list of texts, not 'accu"),
        ({"metric": {"scores": []}}, r"metric.scores is empty; expected one score or more$"),
        ({"metric": {"scores": ["a"], "scale": "x"}}, r"metric.scale must be a number, not 'x'$"),
        (
            {"metric": {"scores": ["a"], "smallest_difference": 0}},
            r"metric.smallest_difference is 0; expected a number above 0$",
        ),
        ({"baseline": 3}, r"baseline must be text, not 3$"),
        ({"cells": {}}, r"cells must be a list of objects, not \{\}$"),
        ({"cells": ["none"]}, r"cells\[0\] must be an object, not 'none'$"),
        ({"cells": [{"name": "none"}]}, r"cells\[0\].arm is missing; expected text$"),
        ({"cells": [{"name": "a", "arm": "a", "dose": True}]}, r"cells\[0\].dose must be a number"),
        (
            {"cells": [{"name": "a", "arm": "a"}, {"name": "b", "arm": "b", "against": "aa"}]},
            r"against of cell 'b' names no cell: 'aa'; did you mean 'a'\?$",
        ),
        ({"cells": [{"name": "a", "arm": "a"}] * 2}, r"the cell a is there twice; leave one out$"),
        ({"runs": [{"cell": "none", "seed": "1", "folder": "x"}]}, r"runs\[0\].seed must be a who"),
        (
            {"runs": [{"cell": "non", "seed": 1, "folder": "x"}]},
            r"a run of no cell: 'non'; did you",
        ),
        (
            {"runs": [{"cell": "none", "seed": 1, "folder": f} for f in "xy"]},
            r"the run none, seed 1, is there twice; leave one out$",
        ),
        (
            {"runs": [{"cell": "none", "seed": s, "folder": "x"} for s in (1, 2)]},
            r"the folder .*x is there twice; leave one out$",
        ),
        (
            {"cells": [{"name": "none", "arm": "none", "against": "none"}]},
            r"against of cell 'none' is 'none', which has one itself; expected a cell without",
        ),
        (
            {"cells": [{"name": n, "arm": "none", "same_as": s} for n, s in ("ab", "ba")]},
            r"same_as of cell 'a' is 'b', which has one itself; expected a cell without same_as$",
        ),
        (
            {
                "cells": [
                    {"name": "none", "arm": "none"},
                    {"name": "b", "arm": "b", "same_as": "none"},
                ],
                "runs": [{"cell": "b", "seed": 1, "folder": "x"}],
            },
            r"cell 'b' has runs, though 'none' stands for it; leave out its same_as, or its runs$",
        ),
        (
            {"cells": [{"name": "none", "arm": "none", "factors": {"head": "no"}}]},
            r"cells\[0\].factors.head must be true or false, not 'no'$",
        ),
        (
            {"baseline": "nine", "cells": [{"name": "none", "arm": "none"}], "runs": []},
            r"baseline names no arm: 'nine'; did you mean 'none'\?$",
        ),
        ({"schema": 2}, r"schema is 2, and this version reads 1; update gamma_nlp$"),
    ],
)
def test_what_a_study_cannot_say_is_named_with_its_key(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(GammaError, match=message):
        read_study(edited(Fake(seeds=(1,), items=20).write(tmp_path), **changes))


@pytest.mark.parametrize("text", ['{"name": "x", ', "[]", "", '{"a": 1, "a": 2}'])
def test_a_file_that_is_cut_short_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(GammaError, match=r"study\.json"):
        read_study(tmp_path)
