"""The plot of a comparison: what every policy did to the gains and to the score, per seed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from gamma_nlp.gains.category import Category
from gamma_nlp.tasks.run.arms import Outcome
from gamma_nlp.tasks.run.plots import finish, pyplot

POLICY_COLOURS = {
    "none": "#777777",
    "guidelines": "#009e73",
    "all": "#d55e00",
    "input_only": "#0072b2",
    "iwd": "#0072b2",
    "all_params": "#8456a8",
    "torchtitan": "#8456a8",
    "hugging_face": "#b15928",
    "timm": "#66a61e",
    "olmo": "#e7298a",
    "qwen3_next": "#a6761d",
}
"""One colour for each preset, the same in every plot; two names of one policy share it."""

_FURTHER = ("#e69f00", "#56b4e9", "#cc79a7", "#000000")


def colours(policies: Sequence[str]) -> dict[str, str]:
    """Return a colour for each policy: a preset's own, and others in turn."""
    further = iter(_FURTHER)
    return {
        policy: POLICY_COLOURS.get(policy) or next(further, "#333333")
        for policy in dict.fromkeys(policies)
    }


def plot_arms(
    models: Mapping[str, Mapping[str, Sequence[Outcome]]],
    path: str | os.PathLike[str],
    *,
    title: str,
    dose: float | None = None,
    equal: Mapping[str, Mapping[str, str]] | None = None,
    score: str = "dev accuracy",
) -> None:
    """Draw one row a model: change of the gains per category, and the score; a dot for each seed.

    Args:
        models: Model -> policy -> its runs, one for each seed.
        path: The PNG to write.
        title: Heading of the plot.
        dose: Predicted pull where a policy decays, drawn as a line.
        equal: Model -> policy -> the arm that stands for it.
        score: What the score is.
    """
    plt = pyplot()
    found = dict.fromkeys(policy for arms in models.values() for policy in arms)
    policies = [policy for policy in POLICY_COLOURS if policy in found]
    policies += [policy for policy in found if policy not in POLICY_COLOURS]
    colour = colours(policies)
    figure, axes = plt.subplots(
        len(models), 2, figsize=(11.5, 3.5 * len(models) + 0.6), layout="constrained", dpi=110,
        squeeze=False, width_ratios=(3, 2), sharey="col",
    )  # fmt: skip
    for (model, arms), (gains, scores) in zip(models.items(), axes, strict=True):
        _draw_gains(gains, model, arms, colour, dose)
        _draw_scores(scores, model, arms, colour, policies, (equal or {}).get(model, {}), score)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour[policy]) for policy in policies]
    figure.legend(
        handles,
        policies,
        title="policy (dot: one seed; bar and thick line: mean; pale box: lowest to highest)",
        loc="outside lower center",
        ncols=len(policies),
        frameon=False,
    )
    finish(plt, figure, axes.flat, title, path)


def _draw_gains(
    axis: Any,
    model: str,
    arms: Mapping[str, Sequence[Outcome]],
    colour: Mapping[str, str],
    dose: float | None,
) -> None:
    known = {category for runs in arms.values() for run in runs for category in run.gains}
    categories = [category.value for category in Category if category.value in known]
    width = 0.8 / len(arms)
    for number, (policy, runs) in enumerate(arms.items()):
        for place, category in enumerate(categories):
            x = place + (number - (len(arms) - 1) / 2) * width
            _draw_bar(axis, x, [run.gains[category] for run in runs], 0.9 * width, colour[policy])
    axis.axhline(0.0, color="#444444", linewidth=0.8)
    if dose is not None:
        axis.axhline(-100 * dose, color="#444444", linewidth=1, linestyle="--")
        axis.annotate(
            f"dose {dose:.0%}:\ndecay alone",
            (1, -100 * dose),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 4),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    axis.set(title=f"{model}: size of the gains at the end", ylabel="change from the start (%)")
    axis.set_xticks(range(len(categories)), categories)
    axis.set_xlim(-0.55, len(categories) - 0.45 + (0.2 * len(categories) if dose else 0))


def _draw_scores(
    axis: Any,
    model: str,
    arms: Mapping[str, Sequence[Outcome]],
    colour: Mapping[str, str],
    policies: Sequence[str],
    equal: Mapping[str, str],
    score: str,
) -> None:
    axis.use_sticky_edges = False
    for x, policy in enumerate(policies):
        values = [run.score for run in arms.get(policy, ())]
        if values:
            low, high = min(values), max(values)
            axis.bar(x, high - low, 0.5, bottom=low, color=colour[policy], alpha=0.25)
            mean = sum(values) / len(values)
            axis.plot([x - 0.25, x + 0.25], [mean, mean], color=colour[policy], linewidth=2.5)
            _draw_dots(axis, x, values, 0.3, colour[policy])
        elif policy in equal:
            axis.text(
                x, 0.5, f"the same as\n{equal[policy]}", ha="center", va="center",
                transform=axis.get_xaxis_transform(), color=colour[policy], fontsize=9,
            )  # fmt: skip
    axis.set(title=f"{model}: {score}", ylabel=f"{score} (%)")
    axis.set_xticks(range(len(policies)), policies)
    axis.set_xlim(-0.6, len(policies) - 0.4)
    axis.margins(y=0.08)


def _draw_bar(axis: Any, x: float, values: Sequence[float], width: float, colour: str) -> None:
    axis.bar(x, sum(values) / len(values), width, color=colour, alpha=0.6)
    _draw_dots(axis, x, values, width / 2, colour)


def _draw_dots(axis: Any, x: float, values: Sequence[float], width: float, colour: str) -> None:
    # Side by side, so that equal values do not hide one another.
    step = width / max(len(values) - 1, 1)
    places = [x - width / 2 + step * number for number in range(len(values))]
    axis.plot(
        places, values, "o", color=colour, markersize=5, markeredgecolor="white", linestyle="none"
    )
