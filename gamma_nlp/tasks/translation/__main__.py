"""``python -m gamma_nlp.tasks.translation [file.yaml] [--key value ...]``: one translation run.

``recipes/translation.py`` is the same from a checkout, for launchers that take a script.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gamma_nlp.tasks.run.main import run


def main(argv: Sequence[str]) -> None:
    from gamma_nlp.tasks.run.machine import check_processes

    check_processes()  # before transformers sets up its own
    from gamma_nlp.tasks.run.doses import gain_lines
    from gamma_nlp.tasks.translation.arguments import read_arguments
    from gamma_nlp.tasks.translation.train import train_translation

    recipe, args = read_arguments(argv)
    results = train_translation(recipe, args)
    if args.process_index == 0:
        print_summary(results, args.output_dir, gain_lines(results))


def print_summary(results: dict, output_dir: str, gains: Sequence[str]) -> None:
    from gamma_nlp.tasks.run.counts import speed_line

    print(f"\n{'':20} {'BLEU, tokens':>13} {'sacreBLEU':>10} {'chrF2':>6}")
    for name, score in results["scores"].items():
        print(f"{name:20} {score['bleu']:13.2f} {score['sacrebleu']:10.2f} {score['chrf']:6.2f}")
    signature = next(iter(results["scores"].values()))["sacrebleu_signature"]
    print(f"sacreBLEU {signature}", *gains, sep="\n")
    speed = speed_line(results, {"tokens_per_second": "target tokens/s"})
    if results["padding"]:
        shares = ", ".join(f"{side} {share:.1%}" for side, share in results["padding"].items())
        speed += f"; padding in an epoch: {shares}"
    print(
        f"{speed}\ndecoding "
        f"{results['decoded_sentences_per_second']:.0f} sentences/s\n"
        f"written: {output_dir}/averaged, translations, results.json and training.png"
    )


if __name__ == "__main__":
    sys.exit(run(main, extra="recipes,translation"))
