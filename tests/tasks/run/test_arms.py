"""Arms differ only where their means lie further apart than the seeds of one arm."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamma_nlp.decay.policy import PRESETS
from gamma_nlp.tasks.run.arms import Outcome, comparison, differ, verdict
from gamma_nlp.tasks.run.arms_plot import POLICY_COLOURS, colours, plot_arms


def runs(*scores: float, inner: float = 0.0) -> list[Outcome]:
    return [Outcome(score=score, gains={"branch_inner": inner, "head": 0.0}) for score in scores]


def test_a_difference_within_the_spread_of_either_arm_is_not_a_difference() -> None:
    assert not differ([80.0, 81.0], [81.0, 82.0])
    assert not differ([80.0, 80.0], [81.0, 85.0])
    assert differ([80.0, 80.5], [82.0, 82.5])
    assert verdict([80.0, 82.0], [81.0, 82.0]) == (
        "+0.5 points, within the 2.0 between seeds: these runs show no difference"
    )
    assert verdict([80.0, 80.5], [78.0, 78.5]) == "-2.0 points, more than the 0.5 between seeds"


def test_a_comparison_names_the_gains_that_moved() -> None:
    arms = {"none": runs(80, 82), "all": runs(81, 82, inner=-10)}
    text = comparison("a model", arms, {"guidelines": "none"}).splitlines()
    assert text[0].startswith("a model: mean over 2 seeds (lowest to highest)")
    assert text[1].split() == [
        "policy",
        "dev",
        "accuracy",
        "branch_inner",
        "gains",
        "head",
        "gains",
    ]
    assert text[2].startswith("none = guidelines  81.0 (80.0 to 82.0)")
    assert "these runs show no difference" in text[4]
    assert text[5].endswith("more than the seeds do: branch_inner")


def test_a_policy_has_the_same_colour_in_every_plot() -> None:
    assert colours(["all", "none"])["all"] == colours(["mine", "all"])["all"]
    same = {"iwd": "input_only", "torchtitan": "all_params"}  # two names of one policy
    assert all(POLICY_COLOURS[name] == POLICY_COLOURS[other] for name, other in same.items())
    distinct = [policy for policy in POLICY_COLOURS if policy not in same]
    assert POLICY_COLOURS.keys() == PRESETS.keys()
    assert len(set(colours([*distinct, "mine", "yours"]).values())) == len(distinct) + 2


def test_both_rows_of_a_plot_give_a_policy_one_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot

    kept: list[pyplot.Figure] = []
    monkeypatch.setattr(pyplot, "close", kept.append)
    # The second row has one policy more, which shifted the colours once.
    models = {
        "post": {"none": runs(80, 82), "all": runs(81, 82)},
        "pre": {name: runs(80, 81, 82) for name in ("none", "guidelines", "all")},
    }
    equal = {"post": {"guidelines": "none"}}
    plot_arms(models, tmp_path / "arms.png", title="arms", dose=0.1, equal=equal)
    monkeypatch.undo()
    assert (tmp_path / "arms.png").read_bytes().startswith(b"\x89PNG")
    post, pre = kept[0].axes[1], kept[0].axes[3]
    for axis, policies in ((post, ("none", "all")), (pre, ("none", "guidelines", "all"))):
        dots = [line for line in axis.lines if line.get_marker() == "o"]
        assert [line.get_color() for line in dots] == [POLICY_COLOURS[name] for name in policies]
    assert [text.get_text() for text in post.texts] == ["the same as\nnone"]
    pyplot.close(kept[0])
