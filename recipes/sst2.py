"""Fine-tune a model on a GLUE task with categorised weight decay of its normalisation gains.

    accelerate launch recipes/sst2.py recipes/sst2.yaml
    accelerate launch recipes/sst2.py recipes/sst2.yaml --decay_policy none --seed 1
    accelerate launch recipes/sst2.py recipes/sst2.yaml --task cola --data FOLDER --model FOLDER
    torchrun --nproc_per_node 2 recipes/sst2.py recipes/sst2.yaml

The YAML file is the experiment; every key of it, and every other field of TrainingArguments, can
be given on the command line, which wins. ``--help`` lists them. A run writes its checkpoints (the
best and the last), ``gain_table.json``, ``results.json`` and ``training.png`` into its
``output_dir`` and never into one that holds another run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gamma_nlp.errors import GammaError


def main(argv: Sequence[str]) -> int:
    try:
        from gamma_nlp.run_folder import check_processes

        check_processes()
        from gamma_nlp.finetune import finetune
        from gamma_nlp.finetune_args import read_arguments

        recipe, args = read_arguments(argv)
        results = finetune(recipe, args)
    except GammaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"error: {error}; pip install 'gamma_nlp[recipes]'", file=sys.stderr)
        return 2
    if args.process_index == 0:
        print_summary(results, args.output_dir)
    return 0


def print_summary(results: dict, output_dir: str) -> None:
    scores = ", ".join(
        f"{key.removeprefix('eval_')} {value:.4f}"
        for key, value in results["final"].items()
        if key.startswith("eval_")
    )
    print(f"\nfinal epoch: {scores}")
    for category, decay in results["dose"].items():
        norm = results["gain_norm"].get(category, {})
        print(
            f"  {category:12} {decay['gains']:3} gains  coefficient {number(decay['coefficient'])}"
            f"  dose {number(decay['dose'])}  root mean square {number(norm.get('first'))} -> "
            f"{number(norm.get('last'))}"
        )
    print(
        f"{results['sentences_per_second']:.0f} sentences/s, {results['tokens_per_second']:.0f} "
        f"tokens/s, padding {results['padding_share']:.1%}, {results['train_seconds']:.0f} s of "
        f"training on {results['world_size']} process(es)\n"
        f"written: {output_dir}/results.json and training.png"
    )


def number(value: float | list[float] | None) -> str:
    if isinstance(value, list):
        return " to ".join(map(number, value))
    return "unknown" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
