"""The embedded default: two tiny models, several policies, side by side, in about a minute.

A post-norm BERT and a pre-norm ModernBERT learn a corpus that the package makes itself, under a
decay whose dose is large enough to be seen. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma_nlp import rows
from gamma_nlp.errors import GammaError

if TYPE_CHECKING:
    from gamma_nlp.decay.groups import Setting

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
_MARK = "demo.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demonstration with these options.

    Raises:
        GammaError: An option is out of range, or the output folder holds something else.
    """
    parser = argparse.ArgumentParser(prog="gamma-nlp demo", description=__doc__)
    add_arguments(parser)
    run(parser.parse_args(argv))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the demonstration; imports no torch."""
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dose", type=float, default=0.3, help="share that decay alone takes")
    parser.add_argument("--examples", type=int, default=4000, help="training sentences")
    parser.add_argument("--epochs", type=float, default=6.0)


def run(options: argparse.Namespace) -> int:
    """Run the demonstration with parsed options; always 0.

    Raises:
        GammaError: An option is out of range, or the output folder holds something else.
    """
    if options.examples < 64 or options.epochs <= 0:
        raise GammaError("give at least 64 --examples and more than 0 --epochs")
    if not 0.1 <= options.dose < 1:
        raise GammaError(f"--dose {options.dose}: below 0.1 the arms cannot be told apart")
    demonstrate(
        Demonstration(
            output=options.output,
            seed=options.seed,
            dose=options.dose,
            examples=options.examples,
            epochs=options.epochs,
        )
    )
    return 0


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """Settings of one demonstration; ``dose`` is the share that decay alone takes."""

    output: Path
    seed: int = 1
    dose: float = 0.3
    examples: int = 4000
    epochs: float = 6.0

    @property
    def tokenizer(self) -> Path:
        return self.output / "tokenizer"


def demonstrate(demo: Demonstration) -> dict[str, Any]:
    """Train all arms, print the comparison, write ``demo.json`` and ``arms.png``.

    Returns:
        The content of ``demo.json``.
    """
    from gamma_nlp.files import write_json
    from gamma_nlp.tasks.glue.model import train_tokenizer
    from gamma_nlp.tasks.glue.opinions import opinions, write_sst2
    from gamma_nlp.tasks.run.plots import plot_arms

    started = time.perf_counter()
    _claim(demo.output)
    write_sst2(demo.output / "data" / "SST-2", train=demo.examples, dev=1000, seed=demo.seed)
    sentences = [sentence for sentence, _ in opinions(demo.examples, seed=demo.seed)]
    train_tokenizer(sentences, 1000).save_pretrained(demo.tokenizer)
    print(f"made {demo.examples} training and 1000 dev sentences, for example: {sentences[0]}")
    models = {name: _compare(name, config, demo) for name, config in MODELS.items()}
    print(
        "\n=== arms side by side: final dev accuracy, dose and root mean square (rms) of the gains"
    )
    logs: dict[str, Any] = {}
    for name, model in models.items():
        print(f"\n{arms_text(name, model['arms'], model['equal'])}")
        logs[name] = {
            _label(arm, model["equal"]): results.pop("log")
            for arm, results in model["arms"].items()
        }
    title = f"Policies side by side: dose {demo.dose:.0%}, generated corpus, seed {demo.seed}"
    plot_arms(logs, demo.output / "arms.png", title=title)
    found = {"demonstration": dataclasses.asdict(demo), "models": models}
    write_json(demo.output / _MARK, found)
    print(
        "\nOne seed on a toy corpus: it shows what decay does to gains, not which policy is "
        f"better.\nwritten: {demo.output / 'arms.png'} and {demo.output / _MARK}, "
        f"after {time.perf_counter() - started:.0f} s"
    )
    return found


def _claim(output: Path) -> None:
    """Take over an earlier demonstration's folder, and no other."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        try:
            json.loads((output / _MARK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise GammaError(
                f"{output} holds something else than an earlier demonstration; "
                "give another --output"
            ) from None
    output.mkdir(parents=True, exist_ok=True)
    (output / _MARK).write_text("{}\n", encoding="utf-8")
    for part in ("data", "tokenizer", "arms"):
        shutil.rmtree(output / part, ignore_errors=True)


def _compare(name: str, config: Mapping[str, Any], demo: Demonstration) -> dict[str, Any]:
    """Print a model's gain table and run each of its arms that differs from those before."""
    from gamma_nlp.decay.dose import decay_dose
    from gamma_nlp.decay.groups import assign
    from gamma_nlp.decay.policy import DecayPolicy
    from gamma_nlp.gains.placement import categorize
    from gamma_nlp.gains.table import gain_table
    from gamma_nlp.hf.schedule import decay_for_dose, planned_rates, sentence_batches
    from gamma_nlp.tasks.glue.model import build_classifier, load_tokenizer
    from gamma_nlp.tasks.glue.tasks import glue_task
    from gamma_nlp.tasks.glue.train import finetune

    tokenizer = load_tokenizer(str(demo.tokenizer))
    table = categorize(build_classifier(config, glue_task("sst2"), tokenizer))
    arms: dict[str, Any] = {}
    equal: dict[str, str] = {}
    seen: dict[str, dict[str, Setting]] = {}
    for policy in POLICIES:
        recipe, args = _arguments(config, policy, demo)
        rates = planned_rates(args, sentence_batches(args, demo.examples))
        settings = assign(table, DecayPolicy.load(policy), decay_for_dose(demo.dose, rates))
        if not seen:
            every = assign(table, DecayPolicy.load("guidelines"), decay_for_dose(demo.dose, rates))
            coefficients = {gain.name: every[gain.name].coefficient for gain in table}
            doses = {gain: decay_dose(value, rates) for gain, value in coefficients.items()}
            print(f"\n=== {name}: gains under the policy guidelines\n")
            print(gain_table(table, coefficients, doses))
        twin = next((arm for arm, other in seen.items() if other == settings), None)
        if twin is not None:
            equal[policy] = twin
            print(f"\n--- {name}: {policy} decays exactly what {twin} does, so it is not run again")
            continue
        seen[policy] = settings
        print(f"\n--- {name}: policy {policy}, {len(rates)} steps", flush=True)
        arms[policy] = results = finetune(recipe, args, quiet=True)
        scores = "  ".join(f"{100 * entry['eval_accuracy']:.1f}" for entry in results["history"])
        print(f"dev accuracy after each epoch (%): {scores}", flush=True)
    return {"arms": arms, "equal": equal}


def _arguments(config: Mapping[str, Any], policy: str, demo: Demonstration) -> tuple[Any, Any]:
    from gamma_nlp.tasks.glue.arguments import read_arguments

    options = {
        "data": demo.output / "data",
        "tokenizer": demo.tokenizer,
        "model_config": "of the demonstration",
        "max_length": 64,
        "decay_policy": policy,
        "dose": demo.dose,
        "seed": demo.seed,
        "output_dir": demo.output / "arms" / f"{config['model_type']}-{policy}",
        "num_train_epochs": demo.epochs,
        "learning_rate": 2e-3,
        "warmup_steps": 0.1,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 128,
        "train_sampling_strategy": "group_by_length",
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "logging_steps": 20,
        "logging_first_step": "true",
        "report_to": "none",
        "use_cpu": "true",
        "cpu_threads": 1,  # models this small gain nothing from a second one
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    recipe, args = read_arguments(words)
    recipe.model_config = dict(config)
    return recipe, args


def arms_text(name: str, arms: Mapping[str, Mapping[str, Any]], equal: Mapping[str, str]) -> str:
    """The arms of one model as a table: accuracy, and dose and size of the gains per category."""
    from gamma_nlp.gains.category import Category

    categories = [
        c.value for c in Category if any(c.value in a["gain_norm"] for a in arms.values())
    ]
    head = ["policy", "accuracy"]
    for category in categories:
        head += [f"{category} dose", "rms"]
    lines = []
    for policy, arm in arms.items():
        line = [_label(policy, equal), f"{100 * arm['final']['eval_accuracy']:.1f} %"]
        for category in categories:
            norm = arm["gain_norm"].get(category)
            dose = arm["dose"].get(category, {}).get("dose")
            line.append("-" if not isinstance(dose, float) else f"{100 * dose:.1f} %")
            line.append("-" if norm is None else f"{norm['first']:.2f} -> {norm['last']:.2f}")
        lines.append(line)
    return f"{name}\n" + rows.align(head, lines, right=set(head[1:]))


def _label(policy: str, equal: Mapping[str, str]) -> str:
    return " = ".join([policy, *(other for other, twin in equal.items() if twin == policy)])


if __name__ == "__main__":
    main()
