"""Train the same small Transformer on the same text here and in fairseq, and compare them.

    python scripts/benchmarks/against_fairseq.py PREPARED OUTPUT [--epochs N] [--seed N]

The sides are recipes/translation.py with recipes/multi30k_de_en_prenorm.yaml, and
recipes/fairseq/multi30k_de_en.sh: same data, sizes, token budget, schedule and decay policy, the
model of the last epoch, one CPU thread each. Both start from the same weights, this library's,
converted for fairseq; with ``--own-start`` each draws its own. One side runs after the other, so
speeds mean something on a quiet machine only. PREPARED is a folder that scripts/prepare_iwslt14
wrote.

The losses are not quite the same: label smoothing eps puts eps / V on every word of a vocabulary of
V here, eps / (V - 1) on every other word in fairseq, so that eps here is eps (V - 1) / V there.

Speed is in target tokens, without padding, per second of training, without evaluation. BLEU is over
tokens, beam 5. The exit code is 1 if a goal is missed. ``--quick`` trains tiny models for one epoch
and judges nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import torch
from table import Row, new_parser

from gamma_nlp.errors import GammaError
from gamma_nlp.fairseq import shims
from gamma_nlp.files.read import read_bytes, text_lines
from gamma_nlp.files.write import write_json
from gamma_nlp.tasks.run.machine import hardware
from gamma_nlp.tasks.run.main import run
from gamma_nlp.tasks.run.versions import versions
from gamma_nlp.tasks.translation.score_files import read_log
from gamma_nlp.tasks.translation.scores import token_bleu

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "multi30k_de_en_prenorm.yaml"
SCRIPT = ROOT / "recipes" / "fairseq" / "multi30k_de_en.sh"
INTERVAL = 50
"""Updates between two lines of fairseq's log."""
QUICK = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
QUICK |= {"encoder_layers": 1, "decoder_layers": 1}
QUICK_TOKENS = 24
"""The least token budget of ``--quick``; few tokens make many updates of little text."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one side of the comparison reached.

    Attributes:
        name: The library.
        updates: Steps of the optimizer.
        tokens_per_second: Target tokens, without padding, per second of training.
        bleu: BLEU over tokens for each test set.
    """

    name: str
    updates: int
    tokens_per_second: float
    bleu: dict[str, float]


def here(options: argparse.Namespace) -> Side:
    """Run this library's recipe."""
    run = options.output / "gamma_nlp"
    command = [sys.executable, ROOT / "recipes" / "translation.py", options.recipe]
    command += ["--data", options.prepared, "--output_dir", run, "--seed", options.seed]
    command += ["--num_train_epochs", options.epochs, "--average_last", 1, "--cpu_threads", 1]
    command += ["--weight_decay", 0.03, "--use_cpu", "true", "--disable_tqdm", "true"]
    if options.quick:
        command += ["--max_tokens", options.tokens]
    _run(command, options.output / "gamma_nlp.log")
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    scores = {name: one["bleu"] for name, one in results["scores"].items() if name != "valid"}
    return Side(
        name="gamma_nlp",
        updates=results["steps"],
        tokens_per_second=results["tokens_per_second"],
        bleu=scores,
    )


def fairseq(options: argparse.Namespace) -> Side:
    """Run fairseq's recipe."""
    run = options.output / "fairseq"
    command = ["bash", SCRIPT, options.prepared, run, "--seed", options.seed]
    command += ["--max-epoch", options.epochs, "--log-format", "json"]
    command += ["--log-interval", 1 if options.quick else INTERVAL]
    if options.quick:
        command += ["--max-tokens", options.tokens]
        for side in ("encoder", "decoder"):
            command += [f"--{side}-embed-dim", 16, f"--{side}-ffn-embed-dim", 16]
            command += [f"--{side}-layers", 1]
    log = options.output / "fairseq.log"
    _run(command, log, **({} if options.start is None else {"START": options.start}))
    names = (run / "data" / "tests").read_text(encoding="utf-8").split()
    updates, speed = read_training(log.read_text(encoding="utf-8"))
    return Side(
        name="fairseq",
        updates=updates,
        tokens_per_second=round(speed, 1),
        bleu={name: _bleu(run / f"{name}.log") for name in names},
    )


def start(options: argparse.Namespace) -> Path:
    """Write the recipe's initial weights, with fairseq's positions, as a checkpoint for fairseq."""
    import transformers

    from gamma_nlp.fairseq import commands
    from gamma_nlp.fairseq.convert import files, weights
    from gamma_nlp.hf.hub import hush
    from gamma_nlp.hf.models import keep_positions
    from gamma_nlp.tasks.run.yaml_file import read_yaml
    from gamma_nlp.tasks.translation.architecture import build_translator
    from gamma_nlp.tasks.translation.checkpoints import AVERAGED
    from gamma_nlp.tasks.translation.text import read_prepared

    hush()
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    commands.prepare()
    untrained, converted = options.output / "untrained", options.output / "start"
    text = read_prepared(options.prepared, "de", "en", joint=True)
    transformers.set_seed(options.seed)
    model = build_translator(read_yaml(options.recipe)["model_config"], text)
    for side in (model.model.encoder, model.model.decoder):
        table = side.embed_positions.weight
        table.data.copy_(weights.sinusoids(*table.shape))
    text.save(untrained)
    keep_positions(model)
    model.save_pretrained(untrained / AVERAGED)
    files.from_transformers(untrained, converted)
    return converted


def longest_sentence(prepared: Path) -> int:
    """Return the tokens of the longest sentence to train or validate on, with its end token."""
    parts = [f"{part}.{language}" for part in ("train", "valid") for language in ("de", "en")]
    files = [prepared / part for part in parts]
    lines = (line for file in files for line in text_lines(read_bytes(file), file))
    return max(len(line.split()) + 1 for line in lines)


def read_training(log: str) -> tuple[int, float]:
    """Return updates and target tokens per second, from the JSON lines of a fairseq-train log.

    An epoch's first line does not count: its time includes the validation before it.
    """
    lines = [json.loads(text) for text in re.findall(r"\| train_inner \| (\{.*\})", log)]
    counted = [line for last, line in pairwise(lines) if line["epoch"] == last["epoch"]]
    if not counted:
        raise GammaError("fairseq logged too few updates to measure its speed; train for longer")
    # Every line covers equally many updates: tokens per update (wpb) over seconds per update.
    tokens = sum(float(line["wpb"]) for line in counted)
    time = sum(float(line["wpb"]) / float(line["wps"]) for line in counted)
    return max(int(n) for n in re.findall(r'"(?:train_)?num_updates": "(\d+)"', log)), tokens / time


def _bleu(log: Path) -> float:
    """Return the BLEU that this library computes from a log of fairseq-generate."""
    pairs = read_log(log).pairs
    return round(token_bleu(pairs.hypotheses, pairs.references).score, 2)


def _tiny(text: str) -> str:
    for name, value in QUICK.items():
        text = re.sub(rf"^(  {name}:) \d+", rf"\1 {value}", text, flags=re.MULTILINE)
    return text


def _run(command: Sequence[object], log: Path, **variables: object) -> None:
    """Print a command, and run it with its output in a file."""
    words = [str(word) for word in command]
    more = {name: str(value) for name, value in variables.items()}
    shown = ["env", *(f"{name}={value}" for name, value in more.items()), *words] if more else words
    print("+", shlex.join(shown), ">", shlex.quote(str(log)), flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            words, stdout=stream, stderr=subprocess.STDOUT, env=environment, check=False
        )
    if done.returncode:
        raise GammaError(f"{Path(words[1]).name} failed; the last lines of {log} say why")


def compare(sides: Sequence[Side]) -> str:
    """Return a table with one line per side."""
    names = list(sides[0].bleu)
    head = f"{'':<12}{'updates':>8}{'target tokens/s':>17}" + "".join(f"{n:>20}" for n in names)
    lines = [
        f"{side.name:<12}{side.updates:>8}{side.tokens_per_second:>17.0f}"
        + "".join(f"{side.bleu[name]:>20.2f}" for name in names)
        for side in sides
    ]
    return "\n".join([head, *lines])


def judge(ours: Side, theirs: Side) -> list[Row]:
    name = next(iter(ours.bleu))
    gap = ours.bleu[name] - theirs.bleu[name]
    ratio = ours.tokens_per_second / theirs.tokens_per_second
    test = f"BLEU of {name}, ours minus fairseq's"
    return [
        Row(test, f"{gap:+.2f}", "within 1", abs(gap) <= 1, "", {"gap": gap}),
        Row("target tokens/s, ours to fairseq's", f"{ratio:.2f} x", ">= 1 x", ratio >= 1, "", {}),
    ]


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("prepared", type=Path, help="folder that scripts/prepare_iwslt14 wrote")
    add("output", type=Path, help="new folder for both runs, their logs and results.json")
    add("--epochs", type=int, default=6)
    add("--seed", type=int, default=1)
    add("--own-start", action="store_true", help="each side draws its own initial weights")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        raise GammaError(f"--epochs must be at least 1, not {options.epochs}")
    if options.output.exists() and any(options.output.iterdir()):
        raise GammaError(f"{options.output} is not empty; give a new folder")
    options.epochs = 1 if options.quick else options.epochs
    return options


def main(argv: Sequence[str]) -> int:
    options = arguments(argv)
    try:
        shims.check_installed()
        options.output.mkdir(parents=True, exist_ok=True)
        options.recipe = RECIPE
        if options.quick:
            options.recipe = options.output / "quick.yaml"
            options.recipe.write_text(_tiny(RECIPE.read_text(encoding="utf-8")), encoding="utf-8")
        options.start = None if options.own_start else start(options)
        if options.quick:
            options.tokens = max(QUICK_TOKENS, longest_sentence(options.prepared))
        sides = [here(options), fairseq(options)]
    except GammaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(compare(sides))
    results = {
        "command": " ".join(map(shlex.quote, [Path(__file__).name, *argv])),
        "seed": options.seed,
        "epochs": options.epochs,
        "versions": versions() | {"fairseq": version("fairseq")},
        "hardware": hardware(torch.device("cpu")) | {"threads": 1},
        "sides": [asdict(side) for side in sides],
    }
    write_json(options.output / "results.json", results)
    if options.quick:
        return 0
    rows = judge(*sides)
    print(*rows, sep="\n")
    return int(not all(row.passed for row in rows))


if __name__ == "__main__":
    sys.exit(run(main))
