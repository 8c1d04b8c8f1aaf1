"""Train two tiny models under several policies and seeds, and say whether the arms differ.

A post-norm BERT and a pre-norm ModernBERT learn a corpus that the package makes itself. A
difference between two policies counts only where it exceeds the spread between seeds.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.decay.assign import assign
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.files import write_json
from gamma_nlp.gains.placement import categorize
from gamma_nlp.hf.schedule import decay_for_dose, rates_of_arguments, sentence_batches
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.glue.model import build_classifier
from gamma_nlp.tasks.glue.opinions import opinions, write_sst2
from gamma_nlp.tasks.glue.tasks import glue_task
from gamma_nlp.tasks.glue.tokenizer import load_tokenizer, train_tokenizer
from gamma_nlp.tasks.glue.train import finetune
from gamma_nlp.tasks.run.arms import Outcome, comparison
from gamma_nlp.tasks.run.arms_plot import plot_arms

POLICIES = ("none", "guidelines", "all")
_SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "post-norm (BERT)": {"model_type": "bert", **_SIZES},
    "pre-norm (ModernBERT)": {
        "model_type": "modernbert",
        **_SIZES,
        "classifier_pooling": "mean",
        "embedding_dropout": 0.1,
        "mlp_dropout": 0.1,
    },
}
_CORPUS_SEED = 1
_REHEARSALS = (8, 40)
"""Steps of the two short runs that tell time per run and time per step apart."""


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """Settings of one demonstration; ``dose`` is the share of a gain that decay alone takes."""

    output: Path
    seeds: int = 3
    dose: float = 0.1
    examples: int = 4000
    epochs: float = 4.0
    batch: int = 64

    @property
    def tokenizer(self) -> Path:
        return self.output / "tokenizer"


@dataclass(frozen=True, kw_only=True)
class Arms:
    """The arms of one model.

    Attributes:
        run: Policies that differ in what they decay.
        equal: Policy -> the earlier one whose parameter groups it shares; it is not run.
        steps: Steps of each run.
    """

    run: tuple[str, ...]
    equal: Mapping[str, str]
    steps: int


def compare(demo: Demonstration, record: Path) -> dict[str, Any]:
    """Train every arm with every seed, print the comparison, write ``record`` and ``arms.png``.

    Returns:
        The content of ``record``.
    """
    started = time.perf_counter()
    print(f"\n=== 4. Does it matter? {len(MODELS)} tiny models, policies compared by training\n")
    _make_corpus(demo)
    arms = {name: _arms(config, demo) for name, config in MODELS.items()}
    for name, plan in arms.items():
        for policy, equivalent in plan.equal.items():
            print(f"{name}: {policy} decays exactly what {equivalent} does, so it is not run again")
    found = dict(_train(arms, demo))
    outcomes = {
        name: {policy: [_outcome(one) for one in runs] for policy, runs in policies.items()}
        for name, policies in found.items()
    }
    for name, policies in outcomes.items():
        print(f"\n{comparison(name, policies, arms[name].equal)}")
    picture = demo.output / "arms.png"
    plot_arms(
        outcomes,
        picture,
        equal={name: plan.equal for name, plan in arms.items()},
        title=f"What decay of normalisation gains does: dose {demo.dose:.0%}, {demo.seeds} seeds, "
        "generated corpus",
        dose=demo.dose,
    )
    content = {
        "demonstration": dataclasses.asdict(demo),
        "models": {
            name: {"arms": found[name], "equal": dict(plan.equal)} for name, plan in arms.items()
        },
    }
    write_json(record, content)
    print(
        "\nTiny models on a toy corpus: this shows how to compare, not which policy is better for "
        f"yours.\nwritten: {picture} and {record}, after {time.perf_counter() - started:.0f} s"
    )
    return content


def _make_corpus(demo: Demonstration) -> None:
    folder = demo.output / "data" / "SST-2"
    write_sst2(folder, train=demo.examples, dev=1000, seed=_CORPUS_SEED)
    sentences = [sentence for sentence, _ in opinions(demo.examples, seed=_CORPUS_SEED)]
    train_tokenizer(sentences, 1000).save_pretrained(demo.tokenizer)
    print(f"corpus: {demo.examples} training and 1000 dev sentences such as: {sentences[0]}")


def _arms(config: Mapping[str, Any], demo: Demonstration) -> Arms:
    tokenizer = load_tokenizer(str(demo.tokenizer))
    table = categorize(build_classifier(config, glue_task("sst2"), tokenizer))
    _, args = _arguments(config, POLICIES[0], 1, demo)
    rates = rates_of_arguments(args, sentence_batches(args, demo.examples))
    distinct: dict[str, Any] = {}
    equal: dict[str, str] = {}
    for policy in POLICIES:
        settings = assign(table, DecayPolicy.load(policy), decay_for_dose(demo.dose, rates))
        equivalent = next((name for name, other in distinct.items() if other == settings), None)
        if equivalent is None:
            distinct[policy] = settings
        else:
            equal[policy] = equivalent
    return Arms(run=tuple(distinct), equal=equal, steps=len(rates))


def _train(
    arms: Mapping[str, Arms], demo: Demonstration
) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Return the results of each model, by policy and seed; print how long it will take."""
    pending = [
        (name, policy, seed)
        for name, plan in arms.items()
        for policy in plan.run
        for seed in range(1, demo.seeds + 1)
    ]
    expected = {name: _seconds(MODELS[name], plan.steps, demo) for name, plan in arms.items()}
    total = sum(expected[name] for name, _, _ in pending)
    steps = max(plan.steps for plan in arms.values())
    print(
        f"{len(pending)} runs of {steps} steps take about {_clock(total)} at the speed just "
        "measured on this machine\n",
        flush=True,
    )
    spent, planned = 0.0, 0.0
    found: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in arms}
    for number, (name, policy, seed) in enumerate(pending, start=1):
        start = time.perf_counter()
        results = finetune(*_arguments(MODELS[name], policy, seed, demo), quiet=True)
        del results["log"]
        found[name].setdefault(policy, []).append(results)
        spent, planned = spent + time.perf_counter() - start, planned + expected[name]
        left = (total - planned) * spent / planned
        print(
            f"[{number:{len(str(len(pending)))}}/{len(pending)}] {name}, {policy}, seed {seed}: "
            f"dev accuracy {100 * results['final']['eval_accuracy']:.1f} %"
            + (f"   (about {_clock(left)} left)" if number < len(pending) else ""),
            flush=True,
        )
    yield from found.items()


def _seconds(config: Mapping[str, Any], steps: int, demo: Demonstration) -> float:
    """Measure how long one run of a model will take, by two short ones."""
    seconds = []
    for few in _REHEARSALS:
        recipe, args = _arguments(config, "all", 0, demo, max_steps=few)
        start = time.perf_counter()
        finetune(recipe, args, quiet=True)
        seconds.append(time.perf_counter() - start)
        shutil.rmtree(args.output_dir)
    per_step = max(seconds[1] - seconds[0], 0.0) / (_REHEARSALS[1] - _REHEARSALS[0])
    return seconds[1] + (steps - _REHEARSALS[1]) * per_step


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.1f} min"


def _arguments(
    config: Mapping[str, Any], policy: str, seed: int, demo: Demonstration, **more: Any
) -> tuple[Any, Any]:
    options = {
        "data": demo.output / "data",
        "tokenizer": demo.tokenizer,
        "model_config": "of the demonstration",
        "max_length": 64,
        "decay_policy": policy,
        "dose": demo.dose,
        "seed": seed,
        "output_dir": demo.output / "arms" / f"{config['model_type']}-{policy}-seed{seed}",
        "num_train_epochs": demo.epochs,
        "learning_rate": 2e-3,
        "warmup_steps": 0.1,
        "per_device_train_batch_size": demo.batch,
        "per_device_eval_batch_size": 128,
        "train_sampling_strategy": "group_by_length",
        "eval_strategy": "no",  # once at the end
        "save_strategy": "no",
        "logging_steps": 20,
        "logging_first_step": "true",
        "report_to": "none",
        "use_cpu": "true",
        "cpu_threads": 1,  # models this small gain nothing from a second one
        **more,
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    recipe, args = read_arguments(words)
    recipe.model_config = dict(config)
    return recipe, args


def _outcome(results: Mapping[str, Any]) -> Outcome:
    return Outcome(
        score=100 * results["final"]["eval_accuracy"],
        gains={
            category: 100 * (norm["last"] / norm["first"] - 1)
            for category, norm in results["gain_norm"].items()
        },
    )
