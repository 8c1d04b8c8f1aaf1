from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.study.results.run import Run, full_paths, read_results, score, score_paths
from gamma_nlp.study.results.study_file import Planned

RESULTS = {
    "seed": 1,
    "final": {"step": 10, "epoch": 1.0, "eval_accuracy": 0.9, "eval_loss": 0.2},
    "best": {"eval_accuracy": 0.95},
    "scores": {"test2016": {"sacrebleu": 33.1, "chrf": 55.0}},
    "wall_seconds": 3.0,
    "steps": 10,
    "dose": {"head": {"gains": 1, "dose": 0.1}},
    "perplexity": 7.5,
    "resumed": False,
}


def run(**changes: Any) -> Run:
    planned = Planned(cell="none", seed=1, folder=Path("runs/none-seed1"))
    return Run(planned=planned, results=RESULTS | changes)


def test_scores_are_listed_and_nothing_else() -> None:
    assert score_paths(RESULTS) == [
        *("final.eval_accuracy", "final.eval_loss"),
        *("scores.test2016.sacrebleu", "scores.test2016.chrf", "perplexity"),
    ]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("eval_accuracy", "final.eval_accuracy"),
        ("accuracy", "final.eval_accuracy"),
        ("final.eval_loss", "final.eval_loss"),
        ("perplexity", "perplexity"),
        ("test2016.chrf", "scores.test2016.chrf"),
        ("best.eval_accuracy", "best.eval_accuracy"),
    ],
)
def test_a_metric_is_a_name_or_a_path(name: str, path: str) -> None:
    assert full_paths([name], [run()]) == (path,)


def test_names_with_dots_are_found() -> None:
    assert score(run(**{"a.b": {"c.d": 0.5}}), "a.b.c.d") == 0.5


def test_a_metric_that_no_run_has_names_those_that_there_are() -> None:
    with pytest.raises(
        GammaError, match=r"^no run has the score 'eval_acuracy'; did you mean 'eval_accuracy'\?: f"
    ):
        full_paths(["eval_acuracy"], [run()])
    with pytest.raises(GammaError, match=r"score 'zzz'; give one of those that there are: final\."):
        full_paths(["zzz"], [run()])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), r"perplexity is nan, which is no score$"),
        (float("-inf"), r"perplexity is -inf, which is no score$"),
        (10**400, r"perplexity is a number of about 401 digits, which is no score$"),
        ("7.5", r"perplexity must be a number, not '7.5'$"),
        (True, r"perplexity must be a number, not True$"),
        (None, r"^runs/none-seed1/results.json: perplexity is missing$"),
        ([7.5], r"perplexity must be a number, not \[7.5\]$"),
    ],
)
def test_what_is_no_score_is_named_with_its_file(value: object, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        score(run(perplexity=value), "perplexity")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": None}, r"results.json: seed is missing; expected a whole number$"),
        ({"seed": 1.5}, r"seed must be a whole number, not 1.5$"),
        ({"seed": True}, r"seed must be a whole number, not True$"),
        ({"versions": ["torch"]}, r"versions must be an object, not \['torch'\]$"),
        ({"data": "abc"}, r"data must be an object, not 'abc'$"),
        ({"groups": 7}, r"groups must be text, not 7$"),
        (
            {"settings": {"a": [1, 10**400]}},
            r"settings.a\[1\] is a number of .* which is too large",
        ),
        ({"weight_decay": float("nan")}, r"weight_decay is nan; expected a number$"),
        ({"policy": {"mode": {"native": 1}}}, r"policy.mode must be text, not \{'native': 1\}$"),
        ({"policy": {"name": ["all"]}}, r"policy.name must be text, not \['all'\]$"),
        ({"policy": ["all"]}, r"policy must be text, not \['all'\]$"),
        ({"sum_of_learning_rates": "1"}, r"sum_of_learning_rates must be a number, not '1'$"),
        ({"items": {"acc": "x.npz"}}, r"items.acc must be an object, not 'x.npz'$"),
        ({"items": {"acc": {"file": "x"}}}, r"items.acc.statistic is missing; expected text$"),
    ],
)
def test_results_of_another_shape_are_named_with_their_key(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(RESULTS | changes))
    with pytest.raises(GammaError, match=message):
        read_results(file)


def test_results_cut_short_anywhere_are_one_line(tmp_path: Path) -> None:
    text, file = json.dumps(RESULTS), tmp_path / "results.json"
    for length in range(0, len(text), 7):
        file.write_text(text[:length])
        with pytest.raises(GammaError, match=r"^.*results\.json:1: not valid JSON: [^\n]*$"):
            read_results(file)
