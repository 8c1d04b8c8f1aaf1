"""One run of a study's own program: from settings to a folder with ``results.json`` and items.

The engines in ``gamma_nlp.tasks`` do more: checkpoints, resuming, a plot. A run here takes seconds,
so it is started again instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainingArguments

from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.errors import GammaError
from gamma_nlp.files.write import write_json
from gamma_nlp.hf.graphs.trainer import GraphedSteps
from gamma_nlp.hf.schedule import decay_for_dose, rates_of_arguments
from gamma_nlp.hf.trainer import GammaTrainer
from gamma_nlp.tasks.run.arguments import HELPS, RunArguments, complete
from gamma_nlp.tasks.run.doses import doses, groups
from gamma_nlp.tasks.run.finite import FiniteRun
from gamma_nlp.tasks.run.folder import RESULTS, claimed
from gamma_nlp.tasks.run.identity import identity
from gamma_nlp.tasks.run.items import Items, Source, described, items_file, write_items
from gamma_nlp.tasks.run.machine import hardware, set_threads
from gamma_nlp.tasks.run.report import curves, evaluations, logged_norms, settings
from gamma_nlp.tasks.run.settings import read_settings
from gamma_nlp.tasks.run.speed import CompileTime
from gamma_nlp.tasks.run.start import check_start, move_start, usable_settings
from gamma_nlp.tasks.run.training import begin, train
from gamma_nlp.tasks.run.versions import versions

Arguments = TypeVar("Arguments", bound=RunArguments)

_ALWAYS = {
    "save_strategy": "no",
    "train_sampling_strategy": "sequential",  # the rows come in the seed's own order
    "remove_unused_columns": "false",
    "disable_tqdm": "true",
    "report_to": "none",
    "use_cpu": "true",
    "compile": "off",
}


class StudyTrainer(FiniteRun, CompileTime, GraphedSteps, GammaTrainer):
    """GammaTrainer that stops where its numbers are none, and remembers its last evaluation.

    Attributes:
        outcomes: What was kept of each row, by the prefix of the set's scores.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.outcomes: dict[str, Any] = {}
        super().__init__(*args, **kwargs)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        self.outcomes[metric_key_prefix] = output.predictions
        return output


class Rows(Dataset):
    """Rows of tensors, by the name of the model's argument."""

    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: values[index] for name, values in self.columns.items()}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run trains on and how it is judged.

    Attributes:
        task: A name of the task, for ``results.json``.
        model: A name of the model.
        build: Makes the model; it is called under the run's seed.
        train: Rows in the order in which they are trained on.
        evaluation: Rows to evaluate on, by name of the set.
        outcome: Turns logits and labels of a batch into what is kept of each row, (rows, k).
        score: Scores of a set from what was kept of it.
        items: The items of each set, from what was kept of it, with how scores follow from them.
        data: A digest of each split.
        inputs: What the model takes, if it is not transformers' own.
    """

    task: str
    model: str
    build: Callable[[], nn.Module]
    train: Rows
    evaluation: Mapping[str, Rows]
    outcome: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Any], dict[str, float]]
    items: Callable[[Mapping[str, Any]], tuple[dict[str, Items], dict[str, Source]]]
    data: Mapping[str, str]
    inputs: Mapping[str, Tensor] | None = None


def read_arguments(
    kind: type[Arguments], argv: Sequence[str], defaults: Mapping[str, str], output_dir: str
) -> tuple[Arguments, TrainingArguments]:
    """Read ``[file.yaml] [--key value ...]``: a program's own settings and any of the Trainer's.

    Args:
        kind: The dataclass of the program's own settings.
        argv: The words of the command line.
        defaults: What holds where neither file nor words say anything.
        output_dir: The default folder, with placeholders.

    Raises:
        GammaError: A key is unknown, or a value cannot be used.
    """
    recipe, args = read_settings(
        (kind, TrainingArguments),
        argv,
        rivals=(("dose", "weight_decay"),),
        complete=lambda values: complete(values, output_dir=output_dir, names={}),
        defaults={**_ALWAYS, **defaults},
        left_open={"output_dir": output_dir},
        helps=HELPS,
    )
    if recipe.resume:
        raise GammaError("a run of seconds keeps no checkpoints: leave --resume out, start it anew")
    return recipe, args


def run_study(recipe: RunArguments, args: TrainingArguments, setup: Setup) -> dict[str, Any]:
    """Train, evaluate and write ``results.json`` into ``args.output_dir``; return its content.

    The same seed gives every policy the same initial weights and the same rows in the same order.

    Raises:
        GammaError: The folder holds a run already, or a setting cannot be used; nothing is left
            in the folder then. Later: the loss is no longer a number.
    """
    set_threads(recipe.cpu_threads)
    policy = recipe.policy()
    rates = rates_of_arguments(args, math.ceil(len(setup.train) / args.train_batch_size))
    if recipe.dose is not None:
        args.weight_decay = decay_for_dose(recipe.dose, rates)
    with claimed(args.output_dir, resume=False) as claim:
        claim.agree(**identity(recipe, args, policy, None), weight_decay=args.weight_decay)
        transformers.set_seed(args.seed)
        model = setup.build()
        move_start(model, recipe.init_noise, args.seed)
        trainer = _trainer(recipe, setup, args, policy, model)
        begin(claim, trainer, f"{setup.task}: {len(setup.train)} rows", rates, quiet=False)
        seconds = train(trainer, None)
        return _write(recipe, args, setup, trainer, rates, seconds)


def _trainer(
    recipe: RunArguments,
    setup: Setup,
    args: TrainingArguments,
    policy: DecayPolicy,
    model: nn.Module,
) -> StudyTrainer:
    sets = setup.evaluation
    with usable_settings():
        trainer = StudyTrainer(
            model=model,
            args=args,
            train_dataset=setup.train,
            eval_dataset=dict(sets) if len(sets) > 1 else next(iter(sets.values())),
            data_collator=transformers.default_data_collator,
            compute_metrics=lambda prediction: setup.score(prediction.predictions),
            preprocess_logits_for_metrics=setup.outcome,
            decay_policy=policy,
            inputs=setup.inputs,
        )
        trainer.on_nan = recipe.on_nan
        check_start(trainer)
    return trainer


def _write(
    recipe: RunArguments,
    args: TrainingArguments,
    setup: Setup,
    trainer: StudyTrainer,
    rates: Sequence[float],
    seconds: float,
) -> dict[str, Any]:
    log = trainer.state.log_history
    history = evaluations(log)
    alone = len(setup.evaluation) == 1
    kept = {n: trainer.outcomes["eval" if alone else f"eval_{n}"] for n in setup.evaluation}
    items, sources = setup.items(kept)
    results = {
        "task": setup.task,
        "model": setup.model,
        "policy": asdict(trainer.policy),
        "seed": args.seed,
        "final": history[-1],
        "history": history,
        "steps": trainer.state.global_step,
        "planned_steps": len(rates),
        "weight_decay": args.weight_decay,
        "sum_of_learning_rates": math.fsum(rates),
        "dose": doses(trainer, rates),
        "groups": groups(trainer),
        "data": dict(setup.data),
        "items": described(sources),
        "gain_norm": logged_norms(log),
        "curves": curves(log),
        "wall_seconds": round(seconds, 2),
        "parameters": sum(one.numel() for one in trainer.model.parameters()),
        "precision": "bf16" if args.bf16 else "fp32",
        "settings": settings(recipe, args),
        "versions": versions(),
        "hardware": hardware(args.device),
    }
    output = Path(args.output_dir)
    for name, one in items.items():
        write_items(output / items_file(name), one)
    write_json(output / RESULTS, results)  # last: it tells that the run is finished
    return results
