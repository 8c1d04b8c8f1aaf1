"""What makes two runs the same run, and the parts that a resumed run consists of."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gamma_nlp.decay.policy import DecayPolicy

Parts = list[dict[str, Any]]
"""The parts of a run, in order: from which step on, and the plan that held then."""

PLAN = ("num_train_epochs", "max_steps")
"""What may change when a run is resumed, and changes its learning rates."""

# What may change without a word: where things are, what is logged, kept and evaluated, on what
# hardware, and how the finished model is used.
_FREE = {
    *("output_dir", "resume", "resume_from_checkpoint", "data", "run_name", "project"),
    *("cpu_threads", "precision", "compile", "graphs", "use_cpu", "bf16", "fp16", "tf32"),
    *("local_rank", "disable_tqdm", "report_to", "push_to_hub", "skip_memory_metrics", "debug"),
    "use_cache",
    *("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
    *("prediction_loss_only", "per_device_eval_batch_size", "include_for_metrics"),
    *("beams", "length_penalty", "eval_beams", "average_last", "patience", "on_nan"),
    *("enable_jit_checkpoint", "restore_callback_states_from_checkpoint", "ignore_data_skip"),
    *("torch_empty_cache_steps", "log_on_each_node", "bf16_full_eval", "fp16_full_eval"),
    *PLAN,
    # Compared by what follows from them.
    *("dose", "weight_decay", "decay_mode", "model_config", "max_train_examples"),
    *("per_device_train_batch_size", "gradient_accumulation_steps"),
}
_FREE_KINDS = (
    *("logging_", "log_level", "save_", "eval_", "hub_", "trackio_", "generation_", "predict_"),
    *("dataloader_", "ddp_", "torch_compile", "do_"),
)
_BOUND = {"dataloader_drop_last"}


def identity(
    recipe: Any, args: Any, policy: DecayPolicy, model_config: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the settings that a run keeps from its first step to its last.

    Args:
        recipe: The recipe's dataclass of settings.
        args: The Trainer's.
        policy: The decay policy in effect.
        model_config: The config fields, wherever they stood.
    """
    everything = args.to_dict() | dataclasses.asdict(recipe)
    kept = {
        name: value
        for name, value in everything.items()
        if name in _BOUND or (name not in _FREE and not name.startswith(_FREE_KINDS))
    }
    kept |= {"model_config": model_config, "policy": dataclasses.asdict(policy)}
    found: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return found


def digest(rows: Iterable[Any]) -> str:
    """Return a short text that differs where the data differs."""
    found = hashlib.sha256()
    for row in rows:
        found.update(str(row).encode("utf-8", "surrogatepass") + b"\0")
    return found.hexdigest()[:16]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what a run had and what is asked now, for each setting that changed."""
    old, new = _flat(before), _flat(now)
    return [
        f"{key} was {_text(old.get(key))} and is {_text(new.get(key))}"
        for key in sorted(old.keys() | new.keys(), key=lambda key: (key.count("."), key))
        if not _same(old.get(key), new.get(key))
    ]


def part(args: Any, steps: int, start: int) -> dict[str, Any]:
    """Return the part of a run that starts now, after ``start`` steps."""
    return {
        "from_step": start,
        **{name: getattr(args, name) for name in PLAN},
        "planned_steps": steps,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "processes": args.world_size,
        "device": args.device.type,
    }


def joined(parts: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> Parts:
    """Return a run's parts with one that starts now; a part that left no checkpoint is dropped."""
    return [dict(one) for one in parts if one["from_step"] < now["from_step"]] + [dict(now)]


def rates_of_parts(
    parts: Sequence[Mapping[str, Any]], args: Any, plan: Callable[[Any], list[float]]
) -> list[float]:
    """Return the learning rate of every step, each from the plan that held when it was taken.

    Args:
        parts: Of the run.
        args: The Trainer's arguments, as they are now.
        plan: The learning rates that arguments make.
    """
    rates: list[float] = []
    for index, one in enumerate(parts):
        changed = copy.copy(args)
        for name in PLAN:
            setattr(changed, name, one[name])
        end = parts[index + 1]["from_step"] if index + 1 < len(parts) else None
        rates += plan(changed)[one["from_step"] : end]
    return rates


def report_parts(
    parts: Sequence[Mapping[str, Any]], rates: Sequence[float], steps: int
) -> list[dict[str, Any]]:
    """Return the parts with their last step and the sum of their learning rates."""
    ends = [one["from_step"] for one in parts[1:]] + [steps]
    return [
        {**one, "to_step": end, "sum_of_learning_rates": math.fsum(rates[one["from_step"] : end])}
        for one, end in zip(parts, ends, strict=True)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-5)  # a weight decay that was typed again
    return bool(one == other)


def _text(value: Any) -> str:
    return "not set" if value is None else repr(value)
