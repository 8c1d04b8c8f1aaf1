"""Train an attention-only model on SimpleLogic, under a decay policy of its gains.

    python -m recipes.studies.simple_logic --decay_policy all --weight_decay 0.1 \\
        --seed 1 --output_dir runs/one

The problems (facts, rules, a query: do they prove it?) are drawn anew, after Zhang et al. 2022
(arXiv:2205.11502), in the three ways of that paper, and mixed for training. The model is a small
Llama without MLPs. A run writes ``results.json`` with which test problems were solved. ``--help``
lists all keys, the Trainer's among them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma_nlp.tasks.run.arguments import RunArguments
from gamma_nlp.tasks.run.items import Items, Source, items_file
from gamma_nlp.tasks.run.main import run

if TYPE_CHECKING:
    import numpy as np

    from recipes.studies.training import Setup

DEFAULTS = {
    "max_steps": "1500",
    "per_device_train_batch_size": "64",
    "per_device_eval_batch_size": "200",
    "learning_rate": "1e-2",
    "adam_beta2": "0.98",
    "warmup_steps": "75",
    "lr_scheduler_type": "linear",
    "eval_strategy": "steps",
    "eval_steps": "250",
    "logging_steps": "50",
    "cpu_threads": "1",
}
"""The setting of the shipped study; the learning rate is the log's."""
_TRAIN, _TEST = 0, 1  # seeds of the draws, the same for every run


@dataclass(kw_only=True)
class LogicArguments(RunArguments):
    """What a run needs besides the Trainer's own arguments."""

    problems: str = field(
        default="runs/simple-logic-problems", metadata={"help": "folder that keeps the problems"}
    )
    train_problems: int = field(default=8000, metadata={"help": "of each of the three kinds"})
    test_problems: int = field(default=400, metadata={"help": "of each of the three kinds"})
    width: int = field(default=64, metadata={"help": "width of the stream"})
    layers: int = field(default=3, metadata={"help": "number of attention blocks"})
    heads: int = field(default=4, metadata={"help": "heads of each block"})
    start: float = field(default=0.1, metadata={"help": "deviation of the initial weights"})


def main(argv: Sequence[str] | None = None) -> int:
    return run(_main, argv)


def _main(argv: Sequence[str]) -> None:
    from gamma_nlp.tasks.run.doses import gain_lines
    from recipes.studies.training import read_arguments, run_study

    recipe, args = read_arguments(
        LogicArguments, argv, DEFAULTS, "runs/simple-logic/{decay_policy}-seed{seed}"
    )
    results = run_study(recipe, args, setup(recipe, args))
    scores = [f"{k[5:-9]} {v:.1%}" for k, v in results["final"].items() if k.endswith("accuracy")]
    print(f"\nsolved: {', '.join(scores)}", *gain_lines(results), sep="\n")


def setup(recipe: LogicArguments, args: Any) -> Setup:
    """Return what a run trains on: problems in the seed's order, under names of the seed's."""
    import numpy as np
    import torch

    from gamma_nlp.tasks.run.identity import digest
    from recipes.studies.attention_only import AttentionOnly
    from recipes.studies.logic import NAMES, ROLES, renamed
    from recipes.studies.training import Rows, Setup

    train, test = problem_sets(recipe)
    draw = np.random.default_rng(args.seed)
    ids, labels = (np.concatenate(parts) for parts in zip(*train.values(), strict=True))
    wanted = args.max_steps * args.train_batch_size
    rounds = -(-wanted // len(ids))
    order = np.concatenate([draw.permutation(len(ids)) for _ in range(rounds)])[:wanted]

    def rows(ids: np.ndarray, labels: np.ndarray) -> Rows:
        return Rows(
            input_ids=torch.from_numpy(ids.astype(np.int64)), labels=torch.from_numpy(labels)
        )

    return Setup(
        task="simple-logic",
        model="attention-only Llama",
        build=lambda: AttentionOnly(
            names=NAMES,
            roles=ROLES,
            labels=2,
            width=recipe.width,
            layers=recipe.layers,
            heads=recipe.heads,
            start=recipe.start,
        ),
        train=rows(renamed(ids[order], draw), labels[order]),
        evaluation={name: rows(*one) for name, one in test.items()},
        outcome=lambda logits, labels: (logits.argmax(dim=-1) == labels).float()[:, None],
        score=lambda correct: {"accuracy": float(correct.mean())},
        items=outcomes,
        data={
            name: digest(values.tobytes() for values in one)
            for name, one in {"train": (ids, labels), **test}.items()
        },
        inputs={"input_ids": torch.from_numpy(ids[:2].astype(np.int64))},
    )


Sets = dict[str, tuple["np.ndarray", "np.ndarray"]]
"""Tokens and labels, by the name of the kind."""


def problem_sets(recipe: LogicArguments) -> tuple[Sets, Sets]:
    """Return tokens and labels of every kind of problem: to train on, and to test on."""
    from recipes.studies.kept import kept
    from recipes.studies.logic import DRAWS, FORM, drawn

    found: list[Sets] = []
    for number, seed in ((recipe.train_problems, _TRAIN), (recipe.test_problems, _TEST)):
        sets: Sets = {}
        for name in DRAWS:
            path = Path(recipe.problems) / f"{name}-{FORM}-{number}-{seed}.npz"
            arrays = kept(path, partial(drawn, name, number, seed))
            sets[name] = (arrays["ids"], arrays["labels"])
        found.append(sets)
    return found[0], found[1]


def outcomes(kept: Mapping[str, Any]) -> tuple[dict[str, Items], dict[str, Source]]:
    """Return the test problems as items, and how each set's accuracy follows from them."""
    import numpy as np

    items, sources = {}, {}
    for name, correct in kept.items():
        ids = np.array([f"{name}:{at}" for at in range(len(correct))])
        items[name] = Items(ids=ids, columns={"correct": correct.reshape(-1)})
        source = Source(file=items_file(name), statistic="mean", columns=("correct",))
        sources[f"final.eval_{name}_accuracy"] = source
    return items, sources


if __name__ == "__main__":
    sys.exit(main())
