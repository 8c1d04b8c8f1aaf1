"""``python -m gamma_nlp.tasks.glue [file.yaml] [--key value ...]``: one fine-tuning run.

``recipes/sst2.py`` is the same from a checkout, for launchers that take a script.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gamma_nlp.tasks.run.main import run


def main(argv: Sequence[str]) -> None:
    from gamma_nlp.tasks.run.machine import check_processes

    check_processes()  # before transformers sets up its own
    from gamma_nlp.tasks.glue.arguments import read_arguments
    from gamma_nlp.tasks.glue.train import finetune
    from gamma_nlp.tasks.run.doses import gain_lines

    recipe, args = read_arguments(argv)
    results = finetune(recipe, args)
    if args.process_index == 0:
        print_summary(results, args.output_dir, gain_lines(results))


def print_summary(results: dict, output_dir: str, gains: Sequence[str]) -> None:
    scores = ", ".join(
        f"{key.removeprefix('eval_')} {value:.4f}"
        for key, value in results["final"].items()
        if key.startswith("eval_")
    )
    print(f"\nfinal epoch: {scores}", *gains, sep="\n")
    if results["padding_share"] is None:  # it was stopped after its last step
        speed = "no step was left to train"
    else:
        speed = (
            f"{results['sentences_per_second']:.0f} sentences/s, "
            f"{results['tokens_per_second']:.0f} tokens/s, padding "
            f"{results['padding_share']:.1%}, {results['train_seconds']:.0f} s of training on "
            f"{results['world_size']} process(es)\nbatches of {results['shapes']} shapes "
            f"(batch_shapes {results['batch_shapes']})"
        )
    print(speed, f"written: {output_dir}/results.json and training.png", sep="\n")


if __name__ == "__main__":
    sys.exit(run(main))
