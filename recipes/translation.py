"""Train a translation model with categorised weight decay of its normalisation gains.

    bash scripts/prepare_iwslt14 MULTI30K_FOLDER data/multi30k
    accelerate launch recipes/translation.py recipes/multi30k_de_en.yaml
    accelerate launch recipes/translation.py recipes/multi30k_de_en.yaml --decay_policy all --seed 2
    torchrun --nproc_per_node 2 recipes/translation.py recipes/iwslt14_de_en.yaml

The YAML file is the experiment; every key of it, and every other field of
Seq2SeqTrainingArguments, can be given on the command line, which wins. ``--help`` lists them. A run
writes its checkpoints, the mean of the last ones (``averaged/``), ``translations/`` of every test
set, ``gain_table.json``, ``results.json`` and ``training.png`` into its ``output_dir`` and never
into one that holds another run. ``gamma-nlp translate OUTPUT_DIR`` then translates text.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gamma_nlp.tasks.run.main import run


def main(argv: Sequence[str]) -> None:
    from gamma_nlp.tasks.run.machine import check_processes

    check_processes()  # before transformers sets up its own
    from gamma_nlp.tasks.run.report import gain_lines
    from gamma_nlp.tasks.translation.arguments import read_arguments
    from gamma_nlp.tasks.translation.train import train_translation

    recipe, args = read_arguments(argv)
    results = train_translation(recipe, args)
    if args.process_index == 0:
        print_summary(results, args.output_dir, gain_lines(results))


def print_summary(results: dict, output_dir: str, gains: Sequence[str]) -> None:
    print(f"\n{'':20} {'BLEU, tokens':>13} {'sacreBLEU':>10} {'chrF2':>6}")
    for name, score in results["scores"].items():
        print(f"{name:20} {score['bleu']:13.2f} {score['sacrebleu']:10.2f} {score['chrf']:6.2f}")
    signature = next(iter(results["scores"].values()))["sacrebleu_signature"]
    print(f"sacreBLEU {signature}", *gains, sep="\n")
    speed = "no step was left to train"
    if results["padding_share"] is not None:
        speed = (
            f"{results['tokens_per_second']:.0f} target tokens/s, padding "
            f"{results['padding_share']:.1%}, {results['train_seconds']:.0f} s of training on "
            f"{results['world_size']} process(es)"
        )
    print(
        f"{speed}; decoding "
        f"{results['decoded_sentences_per_second']:.0f} sentences/s\n"
        f"written: {output_dir}/averaged, translations, results.json and training.png"
    )


if __name__ == "__main__":
    sys.exit(run(main, extra="recipes,translation"))
