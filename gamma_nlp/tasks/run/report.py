"""What a recipe's run leaves behind: ``results.json`` and ``training.png``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.decay.announce import GAIN_NORM
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.files.write import write_json
from gamma_nlp.gains.category import Category
from gamma_nlp.tasks.run.checkpoints import last_checkpoint
from gamma_nlp.tasks.run.checks import acting_mode
from gamma_nlp.tasks.run.doses import doses, groups
from gamma_nlp.tasks.run.finite import SKIPPED
from gamma_nlp.tasks.run.identity import PLAN, report_parts
from gamma_nlp.tasks.run.items import Items, Source, described, items_file, write_items
from gamma_nlp.tasks.run.machine import hardware
from gamma_nlp.tasks.run.plots import plot_run, series
from gamma_nlp.tasks.run.versions import versions

_NOISE = ("runtime", "per_second", "model_preparation")


def plan_line(
    what: str, args: Any, policy: DecayPolicy, rates: Sequence[float], threads: int
) -> str:
    """Return what a run is about to do, in two lines; in a third that its warm-up is too long."""
    total = math.fsum(rates)
    dose = f"dose where it decays {-math.expm1(-args.weight_decay * total):.1%}"
    if acting_mode(policy.mode, args.optim) == "coupled":
        dose = "coupled, so no dose follows from it"
    warmup = args.get_warmup_steps(len(rates))
    short = warmup >= len(rates) and max(rates, default=0.0) < args.learning_rate
    never = f"\nwarm-up takes {warmup} steps: the learning rate never reaches its peak"
    return (
        f"{what}, {len(rates)} steps on {args.world_size} process(es), {args.device.type}, "
        f"{threads} CPU thread(s)\npolicy {policy.name}: weight_decay {args.weight_decay:.4g}, "
        f"sum of learning rates {total:.4g}, {dose}{never if short else ''}"
    )


def resume_lines(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for a run that is resumed: from where, and what its plan was until then."""
    if len(parts) < 2:
        return []
    before, now = parts[-2:]
    changed = [f"{name} was {before[name]:g}" for name in PLAN if before[name] != now[name]]
    differs = f"; until then {', '.join(changed)}" if changed else ""
    return [f"resumed at step {now['from_step']}{differs}"]


def write_report(
    trainer: Any,
    recipe: Any,
    rates: Sequence[float],
    seconds: float,
    *,
    found: Mapping[str, Any],
    parts: Sequence[Mapping[str, Any]],
    data: Mapping[str, str],
    items: Mapping[str, Items],
    sources: Mapping[str, Source],
    smoothing: float = 0.0,
) -> dict[str, Any]:
    """Gather a finished run's figures; the main process writes them to the output folder.

    Args:
        trainer: After training; a :class:`~gamma_nlp.tasks.run.counts.RunCounts`.
        recipe: The recipe's dataclass of settings.
        rates: The learning rates, each as planned when its step was taken.
        seconds: Wall time of training with its evaluations.
        found: What else to write: ``task``, ``model``, scores.
        parts: The parts that the run consists of; more than one after a resume.
        data: A digest of each split.
        items: What happened to each item, by evaluation set.
        sources: How scores follow from them, by their place in the results.
        smoothing: Label smoothing of the training loss; the evaluation loss has none.

    Returns:
        What it writes, and the Trainer's ``log_history`` as ``log``.

    The score of the final epoch is ``final``; ``best`` is what an early stop on the validation
    set would have reported, which is optimistic. Speed counts training without evaluation, and no
    padding; after a resume it is that of the last part, as are shapes. The share of padding is the
    whole run's, or ``None`` where a checkpoint of an older version left it out. The doses are those
    of the steps taken.
    """
    args = trainer.args
    log = trainer.state.log_history
    skipped = [int(entry[SKIPPED]) for entry in log if SKIPPED in entry]
    rates = [0.0 if step in skipped else rate for step, rate in enumerate(rates, start=1)]
    taken = rates[: trainer.state.global_step]
    history = evaluations(log)
    key = f"eval_{args.metric_for_best_model.removeprefix('eval_')}"
    ranked = [entry for entry in history if key in entry]
    pick = max if args.greater_is_better else min
    here = trainer.here()
    whole = None if trainer.before is None else trainer.before + here
    last = last_checkpoint(args.output_dir)
    training = max(seconds - trainer.evaluation_seconds, 1e-9)
    results = {
        **found,
        "policy": dataclasses.asdict(trainer.policy),
        "seed": args.seed,
        "final": history[-1] if history else {},
        "best": pick(ranked, key=lambda entry: entry[key]) if ranked else {},
        "score": key,
        "history": history,
        "steps": trainer.state.global_step,
        "planned_steps": len(rates),
        "skipped_steps": skipped,
        "world_size": args.world_size,
        "weight_decay": args.weight_decay,
        "sum_of_learning_rates": math.fsum(taken),
        "dose": doses(trainer, taken),
        "groups": groups(trainer),
        "data": dict(data),
        "items": described(sources),
        "gain_norm": logged_norms(log),
        "curves": curves(log),
        "resumed": len(parts) > 1,
        "parts": report_parts(parts, rates, trainer.state.global_step),
        "wall_seconds": round(seconds, 2),
        "train_seconds": round(training, 2),
        "evaluation_seconds": round(trainer.evaluation_seconds, 2),
        "sentences_per_second": round(here.sentences / training, 2),
        "tokens_per_second": round(here.tokens / training, 1),
        "padding_share": None if whole is None else whole.padding_share,
        "batch_shapes": recipe.batch_shapes,
        "shapes": len(trainer.seen_shapes) or None,
        "parameters": trainer.model.num_parameters(),
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "torch_compile": bool(args.torch_compile),
        "last_checkpoint": None if last is None else str(last),
        "best_checkpoint": trainer.state.best_model_checkpoint,
        "settings": settings(recipe, args),
        "versions": versions(),
        "hardware": hardware(args.device),
    }
    output = Path(args.output_dir)
    if args.process_index == 0:
        plot_run(
            log,
            output / "training.png",
            title=f"{found['task']}, policy {trainer.policy.name}, seed {args.seed}",
            score=key,
            smoothing=smoothing,
        )
        for name, one in items.items():
            write_items(output / items_file(name), one)
        write_json(output / "results.json", results)  # last: it tells that the run is finished
    return results | {"log": log}


def evaluations(log: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return the scores of every evaluation, in order; the sets of one step share an entry."""
    found: dict[int, dict[str, float]] = {}
    for entry in log:
        scores = {
            key: value
            for key, value in entry.items()
            if key.startswith("eval_") and not any(word in key for word in _NOISE)
        }
        if scores:
            place = {"step": entry["step"], "epoch": entry.get("epoch", 0.0)}
            found.setdefault(entry["step"], place).update(scores)
    return list(found.values())


def logged_norms(log: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the root mean square of each category's gains, as first and as last logged."""
    norms = {}
    for category in Category:
        values = [e[GAIN_NORM + category.value] for e in log if GAIN_NORM + category.value in e]
        if values:
            norms[category.value] = {"first": values[0], "last": values[-1]}
    return norms


def curves(log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return pairs of step and value: training loss, learning rate, size of the gains."""
    norms = {c.value: _pairs(log, GAIN_NORM + c.value) for c in Category}
    return {
        "loss": _pairs(log, "loss"),
        "learning_rate": _pairs(log, "learning_rate"),
        "gain_norm": {category: pairs for category, pairs in norms.items() if pairs},
    }


def _pairs(log: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return list(zip(*series(log, key), strict=True))


def settings(recipe: Any, args: Any) -> dict[str, Any]:
    """Return the recipe's settings, and the Trainer's that differ from its defaults."""
    default = type(args)(output_dir=args.output_dir, use_cpu=args.use_cpu).to_dict()
    changed = {key: value for key, value in args.to_dict().items() if default.get(key) != value}
    return dataclasses.asdict(recipe) | {"training_arguments": changed}
