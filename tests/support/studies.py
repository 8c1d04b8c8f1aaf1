"""Folders of studies as `gamma-nlp study` leaves them, with known truth and items that correlate.

Every item has a difficulty of its own, every seed a luck that all arms share, so that arms pair by
item and by seed. Nothing is trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gamma_nlp.tasks.run.items import Items, Source, described, write_items

ACCURACY = "final.eval_accuracy"
LOSS = "final.eval_loss"
TEST_SETS = ("test2016", "test2017", "test2018", "mscoco")
CATEGORIES = ("branch_last", "branch_inner", "shortcut", "head")
GROUPS = {"none": "0" * 16}


@dataclass(frozen=True, kw_only=True)
class Fake:
    """A study with known truth.

    Attributes:
        arms: Arm -> its true shift of the latent score; the first is the baseline.
        doses: One cell of every arm for each; None: the recipe's own.
        seeds: Of every cell.
        items: In the evaluation set.
        noise: Of one seed of one arm, in units of the latent score.
        bleu: Whether the metric is BLEU over four test sets instead of accuracy.
        aa: Whether the baseline is run once more.
        same_as: Arm -> the arm that stands for it.
        factors: Arm -> which categories decay.
        changes: What study.json says instead, at its top.
    """

    arms: Mapping[str, float] = field(default_factory=lambda: {"none": 0.0, "all": -0.4})
    doses: Sequence[float | None] = (None,)
    seeds: Sequence[int] = (1, 2, 3, 4, 5)
    items: int = 300
    noise: float = 0.15
    bleu: bool = False
    aa: bool = False
    same_as: Mapping[str, str] = field(default_factory=dict)
    factors: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write the study with all its runs, and return its folder."""
        cells = self._cells()
        runs = [
            {"cell": cell["name"], "seed": seed, "folder": f"runs/{_safe(cell['name'])}-seed{seed}",
             "command": ["python", "train.py", "--seed", str(seed), "--policy", cell["policy"]]}
            for cell in cells if cell["same_as"] is None for seed in self.seeds
        ]  # fmt: skip
        scores = [f"scores.{name}.sacrebleu" for name in TEST_SETS] if self.bleu else [ACCURACY]
        study = {
            "schema": 1,
            "name": "sst2-minilm",
            "about": "MiniLM on SST-2, 10,000 sentences",
            "config_file": "studies/sst2.yaml",
            "config": {"arms": {arm: {"policy": arm} for arm in self.arms}},
            "metric": {"scores": scores, "higher_is_better": True, "smallest_difference": 0.5,
                       "unit": "BLEU" if self.bleu else "points",
                       "scale": 1 if self.bleu else 100},
            "baseline": next(iter(self.arms)),
            "seeds": list(self.seeds),
            "cells": cells,
            "runs": runs,
            "started": "2026-01-01T00:00:00Z",
            "versions": {"torch": "2.13.0"},
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "study.json").write_text(json.dumps(study | dict(self.changes), indent=2))
        by_name = {cell["name"]: cell for cell in cells}
        for run in runs:
            self._write_run(folder / run["folder"], by_name[run["cell"]], run["seed"])
        return folder

    def _cells(self) -> list[dict[str, Any]]:
        found = []
        base = next(iter(self.arms))
        for dose in self.doses:
            at = "" if dose is None else f"@{100 * dose:g}%"
            decay = 0.1 if dose is None else float(f"{-np.log1p(-dose):.6g}")
            for arm in [*self.arms, *([f"{base}-again"] if self.aa else [])]:
                again = arm == f"{base}-again"
                same = self.same_as.get(arm)
                found.append({
                    "name": f"{arm}{at}", "arm": base if again else arm, "dose": dose,
                    "coefficient": None, "weight_decay": decay,
                    "against": None if arm == base else f"{base}{at}",
                    "same_as": f"{same}{at}" if same else None, "aa": again,
                    "policy": base if again else arm, "factors": self.factors.get(arm),
                    "plan": {"steps": 313, "weight_decay": decay, "sum_of_learning_rates": 1.0,
                             "groups": _groups(arm if not again else base),
                             "data": {"train": "a" * 16, "validation": "b" * 16}},
                })  # fmt: skip
        return found

    def _write_run(self, folder: Path, cell: Mapping[str, Any], seed: int) -> None:
        folder.mkdir(parents=True)
        shift = self.arms[cell["arm"]] * (1.0 if cell["dose"] is None else 2 * cell["dose"])
        luck = np.random.default_rng([1, seed]).normal(0, self.noise)
        own = _generator(cell["against"] if cell["aa"] else cell["name"], seed)
        latent = 1.5 + shift + luck + own.normal(0, self.noise / 3)
        sources, values = {}, {}
        if self.bleu:
            for number, name in enumerate(TEST_SETS):
                counts = _bleu_counts(number, own, latent, self.items)
                write_items(folder / f"items/{name}.npz", _items({"sacrebleu": counts}))
                path = f"scores.{name}.sacrebleu"
                sources[path] = Source(
                    file=f"items/{name}.npz", statistic="sacrebleu", columns=("sacrebleu",)
                )
                values[name] = {"sacrebleu": round(_bleu(counts.sum(axis=0)), 2)}
            results: dict[str, Any] = {"scores": values}
        else:
            correct, loss = _outcomes(latent + 0.02 * cell["aa"], own, self.items)
            write_items(folder / "items/validation.npz", _items({"correct": correct, "loss": loss}))
            for path, column in ((ACCURACY, "correct"), (LOSS, "loss")):
                sources[path] = Source(
                    file="items/validation.npz", statistic="mean", columns=(column,)
                )
            results = {"final": {"step": 313, "eval_accuracy": float(correct.mean()),
                                 "eval_loss": float(loss.mean())}}  # fmt: skip
        results |= _about(cell, seed, own)
        results |= {"items": described(sources)}
        (folder / "results.json").write_text(json.dumps(results, indent=2))


def change(folder: Path, run: str, **values: Any) -> None:
    """Change keys of a run's results; dots in a key are two underscores."""
    file = folder / "runs" / run / "results.json"
    results = json.loads(file.read_text())
    for key, value in values.items():
        *above, last = key.split("__")
        place = results
        for name in above:
            place = place[name]
        place[last] = value
    file.write_text(json.dumps(results))


def fail(folder: Path, run: str, line: str = "error: CUDA out of memory") -> None:
    """Turn a finished run into one that failed."""
    (folder / "runs" / run / "results.json").unlink()
    told = {"code": 1, "last_line": line, "seconds": 3.2}
    (folder / "runs" / run / "failed.json").write_text(json.dumps(told))


def _outcomes(latent: float, own: np.random.Generator, items: int) -> tuple[np.ndarray, np.ndarray]:
    margin = latent + _difficulty(0, items) + own.normal(0, 0.6, items)
    return (margin > 0).astype(np.int64), np.log1p(np.exp(-2 * margin))


def _difficulty(number: int, items: int) -> np.ndarray:
    return np.random.default_rng([2, number]).normal(0, 1, items)


def _bleu_counts(number: int, own: np.random.Generator, latent: float, items: int) -> np.ndarray:
    lengths = np.random.default_rng([3, number]).integers(8, 20, items)
    share = 1 / (1 + np.exp(-(0.5 * latent - 0.2 + 0.4 * _difficulty(number, items))))
    totals = np.stack([lengths - n for n in range(4)], axis=1)
    matches = own.binomial(totals, np.stack([share ** (1 + 0.6 * n) for n in range(4)], axis=1))
    return np.concatenate([lengths[:, None], lengths[:, None], matches, totals], axis=1)


def _bleu(sums: np.ndarray) -> float:
    return float(100 * np.exp(np.log(sums[2:6] / sums[6:10]).mean()))


def _items(columns: Mapping[str, np.ndarray]) -> Items:
    count = len(next(iter(columns.values())))
    return Items(ids=np.array([f"item-{i}" for i in range(count)]), columns=columns)


def _about(cell: Mapping[str, Any], seed: int, own: np.random.Generator) -> dict[str, Any]:
    """What the recipes write besides scores: curves, doses, settings, versions."""
    decays = [name for name in CATEGORIES if _decays(cell["policy"], name)]
    dose = float(-np.expm1(-cell["weight_decay"]))
    steps = list(range(0, 314, 39))
    norms = {
        name: [[step, float((1 - dose * (name in decays)) ** (step / 313) * (1 + 0.002 * i))]
               for step in steps]
        for i, name in enumerate(CATEGORIES[:3])
    }  # fmt: skip
    losses = [[step, float(0.3 + 0.4 * np.exp(-step / 90) + own.normal(0, 0.01))]
              for step in steps[1:]]  # fmt: skip
    history = [{"step": step, "epoch": step / 313, "eval_loss": 0.3 + 0.4 * np.exp(-step / 80),
                "eval_accuracy": 0.9 - 0.3 * np.exp(-step / 60) + own.normal(0, 0.004)}
               for step in (100, 200, 313)]  # fmt: skip
    return {
        "seed": seed,
        "task": "sst2",
        "model": "MiniLM",
        "history": history,
        "curves": {"loss": losses, "learning_rate": [[s, 1e-3 * (1 - s / 313)] for s in steps],
                   "gain_norm": norms},
        "dose": {name: {"gains": 12, "coefficient": cell["weight_decay"] * (name in decays),
                        "dose": dose * (name in decays)} for name in norms},
        "gain_norm": {name: {"first": line[0][1], "last": line[-1][1]}
                      for name, line in norms.items()},
        "steps": 313,
        "planned_steps": 313,
        "weight_decay": cell["weight_decay"],
        "sum_of_learning_rates": 1.0,
        "groups": cell["plan"]["groups"],
        "data": {"train": "a" * 16, "validation": "b" * 16},
        "policy": {"name": cell["policy"], "mode": "native"},
        "settings": {"decay_policy": cell["policy"], "task": "sst2", "max_length": 64,
                     "training_arguments": {"learning_rate": 1e-3, "seed": seed}},
        "versions": {"torch": "2.13.0", "transformers": "5.17.0"},
        "hardware": {"device": "cpu", "processor": "x86_64", "cores": 2, "threads": 1},
        "wall_seconds": 81.2,
        "precision": "fp32",
    }  # fmt: skip


def _decays(policy: str, category: str) -> bool:
    return policy == "all" or (policy != "none" and category.startswith("branch"))


def _groups(arm: str) -> str:
    return GROUPS.get(arm) or f"{sum(map(ord, arm)):016x}"


def _generator(cell: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([4, seed, *map(ord, cell)])


def _safe(cell: str) -> str:
    return cell.replace("@", "-").replace("%", "pct").replace("/", "-")


def write_bare(
    folder: Path, scores: Mapping[str, Sequence[float]], *, metric: Mapping[str, Any] | None = None
) -> Path:
    """Write a study of foreign runs, which tell their seed and their score alone.

    Args:
        folder: Where.
        scores: Arm -> a score for each seed from 1 on; the first arm is the baseline.
        metric: What study.json says of the metric instead.
    """
    base = next(iter(scores))
    runs = [
        {"cell": arm, "seed": seed, "folder": f"runs/{arm}-seed{seed}"}
        for arm, values in scores.items()
        for seed in range(1, len(values) + 1)
    ]
    study = {
        "name": "foreign",
        "metric": {"scores": ["accuracy"], "smallest_difference": 0.5, "unit": "points",
                   "scale": 100} | dict(metric or {}),
        "baseline": base,
        "cells": [{"name": arm, "arm": arm, "against": None if arm == base else base}
                  for arm in scores],
        "runs": runs,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study))
    for run in runs:
        place = folder / run["folder"]
        place.mkdir(parents=True)
        results = {"seed": run["seed"], "accuracy": scores[run["cell"]][run["seed"] - 1]}
        (place / "results.json").write_text(json.dumps(results))
    return folder
